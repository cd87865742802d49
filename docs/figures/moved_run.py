"""Draw a run that moves from torch to JAX and back, and one that forgets its state at each move.

Needs the test extra. Run it from anywhere: the figure is written next to this file.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import torch
from sklearn.datasets import load_digits

import torchwise

STEPS, BATCH = 60, 64
NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]
BLUE, RED, GREY = "#0b6e99", "#c8442b", "0.45"


def data() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Images, labels, and the rows of each batch."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = [rng.choice(len(labels), BATCH, replace=False) for _ in range(3 * STEPS)]
    return (images / 16).astype(np.float32), labels, rows


IMAGES, LABELS, ROWS = data()


def new_in_torch() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """The same network at every call, and a new optimizer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 10))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.95)


def train_in_torch(model: Any, optimizer: Any, batches: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield all parameters after each step."""
    for rows in batches:
        optimizer.zero_grad()
        scores = model(torch.from_numpy(IMAGES[rows]))
        torch.nn.functional.cross_entropy(scores, torch.from_numpy(LABELS[rows])).backward()
        optimizer.step()
        yield flat({name: value.numpy() for name, value in model.state_dict().items()})


def train_in_jax(path: Path, forgets: bool, batches: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Load torch's file, train, and overwrite it."""
    saved = torchwise.checkpoint.load(path)
    params = {name: jnp.asarray(saved["model"][name]) for name in NAMES}
    transform, state = torchwise.from_state_dict(saved["optimizer"], params, names=NAMES)
    if forgets:
        state = transform.init(params)

    @jax.jit
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        def loss_fn(params: Any) -> jax.Array:
            hidden = jnp.tanh(x @ params["0.weight"].T + params["0.bias"])
            scores = hidden @ params["2.weight"].T + params["2.bias"]
            return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

        return transform.step(jax.grad(loss_fn)(params), state, params)

    for rows in batches:
        params, state = step(params, state, IMAGES[rows], LABELS[rows])
        yield flat(params)
    optimizer = torchwise.to_state_dict(transform, state, params, names=NAMES)
    torchwise.checkpoint.save(path, {"model": params, "optimizer": optimizer})


def flat(params: Any) -> np.ndarray:
    """All parameters as one vector."""
    return np.concatenate([np.ravel(params[name]) for name in NAMES])


def moving(forgets: bool) -> list[np.ndarray]:
    """The parameters of a run: a third in torch, a third in JAX, a third in torch."""
    first, second, third = (ROWS[index * STEPS : (index + 1) * STEPS] for index in range(3))
    model, optimizer = new_in_torch()
    points = list(train_in_torch(model, optimizer, first))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.pt")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
        points += train_in_jax(path, forgets, second)
        saved = torch.load(path, weights_only=True)
    model, optimizer = new_in_torch()
    model.load_state_dict(saved["model"])
    if not forgets:
        optimizer.load_state_dict(saved["optimizer"])
    return points + list(train_in_torch(model, optimizer, third))


def main() -> None:
    """Measure, and write the figure."""
    stayed = list(train_in_torch(*new_in_torch(), ROWS))
    away = {
        forgets: [
            np.linalg.norm(point - other) / np.linalg.norm(other)
            for point, other in zip(moving(forgets), stayed, strict=True)
        ]
        for forgets in (False, True)
    }
    print("largest distance:", {forgets: f"{max(values):.1e}" for forgets, values in away.items()})
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    steps, floor = np.arange(1, 3 * STEPS + 1), 1e-8
    axes.semilogy(steps, np.maximum(away[True], floor), color=RED, lw=2)
    axes.semilogy(steps, np.maximum(away[False], floor), color=BLUE, lw=2)
    axes.text(2.9 * STEPS, 2.2e-2, "forgets its momentum", color=RED, ha="right")
    axes.text(2.9 * STEPS, 7e-7, "moves with its momentum", color=BLUE, ha="right")
    axes.text(0.5 * STEPS, 2 * floor, "no difference", color=GREY, ha="center")
    for index, name in enumerate(("torch", "JAX", "torch")):
        axes.text((index + 0.5) * STEPS, 3, name, ha="center", weight="bold")
        axes.axvline(index * STEPS + 0.5, color="0.75", lw=1, zorder=0)
    axes.set(
        xlim=(0, 3 * STEPS),
        ylim=(floor / 1.5, 9),
        xlabel="step",
        ylabel="distance from the run\nthat stays in torch",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
