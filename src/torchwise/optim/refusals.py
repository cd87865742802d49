"""What is no tree of parameters, though it looks like one: each is refused with its remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from torchwise.optim.parameter import Parameter, is_tensor, refuse_tensor
from torchwise.structure import named
from torchwise.trees import label, path_name

# torch's names, Flax's collection; what a model keeps for itself and no gradient moves.
_STATISTICS = ("running_mean", "running_var", "batch_stats")


def refuse_tensors(tree: Any) -> None:
    """Raise a TypeError for a tensor of torch, or a module, anywhere in a tree."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if is_tensor(leaf):
            refuse_tensor(leaf, f" at {label(path)}")
        if _is_module(leaf):
            raise TypeError(
                f"{named(leaf)} is a module of torch, which has no arrays of JAX: pass a dict of "
                "them, as {name: jnp.asarray(tensor.detach().numpy()) for name, tensor in "
                "module.named_parameters()}"
            )


def refuse_statistics(tree: Any) -> None:
    """Raise a ValueError for arrays that a model computes for itself, as means of batches.

    They are known by their type in Flax's NNX and in Equinox, and by their names elsewhere. Whoever
    wraps them in a `Parameter` means it.
    """
    found = [*_by_type(tree), *_by_name(tree)]
    if found:
        raise ValueError(
            f"{', '.join(dict.fromkeys(found))}: no parameters but statistics, which gradients do "
            "not move; pass the parameters alone, as {name: array for name, array in saved.items() "
            "if not name.endswith(('running_mean', 'running_var'))} of a torch dict, "
            "nnx.state(model, nnx.Param) in NNX, variables['params'] in Linen"
        )


def refuse_nothing(params: Any, found: Sequence[Parameter]) -> None:
    """Raise a ValueError if there is no parameter in what was passed as params."""
    if found:
        return
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")}
    having = f" with arrays of type {', '.join(sorted(dtypes))} alone" if dtypes else ""
    raise ValueError(
        f"there is nothing to optimize in {named(params)}{having}: pass a tree, or an iterable, "
        "of float or complex arrays, as the params that a model's init returns"
    )


def _by_type(tree: Any) -> list[str]:
    found = []
    for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=_is_variable):
        if _is_variable(leaf) and not _is_param(leaf):
            held = [one for one in jax.tree.leaves(leaf) if _is_inexact(one)]
            found += [f"{path_name(path)!r} ({type(leaf).__name__})"] * bool(held)
    return found


def _by_name(tree: Any) -> list[str]:
    return [
        repr(path_name(path))
        for path, leaf in jax.tree.leaves_with_path(tree)
        if _is_inexact(leaf)
        and not isinstance(leaf, Parameter)
        and any(name in _STATISTICS for name in path_name(path).replace("/", ".").split("."))
    ]


def _is_variable(leaf: Any) -> bool:
    return any(
        (cls.__module__.partition(".")[0], cls.__name__)
        in (
            ("flax", "Variable"),
            ("flax", "VariableState"),
            ("equinox", "StateIndex"),
            ("equinox", "State"),
        )
        for cls in type(leaf).__mro__
    )


def _is_param(leaf: Any) -> bool:
    kind = getattr(leaf, "type", type(leaf))
    return any(cls.__name__ == "Param" for cls in getattr(kind, "__mro__", ()))


def _is_inexact(leaf: Any) -> bool:
    return jax.numpy.issubdtype(getattr(leaf, "dtype", int), jax.numpy.inexact)


def _is_module(leaf: Any) -> bool:
    return any(cls.__module__ == "torch.nn.modules.module" for cls in type(leaf).__mro__)


def refuse_narrowing(parameters: Sequence[Parameter]) -> None:
    """Raise a RuntimeError where a program would turn parameters into such of 32 bits."""
    config: Any = jax.config
    if config.jax_enable_x64:
        return
    for one in parameters:
        if one.dtype in ("float64", "complex128"):
            raise RuntimeError(
                f"{one.label} is {one.dtype}, but JAX's 64-bit types are off, so that a step would "
                "make it another type: step inside jax.enable_x64(True), or set "
                'jax.config.update("jax_enable_x64", True)'
            )


def refuse_foreign(
    parameters: Sequence[Parameter], states: Sequence[Any], names: Sequence[Sequence[str]]
) -> None:
    """Raise a ValueError for what users have written into the state and no step can take.

    Args:
        parameters: the parameters.
        states: of each, or None.
        names: for each, the arrays that are 0-d or of its shape.
    """
    for parameter, state, wanted in zip(parameters, states, names):
        if state is None or not state.foreign:
            continue
        for name in wanted:
            value = state.own_values.get(name, 0.0)
            if not isinstance(value, jax.Array | np.ndarray | np.generic | float | int):
                problem = f"is {named(value)}, no array"
            elif np.shape(value) not in ((), parameter.shape):
                problem = f"has shape {np.shape(value)}, the parameter {parameter.shape}"
            else:
                continue
            raise ValueError(
                f"{parameter.label}: optimizer.state[parameter][{name!r}] {problem}; delete "
                "optimizer.state[parameter] to start it anew"
            )


def count_of(parameter: Parameter, values: Mapping[str, Any]) -> int:
    """Return how many gradients a parameter has seen, from its state.

    Raises:
        ValueError: for what is no count.
    """
    step = values["step"]
    try:
        count = int(step)
    except (TypeError, ValueError):
        count = -1
    if count < 0:
        raise ValueError(
            f"{parameter.label}: optimizer.state[parameter]['step'] is {step!r}, but a count of "
            "steps is wanted; delete optimizer.state[parameter] to start it anew"
        )
    return count
