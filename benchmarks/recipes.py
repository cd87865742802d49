"""The optimizers that are measured, and how many bytes each has to move."""

from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """Hyperparameters under torch's names.

    Attributes:
        name: in tables.
        optimizer: "sgd" or "adagrad".
        hyperparameters: those that are not zero.
        passes: how often an array of the parameters' size is read or written in a step.
    """

    name: str
    optimizer: str
    hyperparameters: dict[str, Any]
    passes: int

    def bytes_moved(self, elements: int, itemsize: int = 4) -> int:
        """Return the least traffic with memory of one step."""
        return self.passes * elements * itemsize


_WITHOUT_STATE = 3  # reads parameters and gradients, writes parameters
_WITH_STATE = 5  # and reads and writes the state

_LR = {"lr": 1e-3}
_MOMENTUM = {**_LR, "momentum": 0.9}
_DECAY = {"weight_decay": 1e-4}

RECIPES = [
    Recipe("sgd", "sgd", _LR, _WITHOUT_STATE),
    Recipe("sgd momentum", "sgd", _MOMENTUM, _WITH_STATE),
    Recipe("sgd momentum decay", "sgd", {**_MOMENTUM, **_DECAY}, _WITH_STATE),
    Recipe("sgd nesterov decay", "sgd", {**_MOMENTUM, **_DECAY, "nesterov": True}, _WITH_STATE),
    Recipe("sgd dampening decay", "sgd", {**_MOMENTUM, **_DECAY, "dampening": 0.1}, _WITH_STATE),
    Recipe("adagrad", "adagrad", _LR, _WITH_STATE),
    Recipe("adagrad decay", "adagrad", {**_LR, **_DECAY}, _WITH_STATE),
]
