"""A mutable holder of one array and its gradient."""

from collections.abc import Iterable, Sequence
from contextvars import Context, ContextVar, copy_context
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from torchwise.optim.transaction import lock, refuse_traced, settle
from torchwise.sparse import is_sparse, layout_problem
from torchwise.structure import named
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

    __slots__ = ("__weakref__", "_data", "_foreign", "_grad", "_owned", "name", "requires_grad")

    def __init__(self, data: Any, name: str | None = None, requires_grad: bool = True) -> None:
        self.name = name
        self.requires_grad = requires_grad
        self._grad: Any = None
        self._owned, self._foreign = False, True
        self._data = immutable(data)
        if not is_optimizable(self._data.dtype):
            raise TypeError(
                "only arrays of floating point and complex dtype can be optimized, "
                f"but {self.label} is {self._data.dtype}"
            )

    @property
    def data(self) -> jax.Array:
        """The current value."""
        with lock:
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
        with lock:
            settle()
            self.adopt(value)

    @property
    def grad(self) -> Any:
        """The gradient, an array or a BCOO, or None."""
        _refuse_withheld()
        settle()
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        _refuse_withheld()
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
        settle()
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

    @property
    def foreign(self) -> bool:
        """Whether the array came from outside since the last step: of another kind, perhaps."""
        return self._foreign

    def replace(self, made: jax.Array, owned: bool = True) -> None:
        """Take over an array that a step has made; `owned` if nobody else has it."""
        self._data, self._owned, self._foreign = made, owned, False

    @property
    def own_grad(self) -> Any:
        """The gradient, also where gradients are withheld."""
        return self._grad

    def take_grad(self, made: Any) -> None:
        """Take over a gradient that is known to fit, or None."""
        self._grad = made

    def adopt(self, given: jax.Array) -> None:
        """Take over an array that came from outside."""
        self._data, self._owned, self._foreign = given, False, True

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}, "
        return f"Parameter({name}{self.data!r})"

    def __getstate__(self) -> dict[str, Any]:  # a copy shares the array
        names = ("_grad", "name", "requires_grad")
        return {"_data": self.data, **{name: getattr(self, name) for name in names}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._owned, self._foreign = False, True
        for name, value in state.items():
            setattr(self, name, value)


# Of many parameters at once: a step of many small ones is made of such loops.
_data, _grad, _owned = map(attrgetter, ("_data", "_grad", "_owned"))


def arrays_of(parameters: Iterable[Parameter]) -> list[jax.Array]:
    """Return the current values."""
    return list(map(_data, parameters))


def grads_of(parameters: Sequence[Parameter]) -> dict[Parameter, Any]:
    """Return the gradients that there are.

    Raises:
        RuntimeError: where gradients are withheld.
    """
    _refuse_withheld()
    settle()
    grads = zip(parameters, map(_grad, parameters))
    return {parameter: grad for parameter, grad in grads if grad is not None}


def all_owned(holders: Iterable[Any]) -> bool:
    """Whether everything in these parameters, or states, may be donated."""
    return all(map(_owned, holders))


_withheld: ContextVar[bool] = ContextVar("_withheld", default=False)


def without_grads() -> Context:
    """Return a context in which any look at `.grad` is refused: it would see nothing."""
    context = copy_context()
    context.run(_withheld.set, True)
    return context


def _refuse_withheld() -> None:
    if _withheld.get():
        raise RuntimeError(
            "a hook uses .grad, which train_step() neither reads nor sets: pass "
            "train_step(..., max_grad_norm=...) to clip, or call backward() and step()"
        )


def immutable(value: Any) -> jax.Array:
    """Return an array of JAX of a type of its own: numpy memory, which may change, is copied.

    Raises:
        RuntimeError: for a value of a trace.
        TypeError: for a tensor of torch, and for what is no array.
    """
    if isinstance(value, jax.Array):
        array = value
    else:
        refuse_tensor(value, "")
        try:
            array = jnp.array(value)
        except (TypeError, ValueError):
            text = f"an array of numbers is wanted, but got {named(value)}"
            raise TypeError(f"{text}: pass one of JAX or NumPy") from None
    if isinstance(array, Tracer):
        refuse_traced(array)
    return lax.convert_element_type(array, array.dtype) if array.weak_type else array


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch, which is not imported to find that out."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def refuse_tensor(value: Any, place: str) -> None:
    """Raise a TypeError for a tensor of torch.

    Args:
        value: anything.
        place: where it is, for the error.
    """
    if is_tensor(value):
        raise TypeError(
            f"a torch tensor{place}: pass an array of JAX, as jnp.asarray(tensor.detach().numpy())"
        )
