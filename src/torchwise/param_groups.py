"""Parameter groups: a chain for each, and one transformation that routes every leaf to its own."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from torchwise import trees
from torchwise.transformation import Chain, ChainState


@dataclasses.dataclass(frozen=True, eq=False)
class Grouping:
    """Which leaves of a tree belong to which group; a constant, compared by identity.

    Attributes:
        members: for each group, where its parameters stand among the leaves, in the group's order.
        labels: a tree like the parameters, with the number of the group of each.
        options: for each group, the state dict's group without its parameters, or None.
        saved: the leaves whose state was in the state dict, in its order.
    """

    members: tuple[tuple[int, ...], ...]
    labels: Any
    options: tuple[Mapping[str, Any] | None, ...]
    saved: tuple[int, ...]


class ParamGroups(optax.GradientTransformationExtraArgs):
    """One transformation for several chains, each for its own leaves.

    With one group, its state is that of the group's chain. Like a chain it is a pytree whose leaves
    are hyperparameters, so it can be an argument of a jitted function.

    Attributes:
        chains: one per group.
        grouping: which leaves belong to which group.
    """

    chains: tuple[Chain, ...]
    grouping: Grouping

    def __new__(cls, chains: Sequence[Chain], grouping: Grouping) -> "ParamGroups":
        """Bind `init` and `update` to the chains."""
        if len(chains) == 1:
            transform = chains[0]
        else:  # a function, since a tree of labels may be callable itself, as many models are
            transform = optax.partition(dict(enumerate(chains)), lambda _: grouping.labels)
        self = super().__new__(cls, transform.init, transform.update)
        self.chains = tuple(chains)
        self.grouping = grouping
        return self

    def step(self, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """Return the new parameters and the new state, as `Chain.step` does."""
        gradients = trees.align("step", grads, params)
        leaves, treedef = jax.tree.flatten(params)
        states = []
        for chain, members, inner in zip(self.chains, self.grouping.members, chain_states(state)):
            own = set(members) if len(self.chains) > 1 else range(len(leaves))
            theirs, values = (
                treedef.unflatten(
                    [x if index in own else optax.MaskedNode() for index, x in enumerate(tree)]
                )
                for tree in (gradients, leaves)
            )
            new, inner = chain.step(theirs, inner, values)
            for index, value in zip(sorted(own), jax.tree.leaves(new)):
                leaves[index] = value
            states.append(inner)
        return treedef.unflatten(leaves), with_chain_states(state, states)

    def __repr__(self) -> str:
        return f"ParamGroups({', '.join(map(repr, self.chains))})"

    def __getnewargs__(self) -> tuple[Any, ...]:  # pickle and copy rebuild from these
        return self.chains, self.grouping


jax.tree_util.register_pytree_with_keys(
    ParamGroups,
    lambda groups: (((jax.tree_util.GetAttrKey("chains"), groups.chains),), groups.grouping),
    lambda grouping, children: ParamGroups(*children, grouping=grouping),
)


def group_leaves(
    params: Any,
    members: Sequence[Sequence[int]],
    options: Sequence[Mapping[str, Any]] | None = None,
    saved: Sequence[int] = (),
) -> Grouping:
    """Return a grouping of the leaves of a tree.

    Args:
        params: the tree.
        members: for each group, the positions of its leaves; each leaf is in one group.
        options: see `Grouping`.
        saved: see `Grouping`.
    """
    structure = jax.tree.structure(params)
    owner = {leaf: number for number, leaves in enumerate(members) for leaf in leaves}
    labels = structure.unflatten([owner[leaf] for leaf in range(structure.num_leaves)])
    kept = (None,) * len(members) if options is None else tuple(options)
    return Grouping(tuple(map(tuple, members)), labels, kept, tuple(saved))


def chain_states(state: Any) -> list[ChainState]:
    """Return the state of each group's chain; its trees have the group's leaves alone."""
    if isinstance(state, ChainState):
        return [state]
    return [masked.inner_state for masked in state.inner_states.values()]


def with_chain_states(template: Any, states: Sequence[ChainState]) -> Any:
    """Return the template of a whole state with these states of the chains."""
    if isinstance(template, ChainState):
        return states[0]
    masked = {
        label: old._replace(inner_state=new)
        for (label, old), new in zip(template.inner_states.items(), states)
    }
    return template._replace(inner_states=masked)
