"""The chains that `to_state_dict` writes as groups, and those of a dict that was loaded."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from torchwise.frames import Frame
from torchwise.param_groups import Routing, chain_states
from torchwise.states import ChainState
from torchwise.structure import difference, first_difference
from torchwise.transformation import Chain
from torchwise.trees import without_variables


class Part(NamedTuple):
    """A chain, and what it works on.

    Attributes:
        chain: one that ends in a rule.
        state: its state; its trees have the leaves of its members alone.
        members: where its parameters stand among the leaves of the whole tree, in the order of
            their ids if that is known.
        options: the group of the state dict that it was made from; None if there was no such group.
        saved: the leaves whose state was in that dict, in its order.
        ids: the names that were ids there, by leaf; None if there were none.
        order: what is known of the order of ids, as in `Grouping`; None for a chain alone.
    """

    chain: Chain
    state: ChainState
    members: tuple[int, ...]
    options: Mapping[str, Any] | None = None
    saved: tuple[int, ...] = ()
    ids: Mapping[int, str] | None = None
    order: str | None = None


class Node(NamedTuple):
    """A transformation with its state, and the tree that it sees.

    Attributes:
        init: optax's function.
        update: likewise.
        state: of the transformation.
        params: the parameters, with a MaskedNode for those that others have.
        places: the same tree, with the position of each leaf in the whole tree.
    """

    init: Any
    update: Any
    state: Any
    params: Any
    places: Any


def routing_of(update: Any) -> Routing | None:
    """Return what the functions of `ParamGroups` are bound to."""
    if isinstance(update, functools.partial) and update.args:
        return update.args[0] if isinstance(update.args[0], Routing) else None
    return None


def loaded_parts(routing: Routing, node: Node) -> Iterator[Part]:
    """Yield the chain of each group, in the order and with the keys of the dict that was loaded."""
    grouping = routing.grouping
    owners = Frame(without_variables(node.params)).read(grouping.labels)
    if owners is None:
        problem = first_difference(node.params, grouping.labels, "params", "the groups")
        raise ValueError(
            f"to_state_dict(): the groups were made for other parameters: {problem}; pass params "
            "as from_state_dict(state_dict, params) got them"
        )
    structure = jax.tree.structure(node.params)
    leaves = [
        None if owner is None else leaf for leaf, owner in zip(jax.tree.leaves(node.params), owners)
    ]
    refuse_other_state(node, structure.unflatten(leaves))
    whole = [leaf for leaf, owner in zip(jax.tree.leaves(node.places), owners) if owner is not None]
    for chain, state, members, options in zip(
        routing.chains, chain_states(node.state), grouping.members, grouping.options
    ):
        yield Part(
            chain,
            state,
            tuple(whole[leaf] for leaf in members),
            options,
            tuple(whole[leaf] for leaf in grouping.saved),
            grouping.ids and {whole[leaf]: name for leaf, name in grouping.ids.items()},
            grouping.order,
        )


def refuse_other_state(node: Node, params: Any) -> None:
    """Raise a ValueError if a state is not that of these parameters."""
    problem = difference(node.state, without_variables(jax.eval_shape(node.init, params)))
    if problem:
        raise ValueError(
            f"to_state_dict(): the state is not that of these parameters: {problem}; pass what "
            "init(), step() or update() of this transform returned for them"
        )
