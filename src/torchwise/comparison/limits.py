"""How far apart two numbers may be."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Limits:
    """An element is within the limits if it is within one of them; by default it has to be equal.

    Only floats and complex numbers have limits. Integers, booleans and texts do not round.

    Attributes:
        ulps: how many numbers of the type may lie between, and one more.
        rtol: the largest distance, relative to the larger of the two elements.
        atol: the largest distance.
        ignore_types: whether tensors of two types of floats, or of integers, are compared by their
            values alone.
    """

    ulps: int = 0
    rtol: float = 0.0
    atol: float = 0.0
    ignore_types: bool = False

    def __post_init__(self) -> None:
        for name in ("ulps", "rtol", "atol"):
            if not getattr(self, name) >= 0:  # NaN is no limit either
                raise ValueError(f"--{name}: {getattr(self, name)} is no limit: pass 0 or more")

    def allow(
        self, ulps: np.ndarray | None, relative: np.ndarray, absolute: np.ndarray
    ) -> np.ndarray:
        """Whether each float is within the limits; those that are infinitely far never are."""
        near = (relative <= self.rtol) | (absolute <= self.atol)
        if ulps is not None:
            near |= ulps <= self.ulps
        return near & np.isfinite(relative)
