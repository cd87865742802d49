"""The state of a chain: lined up with the parameters, checked, and made of states of leaves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise import trees
from torchwise.frames import Frame
from torchwise.leaf import Parts
from torchwise.rule import Transform
from torchwise.structure import first_difference, named


class ChainState(NamedTuple):
    """The state of a chain.

    Attributes:
        step: how many gradients there have been (int32, 0-d); a tree of such counts, like the
            parameters, with `per_parameter_steps`; None if nothing in the chain needs it.
        states: one NamedTuple per part, each field a tree like the parameters, or None.
    """

    step: Any
    states: tuple[Any, ...]


def all_fields(part: Transform, states: list[Any]) -> Any:
    """Return a state that has whatever one of these has; without any, what arrays of 0 or 2 have.

    optax calls `init` with a tree that has no leaves to find out where the parameters are.
    """
    shapes = () if states else ((), (1, 1))
    examples = [jax.eval_shape(part.init, jax.ShapeDtypeStruct(one, "float32")) for one in shapes]
    columns = zip(*states, *examples) if part.State._fields else ()
    return part.State(*(next((one for one in each if one is not None), None) for each in columns))


def trees_of(states: list[Any], like: Any, tree_of: Callable[[Any, list[Any]], Any]) -> Any:
    """Turn one NamedTuple per leaf inside out: into one of trees, or None where `like` has None."""
    fields = []
    for name, example in like._asdict().items():
        values = [getattr(state, name) for state in states]
        filled = [trees.absent() if value is None else value for value in values]
        fields.append(None if example is None else tree_of(example, filled))
    return type(like)(*fields)


def states_of(
    call: str, parts: Parts, state: Any, frame: Frame, params: Any
) -> tuple[list[tuple[Any, ...]], list[bool]]:
    """Return the states of each leaf, one per part; and whether the state was made for the leaf."""
    size = frame.treedef.num_leaves
    if not isinstance(state, ChainState):
        raise ValueError(wrong_state(call, state))
    kinds, wanted = [type(one) for one in state.states], [part.State for part in parts]
    if kinds != wanted:
        raise ValueError(wrong_state(call, state, f", which has {_names(wanted)}"))
    columns, held = [], [True] * size
    for inner in state.states:
        fields = []
        for tree in inner:
            leaves = [trees.absent()] * size if tree is None else frame.read(tree)
            if leaves is None:
                problem = first_difference(tree, params, "the state", "params")
                raise ValueError(
                    f"{call}(): the state was made for other parameters: {problem}; pass params as "
                    "init(params) got them"
                )
            held = [has and leaf is not None for has, leaf in zip(held, leaves)]
            fields.append([None if _lacks(leaf) else leaf for leaf in leaves])
        rows = zip(*fields) if fields else [()] * size
        columns.append([type(inner)(*row) for row in rows])
    return (list(zip(*columns)) if columns else [()] * size), held


def wrong_state(call: str, state: Any, wanted: str = "") -> str:
    """Return the error for what is no state of a transform."""
    remedy = f"{wanted}: call {call}(grads, state, params) with what init(params) returned"
    if isinstance(state, ChainState):
        return (
            f"{call}(): the state is that of another transform: "
            f"{_names([type(one) for one in state.states])}, not one that init() of this transform "
            f"returned{remedy}"
        )
    if isinstance(state, Mapping) and "param_groups" in state:
        return (
            f"{call}(): the state is a state dict of torch, not one that init() of this transform "
            "returned: from_state_dict(state_dict, params) returns a transform and its state"
        )
    return (
        f"{call}(): the state is not one that init() of this transform returned, but {named(state)}"
        f"{remedy}"
    )


def _names(states: Sequence[Any]) -> str:
    return f"({', '.join(one.__name__ for one in states)})"


def refuse_shapes(call: str, parts: Parts, states: Sequence[tuple[Any, ...]], params: Any) -> None:
    """Raise a ValueError for states of parameters of other shapes, which might broadcast."""
    known: dict[Any, Any] = {}
    problems = []
    for (path, param), held in zip(jax.tree.leaves_with_path(params), states):
        if trees.is_static(param):
            continue
        shape, dtype = jnp.shape(param), jnp.result_type(param)
        for index, (part, state) in enumerate(zip(parts, held)):
            for name, value in state._asdict().items():
                if value is None or jnp.shape(value) == shape:  # as most are
                    continue
                if (index, shape, dtype) not in known:
                    like = jax.ShapeDtypeStruct(shape, dtype)
                    known[index, shape, dtype] = jax.eval_shape(part.init, like)
                wanted = getattr(known[index, shape, dtype], name)
                if wanted is not None and jnp.shape(value) != wanted.shape:
                    problems.append(
                        f"{trees.label(path)}: {name!r} has shape {jnp.shape(value)}, but the "
                        f"parameter has {shape}"
                    )
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{call}(): the state does not fit; init(params) makes one that does:\n  {listed}"
        )


def _lacks(leaf: Any) -> bool:
    return leaf is None or trees.is_absent(leaf)
