"""Gradients of loss functions, and how they are kept until a step."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from torchwise.optim import engine
from torchwise.optim.evaluation import Evaluation, Evaluations
from torchwise.optim.gradients import emptied, replace_grads
from torchwise.optim.grouped import Grouped
from torchwise.optim.parameter import Parameter, grads_of
from torchwise.optim.transaction import lock, settle


class Differentiating(Grouped):
    """What computes the gradients of its parameters."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` fill them with zeros.

        A sparse gradient of zeros has no entries, as in torch.
        """
        with lock:
            settle()
            held = {one: one.own_grad for one in self._parameters() if one.own_grad is not None}
            replace_grads(emptied(held, set_to_none))

    def backward(
        self,
        loss_fn: Callable[..., Any],
        *args: Any,
        has_aux: bool = False,
        materialize_grads: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Add the gradients of `loss_fn(optimizer.params, *args, **kwargs)` to `.grad`, jitted.

        As in torch, a parameter on which the loss does not depend has no gradient. Gradients of
        complex parameters are torch's, the conjugates of JAX's: along them the loss rises.

        Args:
            loss_fn: a function, the same object at every call, or it is compiled again.
            *args: pytrees of arrays and numbers. What is neither, as a flag or a string, is
                compiled into the program.
            has_aux: whether `loss_fn` returns `(loss, aux)`.
            materialize_grads: whether parameters that the loss does not use have zeros for a
                gradient, as in JAX; then decay and momentum move them.
            **kwargs: pytrees, as `args`.

        Returns:
            What `loss_fn` returns.

        Raises:
            RuntimeError: as torch does, if the loss depends on no parameter.
            TypeError: if `loss_fn` is no function, or what it returns no scalar.
        """
        out, grads = self._gradients(loss_fn, args, kwargs, has_aux, materialize_grads)
        with lock:
            replace_grads(engine.add(grads_of(list(grads)), grads))
        return out

    # Inside.

    @functools.cached_property
    def _evaluations(self) -> Evaluations:
        """The loss functions that there have been."""
        return Evaluations(f"{type(self).__module__}.{type(self).__name__}")

    def _evaluation(self, *call: Any) -> Evaluation:
        """Return what is compiled for a loss function, and on which arrays.

        Args:
            *call: the function and its arguments, as `Evaluations.of` takes them.
        """
        active = [one for one in self._parameters() if one.requires_grad]
        return self._evaluations.of(self._tree(), active, *call)

    def _gradients(self, *call: Any) -> tuple[Any, dict[Parameter, jax.Array]]:
        """Return what the loss function returns, and the gradients of what it depends on."""
        with lock:
            settle()
            return self._evaluation(*call).gradients()
