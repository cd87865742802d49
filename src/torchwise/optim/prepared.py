"""What the steps of a group need to know of its rule, worked out once for many steps."""

import functools
from typing import Any

import jax

from torchwise.apply import counts
from torchwise.optim.constant import Constant, constant
from torchwise.optim.parameter import Parameter
from torchwise.rule import Rule
from torchwise.state_dict.entry import arrays_of

Names = tuple[str, ...]


class Prepared:
    """A rule with numbers for hyperparameters, ready for the engine.

    Attributes:
        rule: the rule.
        counts: whether its numbers depend on how many gradients a parameter has seen.
        structure: of its parts and their numbers.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._parts = rule.parts()
        self.counts = counts(self._parts)
        self._counting = [(part, part.counts) for part in self._parts]
        leaves, treedef = jax.tree.flatten((self._parts, self._numbers(1)))
        self.structure = constant(treedef)
        self._names = None if rule.state_by_shape else _names_of(self.structure, ())
        self._fixed = jax.tree.leaves(self._parts)
        self._last = 1, leaves  # groups that are alike ask for the same numbers in turn

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
        if self.counts and self._last[0] != step:
            self._last = step, [*self._fixed, *jax.tree.leaves(self._numbers(step))]
        return self._last[1]

    def _numbers(self, step: int) -> tuple[Any, ...]:
        found = [part.numbers(step if each else None) for part, each in self._counting]
        return tuple(found)


@functools.cache
def _names_of(structure: Constant[Any], shape: tuple[int, ...]) -> Names:
    """Return which arrays parts of a structure keep; their numbers make no difference."""
    treedef = structure.value
    parts, _ = treedef.unflatten([0.5] * treedef.num_leaves)
    like = jax.ShapeDtypeStruct(shape, "float32")
    return tuple(arrays_of([jax.eval_shape(part.init, like) for part in parts]))
