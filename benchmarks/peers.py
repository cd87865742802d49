"""One adapter per library: from a case and gradients to something that takes a step."""

import functools
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import torchwise
from optimizers import Case
from shapes import Shape
from torchwise import optim

FUNCTIONAL = "torchwise"
UPDATE = "torchwise update"
STATEFUL = "torchwise.optim"
OPTAX = "optax"
_TORCH = {
    "torch": {},
    "torch foreach": {"foreach": True},
    "torch fused": {"fused": True},
}
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


class Pure(NamedTuple):
    """An optimizer as two pure functions.

    Attributes:
        init: params -> state.
        step: (grads, state, params) -> (params, state).
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]]


def prepare(case: Case, shapes: Sequence[Shape]) -> dict[str, Stepper]:
    """Return a stepper for each library that has the optimizer, all with the same gradients."""
    generator = np.random.default_rng(0)
    arrays = [0.01 * generator.standard_normal(shape, np.float32) for shape in shapes]
    grads = [jax.device_put(array) for array in arrays]
    steppers = {name: _functional(pure, grads) for name, pure in torchwise_chains(case).items()}
    steppers[STATEFUL] = _stateful(case, grads)
    steppers |= {name: _functional(pure, grads) for name, pure in optax_chains(case).items()}
    for name in torch_implementations(case):
        steppers[name] = _torch(case, name, arrays)
    return steppers


def torchwise_chains(case: Case) -> dict[str, Pure]:
    """Return our chain for a case, used in two ways."""
    ours = getattr(torchwise, case.algorithm)(**case.hyperparameters)
    return {FUNCTIONAL: Pure(ours.init, ours.step), UPDATE: _updating(ours)}


def _updating(transform: optax.GradientTransformation) -> Pure:
    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Pure(transform.init, step)


# What optax has under the same names as torch, but for the rate, with the defaults of torch.
_OPTAX: dict[str, Callable[..., Any]] = {
    "sgd": optax.sgd,
    "adagrad": functools.partial(optax.adagrad, initial_accumulator_value=0.0, eps=1e-10),
    "rmsprop": functools.partial(optax.rmsprop, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adam": optax.adam,
    "adamw": optax.adamw,
    "adamax": optax.adamax,
    "nadam": optax.nadam,
    "radam": optax.radam,
    "adadelta": functools.partial(optax.adadelta, rho=0.9, eps=1e-6),
    "rprop": optax.rprop,
}


def optax_chains(case: Case) -> dict[str, Pure]:
    """Return optax's chain for a case; none with dampening, AMSGrad or averages of ASGD's kind."""
    values = dict(case.hyperparameters)
    if case.algorithm not in _OPTAX or {"dampening", "amsgrad"} & {*values}:
        return {}
    decoupled = case.algorithm == "adamw"
    decay = None if decoupled else values.pop("weight_decay", None)
    rule = _OPTAX[case.algorithm](values.pop("lr"), **values)
    whole = rule if decay is None else optax.chain(optax.add_decayed_weights(decay), rule)
    return {OPTAX: _updating(whole)}


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


def _stateful(case: Case, grads: list[jax.Array]) -> Stepper:
    optimizer = stateful_optimizer(case, [jax.numpy.ones_like(grad) for grad in grads])
    parameters = optimizer.param_groups[0]["params"]
    for parameter, grad in zip(parameters, grads):
        parameter.grad = grad

    def step() -> None:
        optimizer.step()
        jax.block_until_ready([parameter.data for parameter in parameters])

    return Stepper(step, first_call(step), None)


def first_call(step: Callable[[], object]) -> float:
    """Return the seconds of a first call: compilation, where it is not done before."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def stateful_optimizer(case: Case, params: Any) -> optim.Optimizer:
    """Return our stateful optimizer for a case."""
    return getattr(optim, case.class_name)(params, **case.hyperparameters)


def torch_implementations(case: Case) -> list[str]:
    """Return the names of torch's implementations of a case, where it is installed."""
    if not _has_torch():
        return []
    fused = case.algorithm in _FUSED_IN_TORCH
    return [name for name in _TORCH if fused or name != "torch fused"]


def _has_torch() -> bool:
    """Whether torch is installed, for the devices that JAX uses."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch_device() == "cpu" or torch.cuda.is_available()


def _torch(case: Case, name: str, arrays: Sequence[np.ndarray]) -> Stepper:
    import torch

    grads = [torch.from_numpy(array).to(torch_device()) for array in arrays]
    params = [torch.ones_like(grad, requires_grad=True) for grad in grads]
    for param, grad in zip(params, grads):
        param.grad = grad
    return Stepper(functools.partial(_torch_step, torch_optimizer(case, name, params)), None, None)


def _torch_step(optimizer: Any) -> None:
    optimizer.step()
    wait_for_torch()


def torch_optimizer(case: Case, name: str, params: Any) -> Any:
    """Return torch's optimizer for a case, in one of its implementations."""
    from torch import optim

    return getattr(optim, case.class_name)(params, **case.hyperparameters, **_TORCH[name])


def wait_for_torch() -> None:
    """Wait until a GPU has done what torch asked for."""
    import torch

    if torch_device() == "cuda":
        torch.cuda.synchronize()


def torch_device() -> str:
    """Return torch's name for the devices that JAX uses."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"
