"""A parameter's state lives where the parameter lives, on one device or on many."""

import contextlib
import functools
from typing import Any

import jax
from jax import lax
from jax.core import Tracer
from jax.experimental.shard_alike import shard_alike
from jax.sharding import NamedSharding, PartitionSpec, Sharding

_GUARD = "jax_transfer_guard_host_to_device"  # known to JAX alone, not to its types


def transfers_are_guarded() -> bool:
    """Whether JAX forbids, or logs, that numbers of the host become arrays by themselves."""
    return getattr(jax.config, _GUARD) not in (None, "allow")


def constants() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which arrays may be made of constants, as `jax.device_put` makes them.

    What is forbidden even to that stays forbidden.
    """
    forbidden = getattr(jax.config, _GUARD) == "disallow"
    return jax.transfer_guard_host_to_device("allow") if forbidden else contextlib.nullcontext()


def placed_like(param: jax.Array, state: Any) -> Any:
    """Return a new state of a parameter, distributed over devices as the parameter is.

    Arrays of the parameter's shape get its sharding; all others are whole on each of its devices.
    """
    return jax.tree.map(functools.partial(_place, param), state)


def varying_like(param: jax.Array, array: jax.Array) -> jax.Array:
    """Return an array of which, inside `shard_map`, each device may have another value.

    It varies over those axes of the mesh over which the parameter does; elsewhere, nothing changes.
    """
    return as_varying(jax.typeof(param), array)


def as_varying(kind: Any, array: jax.Array) -> jax.Array:
    """Return an array that varies over devices as another of this type does, inside `shard_map`."""
    manual = getattr(kind, "manual_axis_type", None)  # the name since JAX 0.10.2, `vma` before
    axes = kind.vma if manual is None else manual.varying
    return lax.pcast(array, tuple(axes), to="varying")


def _place(param: jax.Array, array: jax.Array) -> jax.Array:
    alike = array.shape == param.shape
    if isinstance(param, Tracer):
        # A constant has no sharding, and jit drops parameters whose values nothing depends on.
        return shard_alike(param, array)[1] if alike else array
    if not param.committed:
        return array
    return jax.device_put(array, param.sharding if alike else _whole(param.sharding))


def _whole(sharding: Sharding) -> Sharding:
    """The sharding that puts all of an array on each of the same devices."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec(), memory_kind=sharding.memory_kind)
    return sharding
