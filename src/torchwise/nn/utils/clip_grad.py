"""torch's functions that clip the gradients of parameters, each in one compiled program."""

import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise import norms
from torchwise.blocks.clip_grad_value import clipped_by_value
from torchwise.norms import check_limit, clip_coefficient
from torchwise.numbers import Scalar, number
from torchwise.optim.gradients import replace_grads
from torchwise.optim.parameter import Parameter
from torchwise.rounding import mul
from torchwise.sparse import is_sparse

Parameters = Parameter | Iterable[Parameter]


def get_total_norm(
    tensors: Any,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> jax.Array:
    """Return the norm of all arrays together; see `torchwise.get_total_norm`.

    Args:
        tensors: an array, or an iterable or a tree of arrays.
        norm_type: see there.
        error_if_nonfinite: see there.
        foreach: without effect.

    Raises:
        RuntimeError: as torch does, with `error_if_nonfinite`.

    Source: `torch.nn.utils.get_total_norm`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.nn.utils import get_total_norm
        >>> get_total_norm([jnp.array([3.0]), jnp.array([4.0])])
        Array(5., dtype=float32)
    """
    is_iterator = hasattr(tensors, "__next__")
    arrays = list(tensors) if is_iterator else tensors
    return norms.get_total_norm(arrays, norm_type, error_if_nonfinite)


def clip_grad_norm_(
    parameters: Parameters,
    max_norm: Scalar,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> jax.Array:
    """Shorten `.grad` of all parameters by one factor if their norm is greater than `max_norm`.

    Args:
        parameters: a `Parameter` or an iterable of them; those without a gradient are left out.
        max_norm: in the gradients' unit, at least 0.
        norm_type: see `torchwise.get_total_norm`.
        error_if_nonfinite: raise an error for a norm that is infinite or NaN; no gradient has
            changed then.
        foreach: without effect.

    Returns:
        The norm before, 0-d.

    Raises:
        RuntimeError: as torch does, with `error_if_nonfinite`.
        ValueError: for a `max_norm` that is negative or NaN.

    Source: `torch.nn.utils.clip_grad_norm_`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> from torchwise.nn.utils import clip_grad_norm_
        >>> parameter = optim.Parameter([0.0, 0.0])
        >>> parameter.grad = jnp.array([3.0, 4.0])
        >>> clip_grad_norm_([parameter], max_norm=1.0)
        Array(5., dtype=float32)
        >>> [f"{float(value):.4f}" for value in parameter.grad]
        ['0.6000', '0.8000']
    """
    check_limit("clip_grad_norm_(): max_norm", number(max_norm))
    given = _listed(parameters)
    if isinstance(parameters, types.GeneratorType) and not given:
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2
        )
    grads = [one.grad for one in given if one.grad is not None]
    norm = norms.get_total_norm(grads, norm_type, error_if_nonfinite)
    _change(given, _shortened, max_norm, norm)
    return norm


def clip_grads_with_norm_(
    parameters: Parameters,
    max_norm: Scalar,
    total_norm: Any,
    foreach: bool | None = None,
) -> None:
    """Multiply `.grad` of all parameters by `min(max_norm / (total_norm + 1e-6), 1)`.

    Args:
        parameters: a `Parameter` or an iterable of them; those without a gradient are left out.
        max_norm: in the gradients' unit, at least 0.
        total_norm: what `get_total_norm` returned, 0-d.
        foreach: without effect.

    Raises:
        ValueError: for a `max_norm` that is negative or NaN.

    Source: `torch.nn.utils.clip_grads_with_norm_`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> from torchwise.nn.utils import clip_grads_with_norm_
        >>> parameter = optim.Parameter([0.0])
        >>> parameter.grad = jnp.array([8.0])
        >>> clip_grads_with_norm_(parameter, 1.0, jnp.array(4.0))
        >>> f"{float(parameter.grad[0]):.4f}"
        '2.0000'
    """
    check_limit("clip_grads_with_norm_(): max_norm", number(max_norm))
    _change(_listed(parameters), _shortened, max_norm, jnp.asarray(total_norm))


def clip_grad_value_(
    parameters: Parameters, clip_value: Scalar, foreach: bool | None = None
) -> None:
    """Replace elements of `.grad` below `-clip_value` or above `clip_value` by that.

    Args:
        parameters: a `Parameter` or an iterable of them; those without a gradient are left out.
        clip_value: in the gradients' unit, at least 0.
        foreach: without effect.

    Raises:
        NotImplementedError: as torch does, for complex gradients.
        ValueError: for a `clip_value` that is negative or NaN.

    Source: `torch.nn.utils.clip_grad_value_`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> from torchwise.nn.utils import clip_grad_value_
        >>> parameter = optim.Parameter([0.0, 0.0])
        >>> parameter.grad = jnp.array([0.5, -8.0])
        >>> clip_grad_value_(parameter, 1.0)
        >>> parameter.grad
        Array([ 0.5, -1. ], dtype=float32)
    """
    check_limit("clip_grad_value_(): clip_value", number(clip_value))
    _change(_listed(parameters), _clamped, clip_value)


@jax.jit
def _shortened(grads: list[Any], max_norm: Any, norm: jax.Array) -> list[jax.Array]:
    coefficient = clip_coefficient(max_norm, norm)
    return [mul(grad, coefficient) for grad in grads]


@jax.jit
def _clamped(grads: list[Any], limit: Any) -> list[jax.Array]:
    return [clipped_by_value(grad, limit) for grad in grads]


def _listed(parameters: Parameters) -> list[Parameter]:
    given = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for one in given:
        if not isinstance(one, Parameter):
            raise TypeError(
                f"expected torchwise.optim.Parameter, as in param_groups[0]['params'], but got "
                f"{type(one).__name__}; for arrays there are torchwise.clip_grad_norm(...) in a "
                "chain and optimizer.train_step(..., max_grad_norm=)"
            )
        if is_sparse(one.grad):
            raise NotImplementedError(
                f"the gradient of {one.label} is sparse: pass its todense(), or clip each array by "
                "itself with torchwise.clip_each_by_norm(...) in a chain"
            )
    return given


def _change(
    parameters: Sequence[Parameter], clip: Callable[..., list[jax.Array]], *numbers: Any
) -> None:
    """Put the gradients that there are, clipped in one program, in the places of the old ones."""
    held = [one for one in parameters if one.grad is not None]
    if held:
        clipped = clip([one.grad for one in held], *numbers)
        replace_grads(dict(zip(held, clipped)))
