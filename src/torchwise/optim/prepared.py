"""What the steps of a group need to know of its rule, worked out once for many steps."""

from typing import Any

import jax

from torchwise.apply import counts
from torchwise.rule import Rule
from torchwise.state_dict.entry import arrays_of


class Prepared:
    """A rule with numbers for hyperparameters, ready for the engine.

    Attributes:
        rule: the rule.
        names: the arrays that it keeps for a parameter, in order.
        counts: whether its numbers depend on how many gradients a parameter has seen.
        structure: of its parts and their numbers.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._parts = rule.parts()
        self.counts = counts(self._parts)
        template = [
            jax.eval_shape(part.init, jax.ShapeDtypeStruct((), "float32")) for part in self._parts
        ]
        self.names = tuple(arrays_of(template))
        leaves, self.structure = jax.tree.flatten((self._parts, self._numbers(1)))
        self._constant = None if self.counts else leaves

    def numbers(self, step: int) -> list[float]:
        """Return the numbers of a step, in the order of `structure`."""
        if self._constant is not None:
            return self._constant
        return jax.tree.leaves((self._parts, self._numbers(step)))

    def _numbers(self, step: int) -> tuple[Any, ...]:
        return tuple(part.numbers(step if part.counts else None) for part in self._parts)
