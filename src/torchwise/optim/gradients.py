"""New gradients for many parameters, put in their places all together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torchwise.optim.parameter import Parameter
from torchwise.optim.transaction import hand_over
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
    parameters = list(grads)

    def put(values: Sequence[Any]) -> None:
        for parameter, grad in zip(parameters, values):
            parameter.take_grad(grad)
        done()

    hand_over(list(grads.values()), put)


def emptied(grads: Mapping[Parameter, Any], set_to_none: bool) -> dict[Parameter, Any]:
    """Return None in the place of each gradient, or zeros."""
    with constants():
        return {one: None if set_to_none else zeros(grad) for one, grad in grads.items()}
