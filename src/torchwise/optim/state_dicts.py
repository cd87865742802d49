"""State dicts of stateful optimizers: everything is checked first, then handed over at once."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from torchwise.optim.parameter import Parameter
from torchwise.optim.state import ParameterState, State
from torchwise.placement import placed_like
from torchwise.rule import Rule
from torchwise.state_dict.entry import Target, load_state
from torchwise.state_dict.form import malformed, malformed_group, malformed_names
from torchwise.state_dict.layout import Place
from torchwise.state_dict.matching import match_names
from torchwise.state_dict.names import has_named_ids, own_names

Group = dict[str, Any]


def to_dict(
    param_groups: Sequence[Group], state: State, named: Mapping[Parameter, str]
) -> dict[str, Any]:
    """Return torch's layout: ids count the parameters through all groups, or are names.

    Args:
        param_groups: of the optimizer.
        state: likewise.
        named: what `names_for_ids` returned for the dict that was loaded.
    """
    ids: dict[Parameter, int | str] = {}
    groups = []
    for group in param_groups:
        names = group.get("param_names", []) if named else []
        for parameter, name in itertools.zip_longest(group["params"], names):
            ids[parameter] = named.get(parameter) or name or len(ids)
        # Where ids are names, torch's set_optimizer_state_dict() fails on other names.
        left_out = ("params", "param_names") if named else ("params",)
        packed = {key: _copied(value) for key, value in group.items() if key not in left_out}
        groups.append({**packed, "params": [ids[parameter] for parameter in group["params"]]})
    written = {ids[parameter]: dict(values) for parameter, values in state.items() if values}
    return {"state": written, "param_groups": groups}


def names_for_ids(
    state_dict: Mapping[str, Any], param_groups: Sequence[Group]
) -> dict[Parameter, str]:
    """Return the ids of a dict in which they are names, for the groups that were made of it."""
    saved = state_dict["param_groups"]
    if not has_named_ids(saved):
        return {}
    return {
        parameter: name
        for theirs, group in zip(saved, param_groups)
        for parameter, name in zip(group["params"], group.get("param_names", theirs["params"]))
    }


class Owner(NamedTuple):
    """A parameter whose state a dict has under an id, and the group that it will be in."""

    parameter: Parameter
    label: str
    group: Group


def from_dict(
    state_dict: Mapping[str, Any],
    param_groups: Sequence[Group],
    defaults: Mapping[str, Any],
    rule: type[Rule],
    check: Callable[[Group], None],
    rule_of: Callable[[Group], Rule],
) -> tuple[list[Group], State]:
    """Return the groups and the state that a state dict means for an optimizer.

    Args:
        state_dict: torch's.
        param_groups: of the optimizer.
        defaults: the hyperparameters that every group must have.
        rule: which keys older versions lack.
        check: raises for invalid hyperparameters.
        rule_of: returns the rule of a group.

    Raises:
        ValueError: listing all problems.
    """

    def complete(group: Group) -> Group:
        later = {key: value for key, value in rule.added_later.items() if key not in group}
        return {**group, **later, **rule.fixed}

    groups, owners, problems = match(state_dict, param_groups, defaults, complete, check)
    targets = {
        identity: Target(
            label,
            Place(label, label, None, parameter.shape, parameter.dtype),
            rule_of(group),
        )
        for identity, (parameter, label, group) in owners.items()
    }
    loaded, wrong = load_state(state_dict["state"], targets, as_torch=True)
    refuse_problems(problems + wrong)
    state = State()
    for identity, values in loaded.items():
        if values:
            data = owners[identity].parameter.own_array
            state[owners[identity].parameter] = ParameterState(
                {
                    key: placed_like(data, value) if isinstance(value, jax.Array) else value
                    for key, value in values.items()
                }
            )
    return groups, state


def refuse_malformed(state_dict: Any) -> None:
    """Raise a ValueError for what is no state dict of an optimizer at all."""
    _refuse(malformed(state_dict))


def _refuse(problem: str | None) -> None:
    if problem:
        raise ValueError(
            "load_state_dict() takes what state_dict() of an optimizer returned, here or in torch, "
            f"but {problem}"
        )


def match(
    state_dict: Mapping[str, Any],
    param_groups: Sequence[Group],
    defaults: Mapping[str, Any],
    complete: Callable[[Group], Group],
    check: Callable[[Group], None],
) -> tuple[list[Group], dict[Any, Owner], list[str]]:
    """Return the groups that a state dict means, whose state each id is, and what is wrong.

    Args:
        state_dict: torch's.
        param_groups: of the optimizer.
        defaults: the hyperparameters that every group must have.
        complete: adds what older versions lack.
        check: raises for invalid hyperparameters.

    Raises:
        ValueError: as torch does, if the numbers of groups or parameters differ.
    """
    saved_groups = state_dict["param_groups"]
    if len(saved_groups) != len(param_groups):
        raise ValueError("loaded state dict has a different number of parameter groups")
    for index, (saved, live) in enumerate(zip(saved_groups, param_groups)):
        _refuse(malformed_group(index, saved))
        if len(saved["params"]) != len(live["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
        _refuse(malformed_names(index, saved))
    problems: list[str] = []
    owners: dict[Any, Owner] = {}
    groups = []
    for index, (saved, live) in enumerate(zip(saved_groups, param_groups)):
        matched, mismatches = _match(index, saved, live)
        group = complete(_merged(saved, live))
        wrong = _group_problems(index, group, defaults, check)
        problems += mismatches + wrong
        groups.append(group)
        for identity, (parameter, label) in zip(saved["params"], matched):
            owners[identity] = Owner(parameter, label, live if wrong else group)
    return groups, owners, problems


def refuse_problems(problems: Sequence[str]) -> None:
    """Raise a ValueError that lists them, if there are any."""
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"load_state_dict() changed nothing, because of:\n  {listed}")


def _match(index: int, saved: Group, live: Group) -> tuple[list[tuple[Parameter, str]], list[str]]:
    """Return the parameter and the label of each saved id: by name where both sides have names."""
    parameters = live["params"]
    theirs, ours = own_names([saved]), live.get("param_names")
    if theirs is None or ours is None:
        labels = [f"parameter {identity}" for identity in saved["params"]]
        return list(zip(parameters, labels)), []
    order, problems = match_names(theirs, ours)
    if problems:
        listed = [f"group {index}: {problem}" for problem in problems]
        return list(zip(parameters, map(repr, ours))), listed
    return [(parameters[position], repr(name)) for position, name in zip(order, theirs)], []


def _merged(saved: Group, live: Group) -> Group:
    """Return the saved group over the live parameters, whose names stay."""
    kept = {key: _copied(value) for key, value in saved.items() if key != "params"}
    group = {**kept, "params": live["params"]}
    if "param_names" in live:
        group["param_names"] = live["param_names"]
    elif "param_names" in group:
        group["param_names"] = list(group["param_names"])
    return group


def _group_problems(
    index: int, group: Group, defaults: Mapping[str, Any], check: Callable[[Group], None]
) -> list[str]:
    missing = [key for key in defaults if key not in group]
    if missing:
        return [f"group {index}: missing {key!r}" for key in missing]
    try:
        check({key: value for key, value in group.items() if key != "params"})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        notes = getattr(error, "__notes__", ())  # which name the hyperparameter
        return [f"group {index}: {'; '.join([str(error), *notes])}"]
    return []


def _copied(value: Any) -> Any:
    """Return a copy of what could be changed in place, so that no two owners share it."""
    if isinstance(value, list | tuple | dict):
        return type(value)(value)
    return value.copy() if isinstance(value, np.ndarray) else value
