"""Gradients as torch keeps them: `backward` adds to `.grad`, `step` reads it."""

from collections.abc import Callable
from typing import Any, final

import jax.numpy as jnp

from torchwise.optim import engine
from torchwise.optim.hooks import hooked
from torchwise.optim.optimizer import Optimizer


class TorchOptimizer(Optimizer):
    """The base of torch's own optimizers."""

    @final
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` fill them with zeros."""
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else jnp.zeros_like(parameter.grad)

    @final
    def backward(self, loss_fn: Callable[..., Any], *args: Any, has_aux: bool = False) -> Any:
        """Add the gradients of `loss_fn(optimizer.params, *args)` to `.grad`, jitted.

        Args:
            loss_fn: a function, the same object at every call, or it is compiled again.
            *args: pytrees of arrays.
            has_aux: whether `loss_fn` returns `(loss, aux)`.

        Returns:
            What `loss_fn` returns.
        """
        out, grads = self._gradients(loss_fn, args, has_aux)
        held = {one: one.grad for one in grads if one.grad is not None}
        grads |= engine.add(held, {one: grads[one] for one in held})
        for parameter, grad in grads.items():
            parameter.grad = grad
        return out

    @final
    @hooked
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in one compiled program.

        Args:
            closure: computes gradients and the loss; called before the update.

        Returns:
            What the closure returned, or None.
        """
        loss = None if closure is None else closure()
        held = ((one, one.grad) for one in self._parameters())
        self._update({one: grad for one, grad in held if grad is not None})
        return loss
