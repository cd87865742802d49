"""The state dict of an optimizer, with arrays that are several in the tree split and joined."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.rule import Rule
from torchwise.state_dict.arrays import any_array
from torchwise.state_dict.layout import Place
from torchwise.state_dict.names import own_names
from torchwise.state_dict.splits import Split

Saved = Mapping[Any, Mapping[str, Any]]
Group = Mapping[str, Any]


def split_state(
    saved: Saved, groups: Sequence[Group], names: Sequence[str] | None, splits: Sequence[Split]
) -> tuple[dict[Any, Any], list[dict[str, Any]], list[str], set[Any]]:
    """Return a dict of an optimizer with an id for each part, and the ids that are parts.

    Args:
        saved: its state, by id.
        groups: its groups.
        names: torch's names in the order of the ids; those in the groups, if None.
        splits: of the parameters.

    Returns:
        The state, the groups, names for the new ids, and which of these are parts.

    Raises:
        ValueError: if there are no names, if a split changes numbers, or if a state fits none.
    """
    names = own_names(groups) if names is None else names
    ids = [identity for group in groups for identity in group["params"]]
    if names is None and all(isinstance(identity, str) for identity in ids):
        names = ids
    if names is None or len(names) != len(ids):
        split = splits[0]
        raise ValueError(
            f"from_state_dict(): the layout splits {split.names[0]!r} and others: pass names=, "
            f"torch's names in the order of the {len(ids)} ids"
        )
    by_name = {name: split for split in splits for name in split.names}
    name_of = dict(zip(ids, names))
    divided: dict[Any, tuple[Split, list[Any]]] = {}
    new_names: list[str] = []
    new_groups = []
    for group in groups:
        members: list[Any] = []
        start = len(new_names)
        for identity in group["params"]:
            split = by_name.get(name_of[identity])
            if split is None:
                members.append(identity)
                new_names.append(name_of[identity])
                continue
            _refuse_sums("from_state_dict", split)
            own = [part if isinstance(identity, str) else (identity, part) for part in split.parts]
            members += own
            new_names += split.parts
            divided[identity] = split, own
        kept = {"param_names": new_names[start:]} if "param_names" in group else {}
        new_groups.append({**group, **kept, "params": members})
    new: dict[Any, Any] = {}
    for identity, entry in saved.items():
        split, own = divided.get(identity, (None, [identity]))
        new.update(zip(own, [entry] if split is None else _split_entry(entry, split)))
    return new, new_groups, new_names, {one for _, own in divided.values() for one in own}


def join_state(
    written: Mapping[str, Any],
    rules: Sequence[Rule],
    names: Sequence[Sequence[str]],
    places: Sequence[Place],
    splits: Sequence[Split],
) -> dict[str, Any]:
    """Return the dict of an optimizer with one id for each of torch's arrays.

    Args:
        written: with an id for each leaf; ids count through all groups, or are names.
        rules: of the groups.
        names: of the leaves of each group.
        places: of all leaves.
        splits: of the parameters.

    Raises:
        ValueError: if the parts of an array are in several groups, or have seen different numbers
            of gradients, or if a split changes numbers.
    """
    by_part = {part: split for split in splits for part in split.parts}
    shapes = {place.name: place.torch_shape for place in places}
    entries, joined, new_id, groups = written["state"], {}, {}, []
    for group, rule, members in zip(written["param_groups"], rules, names):
        id_of = dict(zip(members, group["params"]))
        ids, torchs = [], []
        for name in members:
            split = by_part.get(name)
            if split is not None and name != split.parts[0]:
                _refuse_scattered(split, id_of)
                continue
            torch_name = split.names[0] if split else name
            old = id_of[name]
            ids.append(torch_name if isinstance(old, str) else len(new_id))
            torchs.append(torch_name)
            new_id[old] = ids[-1]
            if split is None:
                continue
            _refuse_sums("to_state_dict", split)
            _refuse_scattered(split, id_of)
            problem = problem_of(rule)
            if problem:
                raise ValueError(f"to_state_dict(): {split.names[0]!r}: {problem}")
            held = {part: entries.get(id_of[part]) for part in split.parts}
            if any(entry is not None for entry in held.values()):
                joined[old] = _joined_entry(split, held, shapes)
        kept = {"param_names": torchs} if "param_names" in group else {}
        groups.append({**group, **kept, "params": ids})
    state = {new_id[old]: joined.get(old, entry) for old, entry in entries.items() if old in new_id}
    return {"state": state, "param_groups": groups}


def problem_of(rule: Rule) -> str | None:
    """Return why an optimizer's parameter cannot be split, if its step is not one per number."""
    if all(part.in_strips for part in rule.parts()):
        return None
    return (
        f"{rule.name} looks at a whole array at a time, so that a step of an array and of its "
        "parts differ: keep its parameters in torch's form"
    )


def axes_problem(rule: Rule, place: Place) -> str | None:
    """Return why an optimizer's parameter cannot have other axes than torch's, if that is so."""
    matrix = max(len(place.shape), len(place.torch_shape)) > 1
    same = place.shape == place.torch_shape and not rule.state_by_shape
    if place.axes is None or not matrix or same or all(p.in_strips for p in rule.parts()):
        return None
    return (
        f"{rule.name} treats rows and columns in different ways, and torch has the axes of "
        f"{place.path!r} in another order: keep it in torch's"
    )


def _split_entry(entry: Mapping[str, Any], split: Split) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [{} for _ in split.parts]
    for key, value in entry.items():
        array = None if value is None else any_array(value)
        if array is None or array.ndim == 0:
            values: Sequence[Any] = [value] * len(entries)
        else:
            try:
                values = split.split(array)
            except ValueError as error:
                raise ValueError(
                    f"from_state_dict(): {split.names[0]!r}: {key!r} {error}"
                ) from None
        for one, part in zip(entries, values):
            one[key] = part
    return entries


def _joined_entry(
    split: Split,
    held: Mapping[str, Mapping[str, Any] | None],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    (name,) = split.names
    entries = [entry for entry in held.values() if entry is not None]
    if len(entries) < len(held):
        lacking = [part for part, entry in held.items() if entry is None]
        raise ValueError(
            f"to_state_dict(): {name!r} is one array in torch, but {lacking} have seen no gradient "
            "yet, and other parts of it have"
        )
    result: dict[str, Any] = {}
    for key in entries[0]:
        values = [entry[key] for entry in entries]
        if np.ndim(values[0]) == 0:
            if any(np.asarray(value) != np.asarray(values[0]) for value in values):
                raise ValueError(
                    f"to_state_dict(): {name!r} is one array in torch, and its parts {[*held]} "
                    f"have different {key!r}: {[float(value) for value in values]}"
                )
            result[key] = values[0]
        else:
            assert [np.shape(value) for value in values] == [shapes[part] for part in held]
            (result[key],) = split.join(*values)
    return result


def _refuse_scattered(split: Split, group: Mapping[str, Any]) -> None:
    if any(part not in group for part in split.parts):
        raise ValueError(
            f"to_state_dict(): {', '.join(map(repr, split.parts))} are one parameter in torch, "
            f"{split.names[0]!r}, but not in one group here: put them into one"
        )


def _refuse_sums(call: str, split: Split) -> None:
    if not split.moves_numbers:
        names = ", ".join(map(repr, split.names))
        raise ValueError(f"{call}(): {names}: {split.why_not}")
