"""A mutable holder of one array and its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Parameter:
    """An array that an optimizer replaces at every step, as torch changes a tensor in place.

    Args:
        data: the value; a float or complex array, anything that `jax.numpy.asarray` takes.
        name: what errors and state dicts call it.
        requires_grad: whether `backward` computes its gradient.

    Attributes:
        data: the current value, a `jax.Array`.
        grad: the gradient, a `jax.Array` of the shape of `data`, or None: the next step skips it.

    Raises:
        TypeError: if `data` is neither floating point nor complex.
        ValueError: if a gradient of another shape is assigned.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> parameter = optim.Parameter([1.0, 2.0], name="w")
        >>> optimizer = optim.SGD([parameter], lr=0.5)
        >>> parameter.grad = jnp.ones(2)
        >>> optimizer.step()
        >>> parameter
        Parameter('w', Array([0.5, 1.5], dtype=float32))
    """

    __slots__ = ("__weakref__", "_data", "_grad", "name", "requires_grad")

    def __init__(self, data: Any, name: str | None = None, requires_grad: bool = True) -> None:
        self.name = name
        self.requires_grad = requires_grad
        self._grad: jax.Array | None = None
        self._data = _own(data)
        if not jnp.issubdtype(self._data.dtype, jnp.inexact):
            raise TypeError(
                "only arrays of floating point and complex dtype can be optimized, "
                f"but {self._label} is {self._data.dtype}"
            )

    @property
    def data(self) -> jax.Array:
        """The current value."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        value = _own(value)
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"{self._label} is {self.dtype}{list(self.shape)}, but the new data is "
                f"{value.dtype}{list(value.shape)}"
            )
        self._data = value

    @property
    def grad(self) -> jax.Array | None:
        """The gradient, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = _own(value)
            if value.shape != self.shape:
                raise ValueError(
                    f"{self._label} has shape {self.shape}, but its gradient {value.shape}"
                )
            if value.dtype != self.dtype:
                raise TypeError(
                    f"{self._label} has dtype {self.dtype}, but its gradient {value.dtype}"
                )
        self._grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self._data.dtype

    @property
    def _label(self) -> str:
        return "a parameter" if self.name is None else f"parameter {self.name!r}"

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}, "
        return f"Parameter({name}{self._data!r})"


def _own(value: Any) -> jax.Array:
    """An immutable array: numpy memory, which its owner may change, is copied."""
    return value if isinstance(value, jax.Array) else jnp.array(value)
