"""Parameter groups: a chain for each, and one transformation that routes every leaf to its own."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from torchwise import trees
from torchwise.apply import step_leaves, update_leaves
from torchwise.frames import Frame
from torchwise.preparation import Work, no_increment, prepare, refuse_order, run
from torchwise.rule import Block, Empty
from torchwise.states import ChainState, wrong_state
from torchwise.structure import first_difference
from torchwise.transformation import Chain


@dataclasses.dataclass(frozen=True, eq=False)
class Grouping:
    """Which leaves of a tree belong to which group; a constant, compared by identity.

    Attributes:
        members: for each group, where its parameters stand among the leaves, in the group's order.
        labels: a tree like the parameters, with the number of the group of each, without Flax's
            variables: `nnx.Optimizer` passes them to `init`, and arrays alone to `update`.
        options: for each group, the state dict's group without its parameters, or None.
        saved: the leaves whose state was in the state dict, in its order.
        ids: the name that the state dict had for the id of each leaf; None if it counted.
        order: what is known of the order of ids in torch: "known"; "lost", if it was not in the
            dict that was loaded, where any order does for steps as long as there is no state; None
            if nobody has said anything, and JAX has sorted the tree.
    """

    members: tuple[tuple[int, ...], ...]
    labels: Any
    options: tuple[Mapping[str, Any] | None, ...]
    saved: tuple[int, ...]
    ids: Mapping[int, str] | None = None
    order: str | None = "known"


class Routing(NamedTuple):
    """What `update` of `ParamGroups` is bound to; see its attributes."""

    chains: tuple[Chain, ...]
    grouping: Grouping
    front: tuple[Block, ...]


class ParamGroups(optax.GradientTransformationExtraArgs):
    """One transformation for several chains, each for its own leaves.

    With one group, its state is that of the group's chain. Like a chain it is a pytree whose leaves
    are hyperparameters, so it can be an argument of a jitted function.

    Attributes:
        chains: one per group.
        grouping: which leaves belong to which group.
        front: blocks without a state, which all gradients pass first. One that gathers sees those
            of all groups.
    """

    chains: tuple[Chain, ...]
    grouping: Grouping
    front: tuple[Block, ...]
    _routing: Routing

    def __new__(
        cls, chains: Sequence[Chain], grouping: Grouping, front: Sequence[Block] = ()
    ) -> "ParamGroups":
        """Bind `init` and `update` to the chains."""
        if len(chains) == 1:
            transform = chains[0]
        else:  # a function, since a tree of labels may be callable itself, as many models are
            transform = optax.partition(
                dict(enumerate(chains)), functools.partial(_labels, grouping)
            )
        routing = Routing(tuple(chains), grouping, tuple(front))
        self = super().__new__(cls, transform.init, functools.partial(_update, routing))
        self.chains, self.grouping, self.front = self._routing = routing
        return self

    def step(
        self, grads: Any, state: Any, params: Any, *, whole_program: bool = False
    ) -> tuple[Any, Any]:
        """Return the new parameters and the new state, as `Chain.step` does."""
        move = functools.partial(step_leaves, whole_program=whole_program)
        return _advance("step", self._routing, grads, state, params, move)

    def behind(self, blocks: Sequence[Block]) -> "ParamGroups":
        """Return the same groups, with the same state, behind blocks that have none."""
        return ParamGroups(self.chains, self.grouping, (*blocks, *self.front))

    def __repr__(self) -> str:
        groups = f"ParamGroups({', '.join(map(repr, self.chains))})"
        return f"chain({', '.join([*map(repr, self.front), groups])})" if self.front else groups

    def __getnewargs__(self) -> tuple[Any, ...]:  # pickle and copy rebuild from these
        return self.chains, self.grouping, self.front


jax.tree_util.register_pytree_with_keys(
    ParamGroups,
    lambda groups: (
        (
            (jax.tree_util.GetAttrKey("chains"), groups.chains),
            (jax.tree_util.GetAttrKey("front"), groups.front),
        ),
        groups.grouping,
    ),
    lambda grouping, children: _regrouped(grouping, *children),
)


def _regrouped(grouping: Grouping, chains: Any, front: Any) -> ParamGroups:
    return ParamGroups(chains, grouping, front)


def _labels(grouping: Grouping, params: Any) -> Any:
    """Return the number of the group of each parameter, for a tree of the same structure."""
    labels = grouping.labels
    if params is not None and not jax.tree.leaves(params):  # optax asks with a placeholder
        return labels
    if jax.tree.structure(trees.without_variables(params)) != jax.tree.structure(labels):
        raise ValueError(_other_parameters("init", labels, params))
    return jax.tree.structure(params).unflatten(jax.tree.leaves(labels))


def _other_parameters(call: str, labels: Any, params: Any) -> str:
    bare = trees.without_variables(params)
    problem = first_difference(labels, bare, "the groups", "params")
    return (
        f"{call}(): the groups were made for other parameters: {problem}; pass params as "
        "from_state_dict(state_dict, params) got them"
    )


def _update(
    routing: Routing,
    updates: Any,
    state: Any,
    params: Any = None,
    **_: Any,  # what optax hands to other transformations
) -> tuple[Any, Any]:
    return _advance("update", routing, updates, state, params, update_leaves)


def _advance(
    call: str, routing: Routing, grads: Any, state: Any, params: Any, move: Callable[..., Any]
) -> tuple[Any, Any]:
    """Return new parameters, or for `update` increments, and the new state.

    The leaves of all groups go together, so that what a block gathers is that of all groups.
    """
    refuse_order(call, grads, params)
    gradients = trees.align(call, grads, params)
    leaves, treedef = jax.tree.flatten(params)
    owners = _owners(call, routing, gradients, params)
    apart = set(range(len(leaves))).difference(*owners)
    works = []
    for chain, own, inner in zip(routing.chains, owners, _own_states(call, routing, state)):
        theirs, values = (
            treedef.unflatten(
                [
                    x if index in own else None if index in apart else optax.MaskedNode()
                    for index, x in enumerate(tree)
                ]
            )
            for tree in (gradients, leaves)
        )
        works.append(_prepared(call, routing.front, chain, theirs, inner, values))
    stepping = call == "step"
    results = run(move, works)
    states = []
    for work, own, found in zip(works, owners, results):
        new, inner = work.finish(found, work.params if stepping else work.increments)
        for index, value in zip(sorted(own), work.frame.treedef.flatten_up_to(new)):
            leaves[index] = value
        states.append(inner._replace(states=inner.states[len(routing.front) :]))
    if not stepping:
        for index in apart:
            leaves[index] = no_increment(leaves[index])
    return treedef.unflatten(leaves), with_chain_states(state, states)


def _owners(call: str, routing: Routing, gradients: Sequence[Any], params: Any) -> list[set[int]]:
    """Return which leaves each group has; of a whole model, some leaves are in none."""
    if len(routing.chains) == 1:
        return [set(range(len(gradients)))]
    labels = routing.grouping.labels
    found = Frame(trees.without_variables(params)).read(labels)
    if found is None:
        raise ValueError(_other_parameters(call, labels, params))
    entries = zip(jax.tree.leaves_with_path(params), gradients, found)
    lost = [
        trees.label(path) for (path, _), grad, own in entries if own is None and grad is not None
    ]
    if lost:
        raise ValueError(
            f"{call}(): {', '.join(lost)} has a gradient, but is in no group: pass None for it"
        )
    return [
        {leaf for leaf, own in enumerate(found) if own == number}
        for number in range(len(routing.chains))
    ]


def _own_states(call: str, routing: Routing, state: Any) -> list[Any]:
    """Return the state of each group's chain, where it is of these groups."""
    if len(routing.chains) == 1:
        return [state]
    inner = getattr(state, "inner_states", None)
    if not isinstance(inner, Mapping) or len(inner) != len(routing.chains):
        raise ValueError(wrong_state(call, state, f", which has {len(routing.chains)} groups"))
    return chain_states(state)


