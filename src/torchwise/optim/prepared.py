"""What the steps of a group need to know of its rule, worked out once for many steps."""

from typing import Any

import jax

from torchwise.apply import counts
from torchwise.optim.parameter import Parameter
from torchwise.rule import Rule
from torchwise.state_dict.entry import arrays_of


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
        self._names: dict[tuple[int, ...], tuple[str, ...]] = {}
        leaves, self.structure = jax.tree.flatten((self._parts, self._numbers(1)))
        self._constant = None if self.counts else leaves

    def by_names(
        self, parameters: list[Parameter]
    ) -> list[tuple[tuple[str, ...], list[Parameter]]]:
        """Return the parameters with the arrays that the rule keeps for each, in order."""
        if not self.rule.state_by_shape:
            return [(self._names_of(()), parameters)]
        groups: dict[tuple[str, ...], list[Parameter]] = {}
        for parameter in parameters:
            groups.setdefault(self._names_of(parameter.shape), []).append(parameter)
        return list(groups.items())

    def _names_of(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        if shape not in self._names:
            like = jax.ShapeDtypeStruct(shape, "float32")
            self._names[shape] = tuple(
                arrays_of([jax.eval_shape(part.init, like) for part in self._parts])
            )
        return self._names[shape]

    def numbers(self, step: int) -> list[float]:
        """Return the numbers of a step, in the order of `structure`."""
        if self._constant is not None:
            return self._constant
        return jax.tree.leaves((self._parts, self._numbers(step)))

    def _numbers(self, step: int) -> tuple[Any, ...]:
        return tuple(part.numbers(step if part.counts else None) for part in self._parts)
