"""What the steps of a group need to know of its rule, worked out once for many steps."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from torchwise.apply import counts
from torchwise.fields import fields_of
from torchwise.optim.constant import Constant, constant
from torchwise.optim.hyperparameters import hyperparameters, is_immutable
from torchwise.optim.parameter import Parameter
from torchwise.rule import Rule
from torchwise.state_dict.entry import arrays_of

_KEPT = 1024  # rules of groups

Names = tuple[str, ...]
Rates = tuple[tuple[int, str, int], ...]  # which part, which of its fields, which leaf of them all


class Prepared:
    """A rule with numbers for hyperparameters, ready for the engine.

    Args:
        rule: see the attribute.
        alike: of a rule that differs in `lr` alone, which tells where the rate goes.

    Attributes:
        rule: the rule.
        counts: whether its numbers depend on how many gradients a parameter has seen.
        structure: of its parts and their numbers.
    """

    def __init__(self, rule: Rule, alike: "Prepared | None" = None) -> None:
        self.rule = rule
        self._parts = rule.parts()
        self.counts = counts(self._parts)
        self._fixed = jax.tree.leaves(self._parts)
        leaves, treedef = jax.tree.flatten((self._parts, self._numbers(1)))
        self.structure = constant(treedef)
        self._names = None if rule.state_by_shape else _names_of(self.structure, ())
        # Groups that are alike ask for the same numbers in turn.
        self._last: tuple[int, list[float]] | None = 1, leaves
        self._rates = () if alike is None else _rates(self, alike)

    @property
    def rate(self) -> Any:
        """The learning rate, if the rule has one under torch's name."""
        return getattr(self.rule, "lr", None)

    def with_rate(self, rate: float) -> "Prepared | None":
        """Return the same at another rate, or None where it is not known where the rate goes."""
        if not self._rates:
            return None
        made = object.__new__(Prepared)
        vars(made).update(vars(self))
        made.rule, made._last = self.rule.replaced(lr=rate), None
        made._parts, made._fixed = list(self._parts), list(self._fixed)
        for index, field, leaf in self._rates:
            made._parts[index] = self._parts[index].replaced(**{field: rate})
            made._fixed[leaf] = rate
        return made

    def by_names(self, parameters: list[Parameter]) -> list[tuple[Names, list[Parameter]]]:
        """Return the parameters with the arrays that the rule keeps for each, in order."""
        if self._names is not None:
            return [(self._names, parameters)]
        groups: dict[Names, list[Parameter]] = {}
        for parameter in parameters:
            groups.setdefault(_names_of(self.structure, parameter.shape), []).append(parameter)
        return list(groups.items())

    def numbers(self, step: int) -> list[float]:
        """Return the numbers of a step, in the order of `structure`."""
        if self._last is None or (self.counts and self._last[0] != step):
            self._last = step, self._fixed + jax.tree.leaves(self._numbers(step))
        return self._last[1]

    def _numbers(self, step: int) -> tuple[Any, ...]:
        return tuple([part.numbers(step if part.counts else None) for part in self._parts])


class Preparations:
    """What was prepared for the steps of an optimizer.

    Most steps have the hyperparameters of the one before, or of one not long ago. Many of the
    others have another rate.

    Args:
        rule_of: returns the rule of a group.
        keys: of a group, on which its rule depends.
    """

    def __init__(self, rule_of: Callable[[Mapping[str, Any]], Rule], keys: Sequence[str]) -> None:
        self._rule_of, self._keys = rule_of, keys
        self._of_values = functools.lru_cache(maxsize=_KEPT)(self._anew)
        self._alike: dict[Any, Prepared] = {}  # by all hyperparameters but the rate
        self._last: dict[int, tuple[tuple[Any, ...], Prepared]] = {}  # by group

    def of(self, group: Mapping[str, Any], groups: int) -> Prepared:
        """Return what is prepared for a group, one of so many."""
        given = tuple(map(group.get, self._keys))
        last = self._last.get(id(group))
        if last is not None and all(map(operator.is_, given, last[0])):
            return last[1]
        values = tuple(hyperparameters(group, self._keys).values())
        prepared = self._of_values(values, _types(values))
        if len(self._last) > 2 * groups:
            self._last.clear()
        if all(map(is_immutable, given)):  # else it may be the same object, and another value
            self._last[id(group)] = given, prepared
        return prepared

    def _anew(self, values: tuple[Any, ...], types: Any) -> Prepared:
        rate, others = values[0], (values[1:], types)
        plain = self._keys[0] == "lr" and type(rate) is float and rate != 0
        alike = self._alike.get(others) if plain else None
        made = None if alike is None else alike.with_rate(rate)
        if made is None:
            made = Prepared(self._rule_of(dict(zip(self._keys, values))), alike)
            if len(self._alike) == _KEPT:
                self._alike.clear()
            if plain and made.rate == rate:  # a subclass may multiply it
                self._alike[others] = made
        return made


def _types(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the types of hyperparameters: a number of numpy equals Python's, and rounds."""
    types = tuple(map(type, values))
    nested = (_types(value) for value in values if type(value) is tuple)
    return (*types, *nested) if tuple in types else types


def _rates(one: Prepared, other: Prepared) -> Rates:
    """Return where the rate is in the parts of rules that differ in it alone; nothing if unclear.

    How parts of a user's own depend on it, nobody knows: theirs are made anew each time.
    """
    rates = one.rate, other.rate
    fields = [
        (index, field.name)
        for index, pair in enumerate(zip(one._parts, other._parts))
        for field in fields_of(type(pair[0]))
        if tuple(getattr(part, field.name) for part in pair) == rates
    ]
    leaves = [i for i, pair in enumerate(zip(one._fixed, other._fixed)) if pair == rates]
    changed = [i for i, pair in enumerate(zip(one._fixed, other._fixed)) if pair[0] != pair[1]]
    known = all(type(part).__module__.startswith("torchwise.") for part in (one.rule, *one._parts))
    same = one.structure == other.structure and len(fields) == len(leaves) and leaves == changed
    if not (known and same and rates[0] != rates[1]):
        return ()
    return tuple((*field, leaf) for field, leaf in zip(fields, leaves))


@functools.cache
def _names_of(structure: Constant[Any], shape: tuple[int, ...]) -> Names:
    """Return which arrays parts of a structure keep; their numbers make no difference."""
    treedef = structure.value
    parts, _ = treedef.unflatten([0.5] * treedef.num_leaves)
    like = jax.ShapeDtypeStruct(shape, "float32")
    return tuple(arrays_of([jax.eval_shape(part.init, like) for part in parts]))