def _prepared(
    call: str, front: Sequence[Block], chain: Chain, grads: Any, state: Any, params: Any
) -> Work:
    """Prepare a step of a chain behind blocks without a state."""
    if front and isinstance(state, ChainState):
        chain = Chain((*front, *chain.transforms), chain.per_parameter_steps)
        state = state._replace(states=(*(Empty() for _ in front), *state.states))
    return prepare(call, chain, grads, state, params)


def group_leaves(
    params: Any,
    members: Sequence[Sequence[int]],
    options: Sequence[Mapping[str, Any]] | None = None,
    saved: Sequence[int] = (),
    **facts: Any,
) -> Grouping:
    """Return a grouping of the leaves of a tree.

    Args:
        params: the tree.
        members: for each group, the positions of its leaves; each leaf is in one group.
        options: see `Grouping`.
        saved: see `Grouping`.
        **facts: `ids` and `order` of `Grouping`.
    """
    structure = jax.tree.structure(trees.without_variables(params))
    owner = {leaf: number for number, leaves in enumerate(members) for leaf in leaves}
    labels = structure.unflatten([owner[leaf] for leaf in range(structure.num_leaves)])
    kept = (None,) * len(members) if options is None else tuple(options)
    return Grouping(tuple(map(tuple, members)), labels, kept, tuple(saved), **facts)


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
