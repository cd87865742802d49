"""A mutable holder of one array and its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.optim.transaction import settle
from torchwise.sparse import is_sparse, layout_problem
from torchwise.trees import is_optimizable


class Parameter:
    """An array that an optimizer replaces at every step, as torch changes a tensor in place.

    Args:
        data: the value; a float or complex array, anything that `jax.numpy.asarray` takes.
        name: what errors and state dicts call it.
        requires_grad: whether `backward` computes its gradient.

    Attributes:
        data: the current value, a `jax.Array`.
        grad: the gradient, of the shape of `data`: a `jax.Array`, or a sparse one, a
            `jax.experimental.sparse.BCOO`; or None: the next step skips the parameter.

    Raises:
        TypeError: if `data` is neither floating point nor complex.
        ValueError: if a gradient of another shape is assigned, or a sparse one that has batches.

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

    __slots__ = ("__weakref__", "_data", "_grad", "_owned", "name", "requires_grad")

    def __init__(self, data: Any, name: str | None = None, requires_grad: bool = True) -> None:
        self.name = name
        self.requires_grad = requires_grad
        self._grad: Any = None
        self._owned = False
        self._data = immutable(data)
        if not is_optimizable(self._data.dtype):
            raise TypeError(
                "only arrays of floating point and complex dtype can be optimized, "
                f"but {self.label} is {self._data.dtype}"
            )

    @property
    def data(self) -> jax.Array:
        """The current value."""
        settle()
        self._owned = False
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        value = immutable(value)
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"{self.label} is {self.dtype}{list(self.shape)}, but the new data is "
                f"{value.dtype}{list(value.shape)}"
            )
        settle()
        self._data, self._owned = value, False

    @property
    def grad(self) -> Any:
        """The gradient, an array or a BCOO, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value if is_sparse(value) else immutable(value)
            if is_sparse(value) and (problem := layout_problem(value)):
                raise ValueError(f"{self.label}: {problem}")
            if value.shape != self.shape:
                raise ValueError(
                    f"{self.label} has shape {self.shape}, but its gradient {value.shape}"
                )
            if value.dtype != self.dtype:
                raise TypeError(
                    f"{self.label} has dtype {self.dtype}, but its gradient {value.dtype}"
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
    def label(self) -> str:
        """What errors call it."""
        return "a parameter" if self.name is None else f"parameter {self.name!r}"

    # For the engine, which knows whether anybody else has the array.

    @property
    def own_array(self) -> jax.Array:
        """The current value, for reading within the library."""
        return self._data

    @property
    def owned(self) -> bool:
        """Whether a step made the array and nobody has been given it since: it may be donated."""
        return self._owned

    def replace(self, made: jax.Array, owned: bool = True) -> None:
        """Take over an array that a step has made; `owned` if nobody else has it."""
        self._data, self._owned = made, owned

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}, "
        return f"Parameter({name}{self.data!r})"


def immutable(value: Any) -> jax.Array:
    """Return an array of JAX: numpy memory, which its owner may change, is copied."""
    return value if isinstance(value, jax.Array) else jnp.array(value)
