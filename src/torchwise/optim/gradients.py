"""New gradients for many parameters, put in their places all together."""

from collections.abc import Callable, Mapping
from typing import Any

from torchwise.optim.parameter import Parameter
from torchwise.optim.transaction import execute
from torchwise.placement import constants
from torchwise.sparse import zeros


def _nothing() -> None:
    pass


def replace_grads(grads: Mapping[Parameter, Any], done: Callable[[], None] = _nothing) -> None:
    """Give parameters new gradients: all of them, or after an exception perhaps none.

    Args:
        grads: of the shape and the type of their parameters; None takes a gradient away.
        done: called with them; harmless if it is called again.

    Raises:
        RuntimeError: for values of a trace.
    """
    execute(_Replacement(grads, done))


def emptied(grads: Mapping[Parameter, Any], set_to_none: bool) -> dict[Parameter, Any]:
    """Return None in the place of each gradient, or zeros."""
    with constants():
        return {one: None if set_to_none else zeros(grad) for one, grad in grads.items()}


class _Replacement:
    """See `transaction`."""

    def __init__(self, grads: Mapping[Parameter, Any], done: Callable[[], None]) -> None:
        self.results: list[Any] = []
        self._parameters, self._grads, self._done = list(grads), list(grads.values()), done

    def prepare(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what only hands the gradients over."""
        return tuple, (self._grads,)

    def commit(self) -> None:
        """Put the gradients in their places."""
        for parameter, grad in zip(self._parameters, self.results[0]):
            parameter.take_grad(grad)
        self._done()
