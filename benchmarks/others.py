"""SparseAdam and L-BFGS against torch: optimizers whose steps have no fixed cost.

SparseAdam moves the rows of an embedding that a batch touches. A step of L-BFGS has ten iterations
on a problem of least squares; every step begins at the same place, without a history.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

import chains
import peers
import report
import running
import torchwise
from peers import Stepper
from running import Point

_ITERATIONS = 10


class Size(NamedTuple):
    """How large both problems are."""

    rows: int
    width: int
    touched: int
    parameters: int


FULL = Size(rows=50_000, width=64, touched=512, parameters=10_000)
QUICK = Size(rows=20, width=4, touched=3, parameters=10)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both, print the table, write others.json."""
    arguments = running.parser(__doc__, "others").parse_args(argv)
    size, rounds = (QUICK, 3) if arguments.quick else (FULL, 30)
    table = f"{size.touched} of {size.rows:,} rows"
    squares = f"least squares, {_ITERATIONS} iterations"
    points = [
        Point(_labels(table, "sparse adam", size.rows * size.width), _sparse(size), rounds, None),
        Point(_labels(squares, "lbfgs", size.parameters), _squares(size), rounds, None),
    ]
    print(report.text(running.run(points, arguments)["rows"]))


def _labels(workload: str, optimizer: str, elements: int) -> dict[str, Any]:
    return {"workload": workload, "optimizer": optimizer, "arrays": 1, "elements": elements}


def _sparse(size: Size) -> Callable[[], dict[str, Stepper]]:
    def prepare() -> dict[str, Stepper]:
        generator = np.random.default_rng(0)
        touched = np.sort(generator.choice(size.rows, size.touched, replace=False))
        values = generator.standard_normal((size.touched, size.width), np.float32)
        shape = (size.rows, size.width)
        grad = BCOO((jnp.asarray(values), jnp.asarray(touched[:, None])), shape=shape)
        steppers = {chains.FUNCTIONAL: _pure_sparse(grad), peers.STATEFUL: _stateful_sparse(grad)}
        if peers.has_torch():
            steppers["torch"] = _torch_sparse(touched, values, shape)
        return steppers

    return prepare


def _pure_sparse(grad: BCOO) -> Stepper:
    ours = torchwise.sparse_adam(lr=1e-3)
    held = [jnp.ones(grad.shape), ours.init(jnp.ones(grad.shape))]

    def update(params: Any, state: Any, grad: BCOO) -> tuple[Any, Any]:
        return ours.step(grad, state, params)

    program, duration, temporary = peers.compiled(update, *held, grad)

    def step() -> None:
        held[:] = program(*held, grad)
        jax.block_until_ready(held)

    return Stepper(step, duration, temporary)


def _stateful_sparse(grad: BCOO) -> Stepper:
    optimizer = torchwise.optim.SparseAdam([jnp.ones(grad.shape)], lr=1e-3)
    parameter = optimizer.param_groups[0]["params"][0]
    parameter.grad = grad

    def step() -> None:
        optimizer.step()
        jax.block_until_ready(parameter.own_array)

    return Stepper(step, peers.first_call(step), None)


def _torch_sparse(touched: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> Stepper:
    import torch

    device = peers.torch_device()
    param = torch.ones(shape, device=device, requires_grad=True)
    places, numbers = torch.from_numpy(touched[None]), torch.from_numpy(values)
    grad = torch.sparse_coo_tensor(places, numbers, shape, check_invariants=True).coalesce()
    param.grad = grad.to(device)
    optimizer = torch.optim.SparseAdam([param], lr=1e-3)
    return Stepper(functools.partial(peers.torch_step, optimizer), None, None)


def _squares(size: Size) -> Callable[[], dict[str, Stepper]]:
    def prepare() -> dict[str, Stepper]:
        generator = np.random.default_rng(0)
        scales = np.geomspace(0.1, 1.0, size.parameters, dtype=np.float32)
        target = generator.standard_normal(size.parameters, np.float32)
        steppers = {chains.FUNCTIONAL: _pure_squares(jnp.asarray(scales), jnp.asarray(target))}
        if peers.has_torch():
            steppers["torch"] = _torch_squares(scales, target)
        return steppers

    return prepare


def _pure_squares(scales: jax.Array, target: jax.Array) -> Stepper:
    ours = torchwise.lbfgs(max_iter=_ITERATIONS)
    loss = jax.value_and_grad(lambda x: jnp.sum(jnp.square(scales * x - target)) / 2)
    start = jnp.zeros_like(target)
    initial = ours.init(start)
    program, duration, temporary = peers.compiled(
        lambda _, __, start, state: ours.step(loss, state, start), 0.0, 0.0, start, initial
    )

    def step() -> None:
        jax.block_until_ready(program(0.0, 0.0, start, initial))

    return Stepper(step, duration, temporary)


def _torch_squares(scales: np.ndarray, target: np.ndarray) -> Stepper:
    import torch

    device = peers.torch_device()
    factors, goal = (torch.tensor(array, device=device) for array in (scales, target))

    def step() -> None:
        x = torch.zeros_like(goal, requires_grad=True)
        optimizer = torch.optim.LBFGS([x], max_iter=_ITERATIONS)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (factors * x - goal).square().sum() / 2
            loss.backward()
            return loss

        optimizer.step(closure)
        peers.wait_for_torch()

    return Stepper(step, None, None)


if __name__ == "__main__":
    main()
