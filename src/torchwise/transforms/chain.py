"""The combinator: transforms of one array become an optax gradient transformation of a tree."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from torchwise.transforms import trees
from torchwise.transforms.arithmetic import constant_like
from torchwise.transforms.entries import state_type
from torchwise.transforms.evaluation import Leaf, evaluate
from torchwise.transforms.numbers import double
from torchwise.transforms.placement import beside
from torchwise.transforms.transform import Transform, kinds


class ChainState(NamedTuple):
    """The state of a chain.

    Attributes:
        step: a tree like the parameters: how many gradients each has seen (int32, 0-d); None if no
            transform counts.
        states: one NamedTuple a transform, each field a tree like the parameters.
    """

    step: Any
    states: tuple[Any, ...]


class Chain(optax.GradientTransformationExtraArgs):
    """An optax transformation that knows its transforms.

    It is a pytree whose leaves are the hyperparameters, so it can be an argument of a jitted
    function: another learning rate is then other data, not another program.
    """

    transforms: tuple[Transform, ...]

    def __new__(cls, transforms: tuple[Transform, ...]) -> "Chain":
        """Bind `init` and `update` to the transforms."""
        self = super().__new__(
            cls, functools.partial(_init, transforms), functools.partial(_update, transforms)
        )
        self.transforms = transforms
        return self

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.transforms))})"

    def __getnewargs__(self) -> tuple[Any, ...]:  # pickle and copy rebuild from these
        return (self.transforms,)


jax.tree_util.register_pytree_with_keys(
    Chain,
    lambda chain: (
        ((jax.tree_util.GetAttrKey("transforms"), chain.transforms),),
        kinds(chain.transforms),  # no two chains of other blocks have the same structure
    ),
    lambda _, children: Chain(*children),
)


def chain(*transforms: Transform | Chain) -> Chain:
    """Compose building blocks: the gradient passes through them from left to right.

    `init(params)` and `update(grads, state, params)` are pure; the result of `update` is added with
    `optax.apply_updates`. Equality with torch to the bit needs both in one jitted program, since
    torch rounds `param - lr * direction` once. A gradient that is None, or an `optax.MaskedNode`,
    leaves its parameter, its state and its step count as they are.

    Args:
        *transforms: what the functions of this package return, or instances of `Transform`.

    Raises:
        TypeError: for anything else; `optax.chain` composes these chains with other transforms.

    Examples:
        >>> import jax.numpy as jnp, optax, torchwise
        >>> transform = torchwise.chain(torchwise.trace(0.9), torchwise.scale_by_learning_rate(0.5))
        >>> params = {"w": jnp.ones(2), "frozen": jnp.ones(1)}
        >>> grads = {"w": jnp.ones(2), "frozen": None}
        >>> updates, state = transform.update(grads, transform.init(params), params)
        >>> optax.apply_updates(params, updates)["w"]
        Array([0.5, 0.5], dtype=float32)
    """
    flat: list[Transform] = []
    for position, transform in enumerate(transforms):
        if isinstance(transform, Chain):
            flat.extend(transform.transforms)
        elif isinstance(transform, Transform):
            flat.append(transform)
        else:
            raise TypeError(
                f"chain() argument {position} must be a torchwise transform, but got "
                f"{type(transform).__name__}; compose with optax.chain instead"
            )
    return Chain(tuple(flat))


def scalars_at(transforms: tuple[Transform, ...], step: Any) -> tuple[Any, ...]:
    """Return each transform's numbers at a step, in double precision also where they are traced."""
    with jax.enable_x64(True):
        wide = jax.tree.map(double, transforms)
        return tuple(transform.scalars(step) for transform in wide)


def _init(transforms: tuple[Transform, ...], params: Any) -> ChainState:
    counts = any(transform.counts for transform in transforms)
    leaves, treedef = jax.tree.flatten(params)
    leaves = list(map(jnp.asarray, leaves))
    steps = [beside(leaf, jnp.zeros((), jnp.int32)) for leaf in leaves] if counts else []
    step = treedef.unflatten(steps) if counts else None
    states = []
    for transform in transforms:
        initial = [beside(leaf, transform.init(leaf)) for leaf in leaves]
        states.append(_tree_of(initial, state_type(transform), treedef))
    return ChainState(step, tuple(states))


def _update(
    transforms: tuple[Transform, ...],
    updates: Any,
    state: Any,
    params: Any = None,
    **_: Any,  # what optax hands to other transformations
) -> tuple[Any, ChainState]:
    if params is None:
        raise ValueError("update() needs the parameters: call update(grads, state, params)")
    gradients = trees.align(updates, params)
    leaves, treedef = jax.tree.flatten(params)
    steps, columns = _leaves_of(state, treedef)
    states = list(zip(*columns)) if columns else [()] * len(leaves)
    live = [index for index, grad in enumerate(gradients) if grad is not None]

    uncounted = scalars_at(transforms, None) if state.step is None else None
    jobs = []
    for index in live:
        if state.step is not None:
            steps[index] = steps[index] + 1
        param = jnp.asarray(leaves[index])
        grad = jnp.asarray(gradients[index]).astype(param.dtype)
        scalars = scalars_at(transforms, steps[index]) if uncounted is None else uncounted
        jobs.append(Leaf(grad, param, states[index], scalars))
    increments: dict[int, jax.Array] = {}
    for index, result in zip(live, evaluate(transforms, jobs)):
        states[index], increments[index] = result

    step = None if state.step is None else treedef.unflatten(steps)
    new = [
        _tree_of([leaf[position] for leaf in states], type(old), treedef)
        for position, old in enumerate(state.states)
    ]
    full = [
        increments[index] if index in increments else constant_like(jnp.asarray(param), -0.0)
        for index, param in enumerate(leaves)  # p + -0.0 is p, to the bit
    ]
    return treedef.unflatten(full), ChainState(step, tuple(new))


def _tree_of(states: list[Any], kind: Any, treedef: Any) -> Any:
    """Turn one NamedTuple a leaf inside out: into one NamedTuple of trees."""
    fields = ([getattr(state, name) for state in states] for name in kind._fields)
    return kind(*map(treedef.unflatten, fields))


def _leaves_of(state: ChainState, treedef: Any) -> tuple[list[Any], list[list[Any]]]:
    """Return the step of each leaf, and for each transform the list of its states, leaf by leaf."""
    trees_held = [tree for inner in state.states for tree in inner]
    for tree in trees_held if state.step is None else [state.step, *trees_held]:
        if jax.tree.structure(tree) != treedef:
            raise ValueError(
                "update(): the state was made for other parameters:\n"
                f"  state: {jax.tree.structure(tree)}\n  parameters: {treedef}"
            )
    columns = []
    for inner in state.states:
        fields = [jax.tree.leaves(tree) for tree in inner]
        leaves = zip(*fields) if fields else [()] * treedef.num_leaves
        columns.append([type(inner)(*leaf) for leaf in leaves])
    return [] if state.step is None else jax.tree.leaves(state.step), columns
