"""One adapter per library: from a case and gradients to something that takes a step."""

import functools
import importlib.util
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from chains import Pure, optax_chains, torchwise_chains
from optimizers import Case
from shapes import Shape
from torchwise import optim

STATEFUL = "torchwise.optim"
TORCH = {
    "torch": {},
    "torch foreach": {"foreach": True},
    "torch fused": {"fused": True},
}
_ONE_ARRAY_AT_A_TIME = ("muon",)  # all that torch has
_FUSED_IN_TORCH = ("sgd", "adagrad", "adam", "adamw")


class Stepper(NamedTuple):
    """An optimizer at work.

    Attributes:
        step: takes one step, to its end.
        compile_seconds: tracing and compiling; None where nothing is compiled.
        temporary_bytes: what XLA allocates in addition to arguments and results; None if unknown.
    """

    step: Callable[[], object]
    compile_seconds: float | None
    temporary_bytes: int | None


def prepare(
    case: Case, shapes: Sequence[Shape], chosen: Collection[str] | None = None
) -> dict[str, Stepper]:
    """Return a stepper for each library that has the optimizer, all with the same gradients.

    Args:
        case: the optimizer.
        shapes: of the parameters.
        chosen: names of the peers that are wanted; None means all of them.
    """
    generator = np.random.default_rng(0)
    grads = [
        0.01 * jax.device_put(generator.standard_normal(shape, np.float32)) for shape in shapes
    ]
    builders: dict[str, Callable[[], Stepper]] = {
        name: functools.partial(_functional, pure, grads)
        for name, pure in torchwise_chains(case, True).items()
    }
    builders[STATEFUL] = functools.partial(stateful, case, grads)
    for name, pure in optax_chains(case).items():
        builders[name] = functools.partial(_functional, pure, grads)
    for name in torch_implementations(case):
        builders[name] = functools.partial(in_torch, case, name, grads)
    return {name: build() for name, build in builders.items() if chosen is None or name in chosen}


def compiled(step: Callable[..., Any], *args: Any) -> tuple[Any, float, int | None]:
    """Return a jitted step that overwrites its first two arguments, compiled, with its costs."""
    start = time.perf_counter()
    program = jax.jit(step, donate_argnums=(0, 1)).lower(*args).compile()
    duration = time.perf_counter() - start
    memory = program.memory_analysis()
    return program, duration, None if memory is None else memory.temp_size_in_bytes


def _functional(pure: Pure, grads: list[jax.Array]) -> Stepper:
    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return pure.step(grads, state, params)

    params = [jax.numpy.ones_like(grad) for grad in grads]
    held = [params, jax.jit(pure.init)(params)]
    program, duration, temporary = compiled(update, *held, grads)

    def step() -> None:
        held[:] = program(*held, grads)
        jax.block_until_ready(held)

    return Stepper(step, duration, temporary)


def stateful(case: Case, grads: Sequence[jax.Array], groups: int = 1) -> Stepper:
    """Return our stateful optimizer at work, with so many groups, each with its rate."""
    params = [jax.numpy.ones_like(grad) for grad in grads]
    optimizer = stateful_optimizer(case, grouped(case, params, groups))
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for parameter, grad in zip(parameters, grads):
        parameter.grad = grad

    def step() -> None:
        optimizer.step()
        wait_for(parameters)

    return Stepper(step, first_call(step), None)


def wait_for(parameters: Sequence[optim.Parameter]) -> None:
    """Wait for the values of parameters without reading them.

    An array that has been read may still be in use, so that the next step would copy it.
    """
    jax.block_until_ready([parameter._data for parameter in parameters])


def first_call(step: Callable[[], object]) -> float:
    """Return the seconds of a first call: compilation, where it is not done before."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def grouped(case: Case, params: list[Any], groups: int) -> list[Any]:
    """Return the parameters; with several groups, the groups, which differ in their rates."""
    if groups == 1:
        return params
    rates = [case.hyperparameters["lr"] * 0.99**group for group in range(groups)]
    return [{"params": params[group::groups], "lr": rate} for group, rate in enumerate(rates)]


def stateful_optimizer(case: Case, params: Any) -> optim.Optimizer:
    """Return our stateful optimizer for a case."""
    return getattr(optim, case.class_name)(params, **case.hyperparameters)


def torch_implementations(case: Case) -> list[str]:
    """Return the names of torch's implementations of a case, where it is installed."""
    if not has_torch():
        return []
    if case.algorithm in _ONE_ARRAY_AT_A_TIME:
        return ["torch"]
    fused = case.algorithm in _FUSED_IN_TORCH
    return [name for name in TORCH if fused or name != "torch fused"]


def has_torch() -> bool:
    """Whether torch is installed, for the devices that JAX uses."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch_device() == "cpu" or torch.cuda.is_available()


def in_torch(case: Case, name: str, arrays: Sequence[jax.Array], groups: int = 1) -> Stepper:
    """Return torch's optimizer at work, with so many groups, each with its rate."""
    import torch

    grads = [torch.from_dlpack(array) for array in arrays]  # the same memory: nobody writes it
    params = [torch.ones_like(grad, requires_grad=True) for grad in grads]
    for param, grad in zip(params, grads):
        param.grad = grad
    optimizer = torch_optimizer(case, name, grouped(case, params, groups))
    return Stepper(functools.partial(torch_step, optimizer), None, None)


def torch_step(optimizer: Any) -> None:
    """Take a step, to its end."""
    optimizer.step()
    wait_for_torch()


def torch_optimizer(case: Case, name: str, params: Any) -> Any:
    """Return torch's optimizer for a case, in one of its implementations."""
    from torch import optim

    return getattr(optim, case.class_name)(params, **case.hyperparameters, **TORCH[name])


def wait_for_torch() -> None:
    """Wait until a GPU has done what torch asked for."""
    import torch

    if torch_device() == "cuda":
        torch.cuda.synchronize()


def torch_device() -> str:
    """Return torch's name for the devices that JAX uses."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"
