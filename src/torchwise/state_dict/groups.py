"""A rule as a group of torch's state dict, and back, for every optimizer alike."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.numbers import is_array
from torchwise.rule import Rule
from torchwise.rules import RULES
from torchwise.rules.scale_by_learning_rate import ScaleByLearningRate
from torchwise.state_dict.arrays import any_array
from torchwise.transformation import Chain

SUPPORTED = ", ".join(rule.name for rule in RULES)


def rule_type(
    group: Mapping[str, Any], state_keys: Collection[str] = (), optimizer: str | None = None
) -> type[Rule]:
    """Return the optimizer that a saved group belongs to.

    Args:
        group: its keys are compared with those that torch's optimizers write, and wrote in older
            versions. Keys that no optimizer has, as schedulers add them, are left out.
        state_keys: of the state of its parameters; they decide where keys alone do not.
        optimizer: torch's name, for a dict that fits several.

    Raises:
        ValueError: if it is none that is known, or may be more than one.
    """
    found = candidates(group, state_keys)
    if optimizer is not None:
        found = [rule for rule in _fitting(group) if rule.name == optimizer]
    if len(found) == 1:
        return found[0]
    keys = ", ".join(repr(key) for key in group if key not in ("params", "param_names"))
    if found:
        names = ", ".join(rule.name for rule in found)
        raise ValueError(f"the keys {keys} may be those of {names}: pass optimizer=")
    if optimizer is not None:
        raise ValueError(f"{optimizer} does not have the keys {keys}; supported are {SUPPORTED}")
    raise ValueError(f"no optimizer has the keys {keys}; supported are {SUPPORTED}")


def candidates(group: Mapping[str, Any], state_keys: Collection[str]) -> list[type[Rule]]:
    """Return the optimizers that may have written a group; see `rule_type`."""
    fitting = _fitting(group)
    exact = [rule for rule in fitting if group.keys() >= {*rule.group_keys}]
    found = exact if len(exact) == 1 else fitting
    found = [rule for rule in found if _allows(rule, group)]
    said = [rule for rule in found if rule.fixed and rule.fixed.keys() <= group.keys()]
    found = said or found
    if len(found) > 1:
        found = [rule for rule in found if {*state_keys} <= {"step", *rule.State._fields}]
    return found


def _fitting(group: Mapping[str, Any]) -> list[type[Rule]]:
    known = {key for rule in RULES for key in rule.group_keys}
    given = group.keys() & known
    return [rule for rule in RULES if _required(rule) <= given <= {*rule.group_keys}]


def completed(rule: type[Rule], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved group without its parameters, with the keys that older versions lack."""
    options = {key: value for key, value in group.items() if key != "params"}
    added = {key: v for key, v in rule.added_later.items() if key not in options}
    return {**options, **added, **rule.fixed}


def rule_of(rule: type[Rule], options: Mapping[str, Any]) -> Rule:
    """Return the rule with the hyperparameters of a group.

    Raises:
        ValueError: as torch does, for invalid hyperparameters.
        TypeError: for values that are none.
    """
    made = rule.from_group({key: plain(options[key]) for key in rule.group_keys})
    made.check()
    return made


def torch_rule(chain: Chain) -> tuple[Rule, int]:
    """Return torch's optimizer that a chain is, and where its parts begin.

    Blocks in front that torch does not have are left out. Blocks that torch has must be part of
    the optimizer, since torch would not do twice what they do.

    Raises:
        ValueError: if torch has no such optimizer.
    """
    rule: Any = chain.rule
    blocks: list[Any] = list(chain.transforms[:-1])
    if rule is not None and not rule.name:
        *blocks, rule = (*blocks, *rule.parts())
    own: list[Any] = []
    if isinstance(rule, ScaleByLearningRate):
        while blocks and blocks[-1].in_torch:
            own.insert(0, blocks.pop())
        rule = _named(own, rule)
    if rule is None or not rule.name or any(block.in_torch for block in blocks):
        raise ValueError(f"to_state_dict(): {chain!r} is none of torch's optimizers: {SUPPORTED}")
    return rule, len(blocks)


def group_of(rule: Rule, options: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
    """Return the group of a rule, without its parameters.

    Args:
        rule: one whose hyperparameters are known, not traced.
        options: the group that it was made from; what the rule does not contradict stays as it is.
        step: how many gradients there have been; a schedule's next value is written.
    """
    values = {key: _at(getattr(rule, key), step) for key in rule.group_keys}
    if options is None:
        return values
    return dict(options) | {
        key: value for key, value in values.items() if not _same(plain(options[key]), value)
    }


def _same(one: Any, other: Any) -> bool:
    """Whether values are equal, also as a list and a tuple."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return bool(one == other)


def plain(value: Any) -> Any:
    """Return one-element arrays of any library as numbers, also in a tuple; the rest as it is."""
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if is_array(value) or hasattr(value, "__array__"):
        array = any_array(value)
        return array.item() if array.size == 1 else array
    return value


def _at(value: Any, step: int) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_at(one, step) for one in value)
    if not callable(value):
        return plain(value)
    with jax.enable_x64(True):
        return float(jnp.asarray(value(jnp.asarray(step, jnp.int32))))


def _allows(rule: type[Rule], group: Mapping[str, Any]) -> bool:
    """Whether a group says nothing else about the keys that a rule does not take as arguments."""
    return all(group.get(key, value) == value for key, value in rule.fixed.items())


def _required(rule: type[Rule]) -> set[str]:
    return {*rule.group_keys} - {*rule.added_later}


def _named(blocks: list[Any], rule: ScaleByLearningRate) -> Rule | None:
    """Return the optimizer of torch that consists of these blocks and a learning rate."""
    parts = (*blocks, rule)
    values = {name: getattr(part, name) for part in parts for name in part.in_torch}
    said = {name: value for name, value in values.items() if is_array(value) or value != 0}
    for candidate in RULES:
        fields = {field.name for field in dataclasses.fields(candidate)}
        if said.keys() <= fields:
            made = candidate(**{key: value for key, value in values.items() if key in fields})
            if jax.tree.structure(made.parts()) == jax.tree.structure(parts):
                return made
    return None
