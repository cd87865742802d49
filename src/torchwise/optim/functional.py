"""The way out to pure functions and back: one transform with its state, for all groups."""

import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from torchwise.optim.parameter import Parameter
from torchwise.state_dict.leaves import chain_state, entries_of
from torchwise.transforms.chain import Chain
from torchwise.transforms.param_groups import (
    ParamGroups,
    chain_states,
    group_leaves,
    with_chain_states,
)
from torchwise.transforms.trees import difference

if TYPE_CHECKING:
    from torchwise.optim.optimizer import Optimizer


def export(optimizer: "Optimizer") -> tuple[Any, Any, Any]:
    """Return a transform, the parameters and the state; the arrays are copies, free to donate."""
    chains, transform, params = _functional(optimizer)
    template = jax.eval_shape(transform.init, params)
    states = []
    for chain, collection, inner in zip(chains, optimizer._collections, chain_states(template)):
        held = [optimizer.state.get(one) for one in collection.leaves]
        states.append(chain_state(chain, inner, held, [one.data for one in collection.leaves]))
    return transform, jax.tree.map(jnp.array, params), with_chain_states(template, states)


def take_back(optimizer: "Optimizer", params: Any, state: Any) -> None:
    """Check what came back against what `export` would return now, then take copies of it."""
    chains, transform, live = _functional(optimizer)
    for name, given, wanted in (
        ("params", params, live),
        ("state", state, jax.eval_shape(transform.init, live)),
    ):
        problem = difference(given, wanted)
        if problem:
            raise ValueError(f"from_functional() changed nothing: {name}: {problem}")
    params, state = jax.tree.map(jnp.array, (params, state))
    parameters = [one for collection in optimizer._collections for one in collection.leaves]
    for parameter, data in zip(parameters, jax.tree.leaves(params)):
        parameter.data = data
    for chain, collection, inner in zip(chains, optimizer._collections, chain_states(state)):
        found = entries_of(chain, inner, [one.data for one in collection.leaves])
        for parameter, (entry, started) in zip(collection.leaves, found):
            if entry and (started or parameter in optimizer.state):
                optimizer.state[parameter] = {**optimizer.state.get(parameter, {}), **entry}


def _functional(optimizer: "Optimizer") -> tuple[list[Chain], Any, Any]:
    """Return the chain of each group, one transform for all, and the parameters as arrays."""
    chains = [optimizer._recipe(group).chain for group in optimizer.param_groups]
    trees = [
        jax.tree.map(lambda leaf: leaf.data if isinstance(leaf, Parameter) else None, kept.tree)
        for kept in optimizer._collections
    ]
    if len(chains) == 1:
        return chains, chains[0], trees if optimizer._given_as_groups else trees[0]
    leaves = itertools.chain.from_iterable(kept.leaves for kept in optimizer._collections)
    position = {parameter: index for index, parameter in enumerate(leaves)}
    members = [[position[one] for one in group["params"]] for group in optimizer.param_groups]
    return chains, ParamGroups(chains, group_leaves(trees, members)), trees
