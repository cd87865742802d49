"""The norms of a file's tensors, each computed once."""

import numpy as np

from torchwise.array_norm import norm


class TensorNorms:
    """Remembers the norms of arrays, as long as these live."""

    def __init__(self) -> None:
        self._norms: dict[int, float | None] = {}

    def of(self, array: np.ndarray) -> float | None:
        """Return the L2 norm; None where it has none, see `norm`."""
        if id(array) not in self._norms:
            self._norms[id(array)] = norm(array)
        return self._norms[id(array)]
