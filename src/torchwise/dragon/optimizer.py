"""dragon.vm.torch.optim.SGD as an object that holds parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax

from torchwise.dragon.rule import DragonSGD
from torchwise.groups.selection import Groups
from torchwise.numbers import number, refuse
from torchwise.optim import engine
from torchwise.optim.gradients import emptied, replace_grads
from torchwise.optim.hooks import hooked
from torchwise.optim.optimizer import Optimizer
from torchwise.optim.parameter import Parameter, grads_of
from torchwise.optim.transaction import lock
from torchwise.rule import Rule

_MULTIPLIERS = ("lr_mult", "decay_mult")


class SGD(Optimizer):
    """Stochastic gradient descent with Dragon's signature and Dragon's handling of gradients.

    A group may have `lr_mult` and `decay_mult`, which multiply its `lr` and `weight_decay`; they
    are 1 where they are not given. `backward` overwrites `.grad`, and `accumulate_grad` sums up.

    Args:
        params: see `Optimizer`.
        lr: the learning rate; required, here or in every group.
        momentum: the weight of the old velocity, which contains the learning rates.
        dampening: without effect, as in Dragon; Nesterov refuses it.
        weight_decay: L2 decay, neither scaled nor clipped.
        nesterov: look ahead along the new velocity.
        scale: multiplies the gradient first; `1 / k` for a sum over k micro batches.
        clip_norm: bounds the L2 norm of each parameter's scaled gradient; zero and less do not.
        momentum_correction: bring the velocity to each new learning rate, so that the result is
            torch's SGD. All groups have the same, for as long as the optimizer lives.
        groups: see `Optimizer`.

    Raises:
        TypeError, ValueError: as Dragon does; `docs/dragon.md` lists the differences.

    Source: Dragon's SGD page, of July 2020; the mathematics is `torchwise.dragon.sgd`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import dragon
        >>> optimizer = dragon.SGD([{"params": [jnp.ones(2)], "lr_mult": 2}], lr=0.05, scale=1 / 3)
        >>> for _ in range(3):
        ...     loss = optimizer.backward(lambda params: jnp.sum(params[0][0]))
        ...     optimizer.accumulate_grad()
        >>> optimizer.step()
        >>> optimizer.params
        [[Array([0.9, 0.9], dtype=float32)]]
    """

    rule: ClassVar[type[Rule]] = DragonSGD

    def __init__(
        self,
        params: Any,
        lr: Any = None,
        momentum: Any = 0,
        dampening: Any = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        scale: Any = 1,
        clip_norm: Any = 0,
        *,
        momentum_correction: bool = False,
        groups: Groups | None = None,
    ) -> None:
        self._sums: dict[Parameter, jax.Array] = {}
        super().__init__(
            params,
            groups=groups,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            scale=scale,
            clip_norm=clip_norm,
            momentum_correction=momentum_correction,
        )

    # Gradients and steps.

    def accumulate_grad(self) -> None:
        """Add every `.grad` to a sum, which the next `step` uses in the place of `.grad`.

        It is a sum and no mean: `scale=1 / k` makes it one. `zero_grad` drops it.
        """
        with lock:
            self._sums |= engine.add(self._sums, self._held())

    def zero_grad(self, reset: bool = False) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Drop the sums, and fill the gradients with zeros or forget them.

        Args:
            reset: forget them, so that `step` skips their parameters. Zeros do not stop a
                parameter: momentum and decay still move it.
        """
        with lock:
            held = self._held()
            replace_grads(emptied(self._sums | held, set_to_none=reset), self._sums.clear)

    def backward(
        self,
        loss_fn: Callable[..., Any],
        *args: Any,
        has_aux: bool = False,
        materialize_grads: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Set `.grad` to the gradients of `loss_fn(optimizer.params, *args, **kwargs)`, jitted.

        Unlike torch's, they do not add up: that is what `accumulate_grad` is for.

        Args:
            loss_fn: as in `Optimizer.backward`, and so are all others.
            *args: of the function.
            has_aux: whether `loss_fn` returns `(loss, aux)`.
            materialize_grads: whether parameters that the loss does not use have zeros.
            **kwargs: of the function.

        Returns:
            What `loss_fn` returns.
        """
        out, grads = self._gradients(loss_fn, args, kwargs, has_aux, materialize_grads)
        replace_grads(grads)
        return out

    @hooked
    def step(self) -> None:
        """Update every parameter that has a sum or else a gradient, and drop the sums."""
        with lock:
            self._update(self._held() | self._sums, done=self._sums.clear)

    def _held(self) -> dict[Parameter, jax.Array]:
        """Return the gradients that there are, after which the sums are right, too."""
        return grads_of(self._parameters())  # settles

    # The rule of a group.

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        lr_mult, decay_mult = (number(group.get(key)) for key in _MULTIPLIERS)
        lr, weight_decay = number(group["lr"]), number(group["weight_decay"])
        return super()._rule(
            {
                **group,
                "lr": lr if lr_mult is None else lr * lr_mult,
                "weight_decay": weight_decay if decay_mult is None else weight_decay * decay_mult,
                "momentum_correction": self.defaults["momentum_correction"],
            }
        )

    def _rule_keys(self) -> Sequence[str]:
        return (*self.rule.group_keys, *_MULTIPLIERS)

    def _check(self, group: Mapping[str, Any]) -> None:
        for parameter in group.get("params", ()):
            refuse(not parameter.requires_grad, f"{parameter.label} does not require a gradient")
        lr = group["lr"]
        if lr is None:
            message = "parameter group didn't specify a value of required optimization parameter lr"
            refuse(group is not self.defaults, message)
        super()._check({**group, "lr": 0.0 if lr is None else lr})
        for key in _MULTIPLIERS:
            refuse(group.get(key, 1) < 0, f"Invalid {key} value: {group.get(key)}")
        refuse(
            group["momentum_correction"] != self.defaults["momentum_correction"],
            "momentum_correction is that of the constructor and cannot differ by group",
        )
