"""Draw the way of every optimizer on one valley: torch, torchwise, and optax where it has one.

Needs the test extra. Run it from anywhere: the figure is written next to this file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import torch
from jax.experimental.sparse import BCOO

import torchwise

STEPS = 60
START = np.array([[-3.0], [2.0]])  # a matrix, since Muon takes no vectors
# The loss is x A x / 2, with the curvatures 1 and 12 along axes that are turned.
TURN = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
VALLEY = TURN @ np.diag([1.0, 12.0]) @ TURN.T
BLUE, RED = "#5aa9d6", "#c8442b"


class Entry(NamedTuple):
    """An optimizer with its arguments, and optax's of that name.

    Attributes:
        name: torch's.
        values: the arguments in torch and in torchwise.
        peer: optax's transformation, or None.
    """

    name: str
    values: dict[str, Any]
    peer: Any = None

    def ours(self) -> Any:
        """The transform of torchwise."""
        name = {"SparseAdam": "sparse_adam"}.get(self.name, self.name.lower())
        return getattr(torchwise, name)(**self.values)


ENTRIES = [
    Entry("SGD", {"lr": 0.03, "momentum": 0.8}, optax.sgd(0.03, 0.8)),
    Entry("Adagrad", {"lr": 0.5}, optax.adagrad(0.5)),
    Entry("RMSprop", {"lr": 0.1}, optax.rmsprop(0.1, 0.99)),
    Entry("Adam", {"lr": 0.2, "amsgrad": True}, optax.amsgrad(0.2)),
    Entry("AdamW", {"lr": 0.2}, optax.adamw(0.2, weight_decay=1e-2)),
    Entry("Adamax", {"lr": 0.2}, optax.adamax(0.2)),
    Entry("Adadelta", {"lr": 20.0}, optax.adadelta(20.0)),
    Entry("NAdam", {"lr": 0.2}, optax.nadam(0.2)),
    Entry("RAdam", {"lr": 0.05}, optax.radam(0.05)),
    Entry("ASGD", {"lr": 0.05}),
    Entry("Rprop", {"lr": 0.1}, optax.rprop(0.1)),
    Entry("Adafactor", {"lr": 0.5}, optax.adafactor(0.5)),
    Entry("Muon", {"lr": 0.1}, optax.contrib.muon(0.1)),
    Entry("SparseAdam", {"lr": 0.2}),
    Entry("LBFGS", {"lr": 0.3, "max_iter": 1}, optax.lbfgs(0.3, linesearch=None)),
]


def of_torch(entry: Entry) -> np.ndarray:
    """The points of torch, (STEPS + 1, 2)."""
    param, matrix = torch.from_numpy(START.copy()), torch.from_numpy(VALLEY)
    optimizer = getattr(torch.optim, entry.name)([param], **entry.values)

    def closure() -> torch.Tensor:
        grad = matrix @ param
        param.grad = grad.to_sparse(1) if entry.name == "SparseAdam" else grad
        return (param * (matrix @ param)).sum() / 2

    points = [param.numpy().copy()]
    for _ in range(STEPS):
        if entry.name == "LBFGS":
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        points.append(param.numpy().copy())
    return np.stack(points)[:, :, 0]


def of_jax(init: Callable[..., Any], step: Callable[..., Any]) -> np.ndarray:
    """The points of a step from parameters and state, (STEPS + 1, 2)."""
    param = jnp.asarray(START)
    state, points = init(param), [START]
    for _ in range(STEPS):
        param, state = step(param, state)
        points.append(np.asarray(param))
    return np.stack(points)[:, :, 0]


def loss_fn(param: jax.Array) -> jax.Array:
    """The height of the valley."""
    return jnp.sum(param * (VALLEY @ param)) / 2


def of_torchwise(entry: Entry) -> np.ndarray:
    """The points of torchwise."""
    transform = entry.ours()
    if entry.name == "LBFGS":
        evaluate = jax.value_and_grad(loss_fn)
        return of_jax(transform.init, lambda param, state: transform.step(evaluate, state, param))

    @jax.jit
    def step(param: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        grad = jax.grad(loss_fn)(param)
        if entry.name == "SparseAdam":
            grad = BCOO((grad, jnp.array([[0], [1]])), shape=grad.shape)
        return transform.step(grad, state, param)

    return of_jax(transform.init, step)


def of_optax(transform: optax.GradientTransformation) -> np.ndarray:
    """The points of optax."""

    @jax.jit
    def step(param: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        updates, state = transform.update(jax.grad(loss_fn)(param), state, param)
        return optax.apply_updates(param, updates), state

    return of_jax(transform.init, step)


def draw(axes: Any, entry: Entry) -> None:
    """Draw one optimizer."""
    x, y = np.meshgrid(np.linspace(-3.8, 2.6, 80), np.linspace(-2.4, 3.2, 80))
    points = np.stack([x, y], axis=-1)
    heights = np.einsum("...i,ij,...j", points, VALLEY, points) / 2
    axes.contour(x, y, np.sqrt(heights), levels=10, colors="0.88", linewidths=0.8)
    theirs, ours = of_torch(entry), of_torchwise(entry)
    axes.plot(*theirs.T, color=BLUE, lw=5, solid_capstyle="round", label="torch")
    if entry.peer is not None:
        axes.plot(*of_optax(entry.peer).T, color=RED, lw=2.8, label="optax")
    axes.plot(*ours.T, color="black", lw=1.1, label="torchwise")
    axes.plot(0, 0, marker="+", color="0.3", ms=9)
    options = {
        name: value for name, value in entry.values.items() if name not in ("lr", "max_iter")
    }
    words = ", ".join(
        name if value is True else f"{name} {value}" for name, value in options.items()
    )
    axes.set_title(entry.name, fontsize=12)
    axes.text(-3.7, -2.2, words, fontsize=9, color="0.3")
    axes.set(xlim=(-3.8, 2.6), ylim=(-2.4, 3.2), xticks=[], yticks=[], aspect="equal")
    print(f"{entry.name}: torchwise is at most {np.abs(theirs - ours).max():.0e} from torch")


def main() -> None:
    """Write the figure."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(5, 3, figsize=(7, 11.5), layout="constrained")
    with jax.enable_x64(True):
        for axes, entry in zip(grid.flat, ENTRIES, strict=True):
            draw(axes, entry)
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
                  frameon=False, fontsize=12)  # fmt: skip
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
