"""What the steps of a group need to know of its chain, worked out once for many steps."""

from collections.abc import Sequence
from typing import Any

import jax

from torchwise.optim.engine import Segment
from torchwise.transforms import entries
from torchwise.transforms.chain import Chain, scalars_at


class Recipe:
    """A chain with numbers for hyperparameters, ready for the engine.

    Attributes:
        chain: the chain.
        names: the arrays that it keeps for a parameter, in order.
        keys: the same as a set.
        counts: whether it depends on how many gradients a parameter has seen.
        saves_step: whether torch writes that number into state dicts.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.names = entries.keys(chain.transforms)
        self.keys = frozenset(self.names)
        self.counts = any(transform.counts for transform in chain.transforms)
        self.saves_step = entries.saves_step(chain.transforms)
        self._blank = _blank(chain.transforms)
        self._constant = None if self.counts else self._scalars_at(None)
        self._segments: dict[int, Segment] = {}  # the same object compares fast in every call

    def segment(self, steps: Sequence[int]) -> tuple[Segment, list[float]]:
        """Return the plan of a step, and its numbers.

        Args:
            steps: for each parameter, how many gradients it has seen, the coming one included.
        """
        if self._constant is not None:
            scalars, numbers = self._constant
            size = len(steps)
            if size not in self._segments:
                self._segments[size] = Segment(self._blank, (scalars,), (0,) * size)
            return self._segments[size], numbers
        distinct = list(dict.fromkeys(steps))
        rows = tuple(map(distinct.index, steps)) if len(distinct) > 1 else (0,) * len(steps)
        pairs = [self._scalars_at(step) for step in distinct]
        scalars = tuple(blank for blank, _ in pairs)
        return Segment(self._blank, scalars, rows), [one for _, row in pairs for one in row]

    def _scalars_at(self, step: int | None) -> tuple[Any, list[float]]:
        """Return a step's scalars without their values, and the values."""
        scalars = scalars_at(self.chain.transforms, step)
        return _blank(scalars), jax.tree.leaves(scalars)


def _blank(tree: Any) -> Any:
    return jax.tree.map(lambda _: 0.0, tree)
