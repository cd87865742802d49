"""What an optimizer is made of: blocks that change gradients, and a rule that moves a parameter.

All of them are written for ONE array. `chain` maps them over trees.
"""

import abc
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import jax

from torchwise.fields import Fields


class Empty(NamedTuple):
    """The state of a transform that remembers nothing."""


_COMPUTES = {"numbers_of", "accumulate", "direction", "move", "conclude"}


class Transform(Fields):
    """What blocks and rules have in common: hyperparameters, a state, the numbers of a step.

    Attributes:
        State: the NamedTuple that `init` returns; its fields are torch's keys, in torch's order.
        in_torch: the hyperparameters by which torch's optimizers know this transform; empty if they
            do not have it.
        in_strips: whether every number of a result depends on the numbers at its place and on 0-d
            states alone, so that `strips` may step a large parameter.
    """

    State: ClassVar[type[Any]] = Empty
    in_torch: ClassVar[Sequence[str]] = ()
    in_strips: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "in_strips" not in vars(cls) and vars(cls).keys() & _COMPUTES:
            cls.in_strips = False  # what the base says of itself need not hold any more

    @property
    def counts(self) -> bool:
        """Whether `numbers` depends on the step."""
        return False

    def init(self, param: jax.Array) -> Any:
        """Return the state before the first gradient, a `State`; None for what it does not have."""
        return self.State()

    def numbers(self, step: Any) -> Any:
        """Return the numbers of this step, derived from the hyperparameters in double precision.

        Called once per step and not once per array, with Python numbers or with float64 arrays:
        use operators that both understand.

        Args:
            step: how many gradients the parameter has seen, including this one; None unless
                `counts`.
        """

    def for_gradient(self, sparse: bool) -> "Transform":
        """Return what takes the place of this transform for such a gradient; itself, as a rule.

        For a sparse gradient that is called with the rows that the gradient names: of the gradient,
        of the parameter, and of the states of its shape. By default nothing takes them.

        Raises:
            RuntimeError: if the transform does not take such gradients.
        """
        if sparse:
            name = getattr(self, "name", "") or type(self).__name__
            raise RuntimeError(f"{name} does not support sparse gradients")
        return self

    def numbers_of(self, state: Any, param: jax.Array, n: Any) -> Any:
        """Return the numbers for one parameter: those that depend on its old state are added.

        Called in double precision.
        """
        return n

    def accumulate(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> Any:
        """Return the state after `grad`, with `n` from `numbers`."""
        return state


class Block(Transform):
    """A transform that passes a gradient on to the next one.

    Attributes:
        gathers: whether it has to see the gradients of all parameters first, as for their norm.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> class Sign(torchwise.Block):
        ...     def direction(self, grad, state, param, n):
        ...         return jnp.sign(grad)
        >>> transform, param = torchwise.chain(Sign(), torchwise.sgd(lr=0.5)), jnp.ones(1)
        >>> param, state = transform.step(jnp.array([-3.0]), transform.init(param), param)
        >>> param
        Array([1.5], dtype=float32)
    """

    gathers: ClassVar[bool] = False

    def gather(self, grads: Sequence[jax.Array]) -> Any:
        """Return what `direction` has to know of all gradients; only if the block `gathers`.

        Called once per step, before any parameter moves.

        Args:
            grads: as the blocks before this one pass them on, those of all parameter groups.
        """

    def numbers_with(self, n: Any, gathered: Any) -> Any:
        """Return the numbers of this step, from `numbers` and what `gather` returned."""
        return n, gathered

    @abc.abstractmethod
    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> Any:
        """Return what is passed on, from the NEW state: an array, or a `rounding.Quotient`."""


class Rule(Transform):
    """A transform that moves the parameter; the last of a chain.

    Attributes:
        name: what torch calls the optimizer; empty for a rule that torch has not.
        group_keys: the keys of torch's parameter groups, in torch's order; fields of the rule.
        added_later: the values that torch gives to keys that dicts of older versions lack.
        counts_in_torch: whether torch keeps a step for each parameter.
        integer_step: whether that is a Python integer, and no array.
        starts_with_state: whether torch makes a state before the first gradient.
        fixed: the values of keys that are no arguments, in new rules and in loaded groups.
        state_by_shape: whether it depends on a parameter's shape which states it has.
        divides: whether `move` takes a `rounding.Quotient` for a gradient.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> class Descend(torchwise.Rule):
        ...     lr: float = 0.1
        ...
        ...     def numbers(self, step):
        ...         return self.lr
        ...
        ...     def move(self, base, grad, state, param, n):
        ...         return base - n * grad
        >>> transform, param = torchwise.chain(Descend(0.5)), jnp.ones(1)
        >>> transform.step(jnp.ones(1), transform.init(param), param)[0]
        Array([0.5], dtype=float32)
    """

    name: ClassVar[str] = ""
    group_keys: ClassVar[Sequence[str]] = ()
    added_later: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    counts_in_torch: ClassVar[bool] = False
    integer_step: ClassVar[bool] = False
    starts_with_state: ClassVar[bool] = False
    fixed: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    state_by_shape: ClassVar[bool] = False
    divides: ClassVar[bool] = False

    @classmethod
    def from_group(cls, options: Mapping[str, Any]) -> Self:
        """Return the rule with the hyperparameters of a group, also of what is fixed.

        torch's steps obey a group that says otherwise, until its dict is loaded.
        """
        rule = cls(**{key: options[key] for key in cls.group_keys if key not in cls.fixed})
        for key in cls.fixed:
            object.__setattr__(rule, key, options[key])
        return rule

    @property
    def adds(self) -> bool:
        """Whether `move` only adds to its `base`; then an increment is what it adds to -0.0."""
        return True

    def check(self) -> None:
        """Raise what torch raises for invalid hyperparameters, in torch's words and order."""

    def memory(self, param: jax.Array) -> dict[str, Any]:
        """Return all arrays that a parameter may have, whatever options are off, under their keys.

        What an option that is off has left behind is loaded with the rest, as torch does.
        """
        return dict.fromkeys(self.State._fields, param)

    def check_param(self, param: Any) -> None:
        """Raise what torch raises for parameters that the optimizer does not take."""

    def parts(self) -> tuple[Any, ...]:
        """Return the blocks that a gradient passes first, and the rule that moves at the end."""
        return (self,)

    def move(self, base: jax.Array, grad: Any, state: Any, param: jax.Array, n: Any) -> jax.Array:
        """Return the new parameter, from the new state.

        Args:
            base: what torch's last line adds to: the parameter, or -0.0 where only the increment
                is wanted.
            grad: the gradient, as the blocks have left it.
            state: the state after `accumulate`.
            param: the old parameter.
            n: what `numbers` returned.
        """
        raise NotImplementedError(f"{type(self).__name__}.move()")

    def conclude(
        self, base: jax.Array, grad: Any, state: Any, param: jax.Array, n: Any
    ) -> tuple[jax.Array, Any]:
        """Return what `move` does, and the state; for a state that follows the new parameter.

        The arguments are those of `move`.
        """
        return self.move(base, grad, state, param, n), state
