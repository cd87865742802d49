"""What a transform is: how the state of ONE array advances, and which way the array moves."""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, final

import jax

from torchwise.transforms.arithmetic import Scaled, scaled


class Empty(NamedTuple):
    """The state of a transform that remembers nothing."""


class Transform(abc.ABC):
    """A building block, written for one array; `chain` maps it over trees.

    Subclasses are frozen dataclasses registered with `jax.tree_util.register_dataclass`:
    hyperparameters are leaves (data), booleans and absent terms (None) are structure.

    Attributes:
        saves_step: whether torch writes the step count of a parameter into its state dict.
        implies: what torch's parameter groups say of this transform, besides its fields.
    """

    saves_step: ClassVar[bool] = False
    implies: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @property
    @abc.abstractmethod
    def counts(self) -> bool:
        """Whether the chain must count each parameter's gradients for this transform."""

    @abc.abstractmethod
    def init(self, param: jax.Array) -> Any:
        """Return the state before the first gradient, a NamedTuple under torch's own key names."""

    @abc.abstractmethod
    def scalars(self, step: Any) -> Any:
        """Return the numbers of this step, derived from the hyperparameters in double precision.

        Called once per step and not per array, with Python numbers or with float64 arrays: use
        operators that both understand.

        Args:
            step: the number of gradients that the parameter has seen, with this one; None unless
                `counts`.

        Returns:
            A number, or a tuple or NamedTuple of numbers: its structure has to be hashable.
        """

    @abc.abstractmethod
    def accumulate(self, grad: jax.Array, state: Any, param: jax.Array, scalars: Any) -> Any:
        """Return the state after `grad`."""

    @abc.abstractmethod
    def direction(self, grad: Any, state: Any, param: jax.Array, scalars: Any) -> Any:
        """Return what is passed on: an array or a `Scaled`, read off the NEW state."""


class Stateless(Transform):
    """A transform with nothing to remember: `counts`, `scalars` and `direction` are its own.

    Examples:
        >>> import dataclasses, jax, jax.numpy as jnp, torchwise
        >>> @jax.tree_util.register_dataclass
        ... @dataclasses.dataclass(frozen=True)
        ... class Sign(torchwise.Stateless):
        ...     counts = False
        ...
        ...     def scalars(self, step):
        ...         return None
        ...
        ...     def direction(self, grad, state, param, scalars):
        ...         return jnp.sign(grad)
        >>> transform = torchwise.chain(Sign(), torchwise.scale_by_learning_rate(0.5))
        >>> transform.update(jnp.array([-3.0]), transform.init(jnp.ones(1)), jnp.ones(1))[0]
        Array([0.5], dtype=float32)
    """

    @final
    def init(self, param: jax.Array) -> Empty:
        """Return the empty state."""
        return Empty()

    @final
    def accumulate(self, grad: jax.Array, state: Empty, param: jax.Array, scalars: Any) -> Empty:
        """Return the empty state."""
        return state


class Scaling(Stateless):
    """A stateless transform that only multiplies, by the one number that `scalars` returns.

    Examples:
        >>> import dataclasses, jax, jax.numpy as jnp, torchwise
        >>> @jax.tree_util.register_dataclass
        ... @dataclasses.dataclass(frozen=True)
        ... class Halving(torchwise.Scaling):
        ...     counts = True
        ...
        ...     def scalars(self, step):
        ...         return -(0.5**step)
        >>> transform = torchwise.chain(Halving())
        >>> transform.update(jnp.ones(1), transform.init(jnp.ones(1)), jnp.ones(1))[0]
        Array([-0.5], dtype=float32)
    """

    @final
    def direction(self, grad: Any, state: Empty, param: jax.Array, scalars: Any) -> Scaled:
        """The product, left to be evaluated at the end of the chain."""
        return scaled(grad, scalars)


def kinds(tree: Any) -> tuple[type, ...]:
    """Return the types of all transforms in a tree, nested ones as well, in order.

    JAX takes the structures of two dataclasses with fields alike for equal; their types are not.
    """
    found: list[type] = []

    def note(node: Any) -> bool:
        if isinstance(node, Transform):
            found.append(type(node))
        return False

    jax.tree.flatten(tree, is_leaf=note)
    return tuple(found)
