"""The optimizers that are measured, and how many bytes each has to move."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torchwise
from shapes import Shape, count


class Case(NamedTuple):
    """An optimizer with its hyperparameters, under torch's names.

    Attributes:
        name: in tables.
        algorithm: the name of the function in `torchwise`.
        hyperparameters: those that are not torch's defaults.
        states: how many arrays of the parameters' size the state has.
        matrices_only: whether it takes no other arrays than matrices.
        factored: whether a matrix has only a row and a column of state, and a vector one array.
    """

    name: str
    algorithm: str
    hyperparameters: dict[str, Any]
    states: int
    matrices_only: bool = False
    factored: bool = False

    @property
    def class_name(self) -> str:
        """Return the name of the class, in torch and in `torchwise.optim`."""
        rule = getattr(torchwise, self.algorithm)(**self.hyperparameters).rule
        return rule.name

    def bytes_moved(self, elements: int, itemsize: int = 4) -> int:
        """Return the least traffic with memory of one step.

        Parameters and gradients are read, parameters written, and each state is read and written.
        """
        return (3 + 2 * self.states) * elements * itemsize

    def traffic(self, shapes: Sequence[Shape]) -> int | None:
        """Return the least bytes of one step in float32; None where memory is not the limit."""
        if self.matrices_only:
            return None  # products of matrices take the time
        moved = self.bytes_moved(sum(map(count, shapes)))
        if self.factored:
            moved += sum(2 * 4 * _factored_state(shape) for shape in shapes)
        return moved

    def taken(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return the shapes that the optimizer takes: all of them, or those of matrices."""
        return [shape for shape in shapes if len(shape) == 2 or not self.matrices_only]


def _factored_state(shape: Shape) -> int:
    elements = count(shape)
    return elements if len(shape) < 2 else elements // shape[-1] + elements // shape[-2]


_LR = {"lr": 1e-3}
_MOMENTUM = {**_LR, "momentum": 0.9}
_DECAY = {"weight_decay": 1e-4}

CASES = [
    Case("sgd", "sgd", _LR, 0),
    Case("sgd momentum", "sgd", _MOMENTUM, 1),
    Case("sgd momentum decay", "sgd", {**_MOMENTUM, **_DECAY}, 1),
    Case("sgd nesterov decay", "sgd", {**_MOMENTUM, **_DECAY, "nesterov": True}, 1),
    Case("sgd dampening decay", "sgd", {**_MOMENTUM, **_DECAY, "dampening": 0.1}, 1),
    Case("adagrad", "adagrad", _LR, 1),
    Case("adagrad decay", "adagrad", {**_LR, **_DECAY}, 1),
    Case("rmsprop", "rmsprop", _LR, 1),
    Case("rmsprop decay", "rmsprop", {**_LR, **_DECAY}, 1),
    Case("rmsprop centered momentum", "rmsprop", {**_MOMENTUM, "centered": True}, 3),
    Case("adam", "adam", _LR, 2),
    Case("adamw", "adamw", {**_LR, "weight_decay": 1e-2}, 2),
    Case("adamw amsgrad", "adamw", {**_LR, "weight_decay": 1e-2, "amsgrad": True}, 3),
    Case("adamax", "adamax", _LR, 2),
    Case("nadam", "nadam", _LR, 2),
    Case("radam", "radam", _LR, 2),
    Case("adadelta", "adadelta", _LR, 2),
    Case("asgd", "asgd", _LR, 1),
    Case("rprop", "rprop", _LR, 2),
    Case("adafactor", "adafactor", _LR, 0, factored=True),
    Case("muon", "muon", _LR, 1, matrices_only=True),
]
# SparseAdam and LBFGS, whose steps have no fixed cost, are in `others.py`.
