"""The way out to pure functions and back: one transform with its state, for all groups."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from torchwise.optim.jobs import initial_entry
from torchwise.optim.parameter import Parameter
from torchwise.transforms import entries
from torchwise.transforms.chain import Chain, ChainState

if TYPE_CHECKING:
    from torchwise.optim.optimizer import Optimizer


def export(optimizer: "Optimizer") -> tuple[Any, Any, Any]:
    """Return a transform, the parameters and the state; the arrays are copies, free to donate."""
    chains, transform, params = _functional(optimizer)
    template = jax.eval_shape(transform.init, params)
    states = [
        _chain_state(optimizer, chain, collection.leaves, inner)
        for chain, collection, inner in zip(chains, optimizer._collections, _inner(template))
    ]
    return transform, jax.tree.map(jnp.array, params), _with_inner(template, states)


def take_back(optimizer: "Optimizer", params: Any, state: Any) -> None:
    """Check what came back against what `export` would return now, then take copies of it."""
    chains, transform, live = _functional(optimizer)
    for name, given, wanted in (
        ("params", params, live),
        ("state", state, jax.eval_shape(transform.init, live)),
    ):
        problem = _difference(given, wanted)
        if problem:
            raise ValueError(f"from_functional() changed nothing: {name}: {problem}")
    params, state = jax.tree.map(jnp.array, (params, state))
    parameters = [one for collection in optimizer._collections for one in collection.leaves]
    for parameter, data in zip(parameters, jax.tree.leaves(params)):
        parameter.data = data
    for chain, collection, inner in zip(chains, optimizer._collections, _inner(state)):
        _take_entries(optimizer, chain, collection.leaves, inner)


def _functional(optimizer: "Optimizer") -> tuple[list[Chain], Any, Any]:
    """Return the chain of each group, one transform for all, and the parameters as arrays."""
    chains = [optimizer._recipe(group).chain for group in optimizer.param_groups]
    trees = [
        jax.tree.map(lambda leaf: leaf.data if isinstance(leaf, Parameter) else None, kept.tree)
        for kept in optimizer._collections
    ]
    if len(chains) == 1:
        return chains, chains[0], trees if optimizer._given_as_groups else trees[0]
    labels = [jax.tree.map(lambda _: index, tree) for index, tree in enumerate(trees)]  # noqa: B023
    return chains, optax.partition(dict(enumerate(chains)), labels), trees


def _inner(state: Any) -> list[ChainState]:
    """Return the state of each group's chain."""
    if isinstance(state, ChainState):
        return [state]
    return [masked.inner_state for masked in state.inner_states.values()]


def _with_inner(template: Any, states: list[ChainState]) -> Any:
    """Return the template of a whole state with these states of the chains."""
    if isinstance(template, ChainState):
        return states[0]
    masked = {
        label: old._replace(inner_state=new)
        for (label, old), new in zip(template.inner_states.items(), states)
    }
    return template._replace(inner_states=masked)


def _chain_state(
    optimizer: "Optimizer", chain: Chain, parameters: list[Parameter], template: ChainState
) -> ChainState:
    """Return a chain's state with the entries of its parameters."""
    held = [{**initial_entry(chain, one), **optimizer.state.get(one, {})} for one in parameters]
    steps = [_count(chain, optimizer.state.get(one), entry) for one, entry in zip(parameters, held)]

    def tree_of(structure: Any, values: list[Any]) -> Any:
        return jax.tree.structure(structure).unflatten(map(jnp.array, values))

    states = tuple(
        type(state)(
            *(
                tree_of(getattr(state, name), [entry[name] for entry in held])
                for name in state._fields
            )
        )
        for state in template.states
    )
    counted = template.step is not None
    return ChainState(tree_of(template.step, steps) if counted else None, tuple(states))


def _count(chain: Chain, kept: dict[str, Any] | None, entry: dict[str, Any]) -> np.int32:
    """Return a step count; where torch keeps none, all that matters is whether it is zero."""
    if entries.STEP in entry:
        return np.int32(entry[entries.STEP])
    names = entries.keys(chain.transforms)
    return np.int32(all(name in (kept or {}) for name in names))


def _take_entries(
    optimizer: "Optimizer", chain: Chain, parameters: list[Parameter], state: ChainState
) -> None:
    """Put a chain's state into the entries of its parameters."""
    fields = {name: jax.tree.leaves(tree) for name, tree in entries.flatten(state.states).items()}
    steps = jax.tree.leaves(state.step)
    for index, parameter in enumerate(parameters):
        entry = {name: leaves[index] for name, leaves in fields.items()}
        if entries.saves_step(chain.transforms):
            entry = {entries.STEP: np.float32(steps[index]), **entry}
        started = steps[index] > 0 if steps else _has_started(chain, parameter, entry)
        if entry and (started or parameter in optimizer.state):
            optimizer.state[parameter] = {**optimizer.state.get(parameter, {}), **entry}


def _has_started(chain: Chain, parameter: Parameter, entry: dict[str, Any]) -> bool:
    """Whether any array of an entry differs, in a bit, from what it was before a gradient."""
    before = initial_entry(chain, parameter)
    return any(np.asarray(entry[k]).tobytes() != np.asarray(before[k]).tobytes() for k in before)


def _difference(given: Any, wanted: Any) -> str | None:
    if jax.tree.structure(given) != jax.tree.structure(wanted):
        return f"{jax.tree.structure(given)}, but expected {jax.tree.structure(wanted)}"
    for (path, one), other in zip(jax.tree.leaves_with_path(given), jax.tree.leaves(wanted)):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return (
                f"{jax.tree_util.keystr(path)} is {one.dtype}{list(one.shape)}, "
                f"but expected {other.dtype}{list(other.shape)}"
            )
    return None
