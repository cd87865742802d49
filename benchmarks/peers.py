"""One adapter a library: from a recipe and gradients to something that takes a step."""

import functools
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import torchwise
from recipes import Recipe
from shapes import Shape
from torchwise import optim

FUNCTIONAL = "torchwise"
STATEFUL = "torchwise.optim"
OPTAX = "optax"
TORCH = {
    "torch": {},
    "torch foreach": {"foreach": True},
    "torch fused": {"fused": True},
}


class Stepper(NamedTuple):
    """An optimizer at work.

    Attributes:
        step: takes one step, to its end.
        compile_seconds: tracing and compiling; None where nothing is compiled.
        temporary_bytes: what XLA allocates beside arguments and results; None if unknown.
    """

    step: Callable[[], object]
    compile_seconds: float | None
    temporary_bytes: int | None


def prepare(recipe: Recipe, shapes: Sequence[Shape]) -> dict[str, Stepper]:
    """Return a stepper for each library that has the optimizer, all with the same gradients."""
    generator = np.random.default_rng(0)
    arrays = [0.01 * generator.standard_normal(shape, np.float32) for shape in shapes]
    grads = [jax.device_put(array) for array in arrays]
    steppers = {
        FUNCTIONAL: _functional(torchwise_transform(recipe), grads),
        STATEFUL: _stateful(recipe, grads),
    }
    transform = optax_transform(recipe)
    if transform is not None:
        steppers[OPTAX] = _functional(transform, grads)
    if has_torch():
        steppers |= _torch(recipe, arrays)
    return steppers


def has_torch() -> bool:
    """Whether torch is installed, for the kind of device that JAX uses."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch_device() == "cpu" or torch.cuda.is_available()


def optax_transform(recipe: Recipe) -> optax.GradientTransformation | None:
    """Return optax's chain for a recipe; it has none with dampening."""
    values = dict(recipe.hyperparameters)
    if "dampening" in values:
        return None
    decay = values.pop("weight_decay", None)
    rate = values.pop("lr")
    if recipe.optimizer == "sgd":
        rule = optax.sgd(rate, values.pop("momentum", None), **values)
    else:
        rule = optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-10)
    return rule if decay is None else optax.chain(optax.add_decayed_weights(decay), rule)


def torchwise_transform(recipe: Recipe) -> optax.GradientTransformation:
    """Return our chain for a recipe."""
    return {"sgd": torchwise.sgd, "adagrad": torchwise.adagrad}[recipe.optimizer](
        **recipe.hyperparameters
    )


def compiled(step: Callable[..., Any], *args: Any) -> tuple[Any, float, int | None]:
    """Return a jitted step that overwrites its first two arguments, compiled, with its costs."""
    start = time.perf_counter()
    program = jax.jit(step, donate_argnums=(0, 1)).lower(*args).compile()
    duration = time.perf_counter() - start
    memory = program.memory_analysis()
    return program, duration, None if memory is None else memory.temp_size_in_bytes


def _functional(transform: optax.GradientTransformation, grads: list[jax.Array]) -> Stepper:
    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = [jax.numpy.ones_like(grad) for grad in grads]
    held = [params, jax.jit(transform.init)(params)]
    program, duration, temporary = compiled(update, *held, grads)

    def step() -> None:
        held[:] = program(*held, grads)
        jax.block_until_ready(held)

    return Stepper(step, duration, temporary)


def _stateful(recipe: Recipe, grads: list[jax.Array]) -> Stepper:
    optimizer = stateful_optimizer(recipe, [jax.numpy.ones_like(grad) for grad in grads])
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


def stateful_optimizer(recipe: Recipe, params: Any) -> optim.Optimizer:
    """Return our stateful optimizer for a recipe."""
    kind = {"sgd": optim.SGD, "adagrad": optim.Adagrad}[recipe.optimizer]
    return kind(params, **recipe.hyperparameters)


def _torch(recipe: Recipe, arrays: Sequence[np.ndarray]) -> dict[str, Stepper]:
    import torch

    grads = [torch.from_numpy(array).to(torch_device()) for array in arrays]
    steppers = {}
    for name in TORCH:
        params = [torch.ones_like(grad, requires_grad=True) for grad in grads]
        for param, grad in zip(params, grads):
            param.grad = grad
        optimizer = torch_optimizer(recipe, name, params)
        steppers[name] = Stepper(functools.partial(_torch_step, optimizer), None, None)
    return steppers


def _torch_step(optimizer: Any) -> None:
    optimizer.step()
    wait_for_torch()


def torch_optimizer(recipe: Recipe, name: str, params: Any) -> Any:
    """Return torch's optimizer for a recipe, in one of its implementations."""
    import torch

    kind = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}[recipe.optimizer]
    return kind(params, **recipe.hyperparameters, **TORCH[name])


def wait_for_torch() -> None:
    """Wait until a GPU has done what torch asked for."""
    import torch

    if torch_device() == "cuda":
        torch.cuda.synchronize()


def torch_device() -> str:
    """Return torch's name for the kind of device that JAX uses."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"
