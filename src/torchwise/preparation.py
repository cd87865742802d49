"""The preparation of a step: gradients, states and parameters in line, and the step counted."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from torchwise import trees
from torchwise.apply import counts, numbers_at
from torchwise.frames import Frame
from torchwise.gathering import gathered
from torchwise.leaf import Leaf, Parts
from torchwise.rounding import full_like
from torchwise.sparse import as_gradient
from torchwise.states import ChainState, refuse_shapes, states_of, trees_of
from torchwise.structure import named


class Composed(Protocol):
    """A chain, or what one is bound to."""

    @property
    def parts(self) -> Parts:
        """The blocks, and the rule that moves the parameter."""
        ...

    @property
    def per_parameter_steps(self) -> bool:
        """Whether every parameter has a step count of its own."""
        ...


class Work(NamedTuple):
    """A step of a chain that is prepared.

    Attributes:
        live: the leaves that have gradients, with their positions.
        step: the new count.
        states: of all leaves, one per part.
        old: the state before.
        params: all leaves.
        frame: of the parameters.
    """

    live: list[tuple[int, Leaf]]
    step: Any
    states: list[tuple[Any, ...]]
    old: ChainState
    params: list[Any]
    frame: Frame

    @property
    def increments(self) -> list[Any]:
        """What leaves without a gradient get in the place of an increment."""
        return list(map(no_increment, self.params))

    def finish(self, results: Sequence[Any], rest: list[Any]) -> tuple[Any, ChainState]:
        """Return the tree of results, with `rest` for leaves without a gradient; and the state."""
        values, states = list(rest), list(self.states)
        for (index, _), (value, held) in zip(self.live, results):
            values[index], states[index] = value, held
        new = tuple(
            trees_of([leaf[position] for leaf in states], old, self.frame.filled)
            for position, old in enumerate(self.old.states)
        )
        return self.frame.treedef.unflatten(values), ChainState(self.step, new)


def no_increment(param: Any) -> Any:
    """Return what leaves a parameter as it is.

    For what is no array that is None, as in optax, and as `equinox.apply_updates` takes it.
    """
    return None if trees.is_constant(param) else full_like(param, -0.0)  # p + -0.0 is p, to the bit


def run(move: Callable[..., list[Any]], works: Sequence[Work]) -> list[list[Any]]:
    """Return the results of several chains, whose leaves go together: a norm is one of them all."""
    leaves = [leaf for work in works for _, leaf in work.live]
    results = iter(move(gathered(leaves)))
    return [[next(results) for _ in work.live] for work in works]


def prepare(call: str, chain: Composed, grads: Any, state: Any, params: Any) -> Work:
    """Line up gradients, states and parameters, count the step, and derive its numbers."""
    parts = chain.parts
    refuse_order(call, grads, params)
    gradients = trees.align(call, grads, params)
    frame = Frame(params)
    leaves = jax.tree.leaves(params)
    arrays = [
        leaf if grad is None and trees.is_constant(leaf) else jnp.asarray(leaf)
        for leaf, grad in zip(leaves, gradients)
    ]
    states, held = states_of(call, parts, state, frame, params)
    refuse_shapes(call, parts, states, params)
    _refuse_stateless(call, gradients, held, params)
    apart = [
        grad is None and (trees.never_moves(leaf) or not has)
        for leaf, grad, has in zip(leaves, gradients, held)
    ]
    step, counted = _counted(call, chain, state.step, gradients, apart, params)
    shared = None if chain.per_parameter_steps else numbers_at(parts, step)
    live = []
    for index, grad in enumerate(gradients):
        if grad is not None:
            param = arrays[index]
            n = numbers_at(parts, counted[index]) if shared is None else shared
            leaf = Leaf(parts, as_gradient(grad, param.dtype), param, states[index], n)
            live.append((index, leaf))
    return Work(live, step, states, state, arrays, frame)


def refuse_order(call: str, grads: Any, params: Any) -> None:
    """Raise for arguments that are missing, or where others belong."""
    order = f"call {call}(grads, state, params)"
    if params is None:
        raise ValueError(f"{call}() needs the parameters: {order}")
    for name, value in (("grads", grads), ("params", params)):
        if isinstance(value, ChainState):
            raise TypeError(f"{call}(): {name} is a state: {order}")
        leaves = jax.tree.leaves(value)
        if leaves and all(trees.is_static(one) and not trees.is_missing(one) for one in leaves):
            raise TypeError(f"{call}(): {name} is {named(value)} without arrays: {order}")
    if grads is None and not jax.tree_util.all_leaves([params]) and jax.tree.leaves(params):
        raise ValueError(f"{call}(): grads is None: {order}, with None for single parameters alone")


def _counted(
    call: str,
    chain: Composed,
    step: Any,
    gradients: Sequence[Any],
    apart: Sequence[bool],
    params: Any,
) -> tuple[Any, list[Any]]:
    """Return the new count, and that of each leaf.

    Args:
        call: see `prepare`.
        chain: likewise.
        step: of the old state.
        gradients: one for each leaf, or None.
        apart: for each leaf, whether it may lack a gradient where steps are counted once for all.
        params: the parameters.
    """
    if step is None:
        if counts(chain.parts):
            raise ValueError(
                f"{call}(): the state has no step, but the transform counts steps, as a schedule "
                "does: pass a state that its own init(params) made; groups behind a block do not "
                "count for it: give the block a number, or an array that changes between steps"
            )
        return None, [None] * len(gradients)
    if chain.per_parameter_steps:
        frame = Frame(params)
        olds = frame.read(step)
        if olds is None:
            raise ValueError(
                f"{call}(): the step of the state is {named(step)}, but the transform counts the "
                "steps of each parameter: pass what init(params) of this transform returned"
            )
        _refuse_stateless(call, gradients, [old is not None for old in olds], params)
        counted = [old if grad is None else old + 1 for old, grad in zip(olds, gradients)]
        return frame.filled(step, counted), counted
    if not jax.tree_util.all_leaves([step]):
        raise ValueError(
            f"{call}(): the state counts the steps of each parameter, the transform once for all: "
            "wrap it as torchwise.chain(transform, per_parameter_steps=True)"
        )
    _refuse_missing(call, gradients, apart, params)
    step = step + 1
    return step, [step] * len(gradients)


def _refuse_missing(
    call: str, gradients: Sequence[Any], apart: Sequence[bool], params: Any
) -> None:
    if all(grad is not None for grad in gradients):
        return
    entries = zip(jax.tree.leaves_with_path(params), gradients, apart)
    missing = [trees.label(path) for (path, _), grad, may in entries if grad is None and not may]
    if missing:
        raise ValueError(
            f"{call}(): no gradient for {', '.join(missing)}, but steps are counted once for all "
            "parameters; torchwise.chain(transform, per_parameter_steps=True) counts them for each "
            "parameter, as torch does"
        )


def _refuse_stateless(
    call: str, gradients: Sequence[Any], held: Sequence[bool], params: Any
) -> None:
    entries = zip(jax.tree.leaves_with_path(params), gradients, held)
    found = [trees.label(path) for (path, _), grad, has in entries if grad is not None and not has]
    if found:
        raise ValueError(
            f"{call}(): the state was made without {', '.join(found)}, for which there is a "
            "gradient: call init with all parameters that are to move"
        )
