"""Measure how far optax and torchwise end from torch, and draw it.

Needs torch. Run it from anywhere: it writes the figure next to this file, and the table into
`docs/from-optax.md`. The expressions in optax are in `expressions/in_optax.py`.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import torch
from expressions.in_optax import ROWS, STEPS, Row

import torchwise

SIZE = 1000
PAGE = Path(__file__).parent.parent / "from-optax.md"
TABLE = re.compile(r"(<!-- distances: begin -->\n).*(<!-- distances: end -->)", re.DOTALL)


def of_torch(row: Row, start: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Where torch ends."""
    param = torch.from_numpy(start.copy())
    rate = row.values["lr"]
    optimizer = getattr(torch.optim, row.name)([param], **{**row.values, "lr": 0.0})
    for count, grad in enumerate(grads):
        optimizer.param_groups[0]["lr"] = rate if isinstance(rate, float) else float(rate(count))
        param.grad = torch.from_numpy(grad)
        optimizer.step()
    return param.numpy()


def of_jax(transform: Any, start: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Where a gradient transformation ends."""

    @jax.jit
    def walk(start: jax.Array, grads: jax.Array) -> jax.Array:
        def step(carry: Any, grad: jax.Array) -> tuple[Any, None]:
            param, state = carry
            updates, state = transform.update(grad, state, param)
            return (optax.apply_updates(param, updates), state), None

        return jax.lax.scan(step, (start, transform.init(start)), grads)[0][0]

    return np.asarray(walk(jnp.asarray(start), jnp.asarray(grads)))


def measure() -> list[tuple[float, float, float]]:
    """For each row: how far optax and torchwise are from torch, and how far torch went."""
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=SIZE), rng.normal(size=(STEPS, SIZE))
    found = []
    with jax.enable_x64(True):
        for row in ROWS:
            end = of_torch(row, start, grads)
            ours = getattr(torchwise, row.name.lower())(**row.values)
            away = [np.abs(of_jax(one, start, grads) - end) for one in (row.in_optax, ours)]
            found.append((away[0].max(), away[1].max(), np.abs(end - start).max()))
    return found


def table(found: list[tuple[float, float, float]]) -> str:
    """The measured distances in Markdown."""
    lines = [
        "| in torch | in optax | optax from torch | torchwise from torch | moved |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, (optax_away, ours_away, moved) in zip(ROWS, found, strict=True):
        cells = (row.what, row.expression, short(optax_away), short(ours_away), f"{moved:.2g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short(distance: float) -> str:
    """A distance with as many digits as it takes."""
    return f"{distance:.2g}" if distance == 0 or distance > 0.01 else f"{distance:.0e}"


def draw(found: list[tuple[float, float, float]], path: Path) -> None:
    """Draw the distances as shares of the way."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.6, 8.5), layout="constrained")
    rows = np.arange(len(ROWS))
    floor = 1e-17
    for offset, side, name, color in (
        (-0.2, 0, "optax", "#c8442b"),
        (0.2, 1, "torchwise", "#0b6e99"),
    ):
        shares = [max(one[side] / one[2], floor) for one in found]
        axes.barh(rows + offset, shares, 0.36, label=name, color=color)
        for row, one in zip(rows, found, strict=True):
            if one[side] == 0:
                axes.text(2 * floor, row + offset, "equal", va="center", fontsize=8)
    labels = [f"{row.what}\n{row.expression.replace('`', '')}" for row in ROWS]
    axes.set_yticks(rows, labels, fontsize=8)
    axes.set_ylim(len(ROWS) - 0.4, -1)
    axes.set_xscale("log")
    axes.set_xlim(floor, 10)
    axes.axvline(2**-53, color="0.6", lw=1, ls=":")
    axes.text(2**-53, -0.85, " rounding of float64", fontsize=8, color="0.4")
    axes.set_xlabel("distance from torch / how far torch went")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", frameon=False, ncols=2)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, write the table, draw the figure."""
    found = measure()
    print(table(found))
    text = PAGE.read_text()
    PAGE.write_text(TABLE.sub(lambda match: f"{match[1]}\n{table(found)}\n\n{match[2]}", text))
    draw(found, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
