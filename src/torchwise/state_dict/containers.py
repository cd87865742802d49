"""The chains of torchwise inside a transformation of optax, and their states inside its state.

optax composes functions. What a container holds is found in the closures of its functions: by the
names that optax gives them where it decides which parameters a chain has, else by search.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from torchwise.state_dict.neighbors import name_of, refuse_neighbor
from torchwise.state_dict.parts import (
    Node,
    Part,
    loaded_parts,
    refuse_other_state,
    routing_of,
)
from torchwise.states import ChainState
from torchwise.transformation import Chain, Definition


def parts_of(transform: Any, state: Any, params: Any) -> list[Part]:
    """Return the chains that a transformation consists of.

    Args:
        transform: a chain, `ParamGroups`, or `optax.chain`, `named_chain`, `partition`, `masked`,
            `MultiSteps` or `inject_hyperparams` around them, in each other too; or another
            container around one chain.
        state: its state, without Flax's variables.
        params: the parameters.

    Raises:
        TypeError: if there is no chain in it.
        ValueError: naming what torch has no place for, or if the state is not that of the
            parameters.
    """
    init, update = _functions(transform)
    structure = jax.tree.structure(params)
    places = structure.unflatten(range(structure.num_leaves))
    node = Node(init, update, state, params, places)
    if not _has_chain(node):
        raise TypeError(
            "to_state_dict() needs a torchwise chain, a transformation around one, or what "
            f"from_state_dict() returned, but got {type(transform).__name__} with none"
        )
    return list(_parts(node))


def _functions(transform: Any) -> tuple[Any, Any]:
    if not hasattr(transform, "init") or not hasattr(transform, "update"):
        return None, None
    return transform.init, transform.update


def _definition(init: Any) -> Definition | None:
    """Return what a chain's functions are bound to."""
    if isinstance(init, functools.partial) and init.args:
        return init.args[0] if isinstance(init.args[0], Definition) else None
    return None


def _parts(node: Node) -> Iterator[Part]:
    routing = routing_of(node.update)
    if routing is not None:
        yield from loaded_parts(routing, node)
        return
    definition = _definition(node.init)
    if definition is not None:
        yield _part(definition, node)
        return
    kind, inner = _inner(node)
    if kind in ("chain", "named_chain"):
        yield from _in_sequence(kind, inner)
    elif kind is not None:
        for one in inner:
            if _has_chain(one):
                yield from _parts(one)
            else:
                refuse_neighbor(kind, one.init, one.update, one.state, "beside")
    else:
        yield _part_by_search(node)


def _in_sequence(kind: str, inner: list[Node]) -> Iterator[Part]:
    taken: set[int] = set()
    for one in inner:
        if not _has_chain(one):
            place = "behind" if taken else "before"
            refuse_neighbor(kind, one.init, one.update, one.state, place)
            continue
        for part in _parts(one):
            if taken & {*part.members}:
                raise ValueError(
                    f"to_state_dict(): optax.{kind} has two optimizers, one after the other, for "
                    f"the same parameters; the second is {part.chain!r}, and torch has only one"
                )
            taken |= {*part.members}
            yield part


def _part(definition: Definition, node: Node) -> Part:
    chain = Chain(definition.transforms, definition.per_parameter_steps)
    refuse_other_state(node._replace(init=chain.init), node.params)
    return Part(chain, node.state, tuple(jax.tree.leaves(node.places)))


def _part_by_search(node: Node) -> Part:
    """Return the one chain of a container that is not known, if its state is all that there is."""
    name = name_of(node.init, node.update)
    found = {id(one): one for one in _search((node.init, node.update), set())}
    leaves = jax.tree.leaves(node.state, is_leaf=lambda one: isinstance(one, ChainState))
    states = [leaf for leaf in leaves if isinstance(leaf, ChainState)]
    others = [leaf for leaf in leaves if not isinstance(leaf, ChainState) and np.ndim(leaf)]
    if len(found) != 1 or len(states) != 1 or others:
        raise ValueError(
            f"to_state_dict(): torch has no place for the state of {name}, which is around "
            f"{len(found)} torchwise chains"
        )
    (definition,) = found.values()
    return _part(definition, node._replace(state=states[0]))


def _has_chain(node: Node) -> bool:
    if _definition(node.init) is not None or routing_of(node.update) is not None:
        return True
    kind, inner = _inner(node)
    if kind is None:
        return any(True for _ in _search((node.init, node.update), set()))
    return any(map(_has_chain, inner))


def _inner(node: Node) -> tuple[str | None, list[Node]]:
    """Return which container of optax this is, and what is in it; None for another."""
    owner = getattr(node.init, "__self__", None)
    if isinstance(owner, optax.MultiSteps):
        return "MultiSteps", [_of_multi_steps(owner, node)]
    if not inspect.isfunction(node.init) or not node.init.__module__.startswith("optax."):
        return None, []
    kind = node.init.__qualname__.split(".")[0]
    reader = _READERS.get(kind)
    if reader is None:
        return None, []
    held = inspect.getclosurevars(node.init).nonlocals
    return kind, reader(node, held)


def _of_chain(node: Node, held: Any) -> list[Node]:
    updates = inspect.getclosurevars(node.update).nonlocals["update_fns"]
    return [
        node._replace(init=init, update=update, state=state)
        for init, update, state in zip(held["init_fns"], updates, node.state, strict=True)
    ]


def _of_named_chain(node: Node, held: Any) -> list[Node]:
    return [_within(node, one, node.state[name]) for name, one in held["transforms"]]


def _of_masked(node: Node, held: Any) -> list[Node]:
    mask = held["mask"]
    mask = mask(node.params) if callable(mask) else mask
    return [_under(mask, _within(node, held["inner"], node.state.inner_state))]


def _of_partition(node: Node, held: Any) -> list[Node]:
    labels = held["param_labels"]
    labels = labels(node.params) if callable(labels) else labels
    return [
        _under(
            jax.tree.map(lambda one, label=label: one == label, labels),
            _within(node, transform, node.state.inner_states[label].inner_state),
        )
        for label, transform in held["transforms"].items()
    ]


def _of_injected(node: Node, held: Any) -> list[Node]:
    """Return the chain with the hyperparameters of its next step, arrays as in the run."""
    values = {key: jnp.asarray(value) for key, value in node.state.hyperparams.items()}
    for key, schedule in held["sched_hps"].items():
        value = schedule(node.state.hyperparams_states[key])
        values[key] = jnp.asarray(value, values[key].dtype)
    transform = held["inner_factory"](**held["other_hps"], **values)
    return [_within(node, transform, node.state.inner_state)]


def _of_multi_steps(owner: Any, node: Node) -> Node:
    if int(node.state.mini_step):
        raise ValueError(
            f"to_state_dict(): optax.MultiSteps holds the gradients of {int(node.state.mini_step)} "
            "micro batches, for which torch has no place; save when a whole batch is done"
        )
    return _within(node, vars(owner)["_opt"], node.state.inner_opt_state)


_READERS: dict[str, Callable[[Node, Any], list[Node]]] = {
    "chain": _of_chain,
    "named_chain": _of_named_chain,
    "masked": _of_masked,
    "partition": _of_partition,
    "inject_hyperparams": _of_injected,
}


def _within(node: Node, transform: Any, state: Any) -> Node:
    return node._replace(init=transform.init, update=transform.update, state=state)


def _under(mask: Any, node: Node) -> Node:
    """Return a node that sees only what a mask, or a prefix of one, lets through."""

    def masked(tree: Any) -> Any:
        return jax.tree.map(lambda keep, x: x if keep else optax.MaskedNode(), mask, tree)

    return node._replace(params=masked(node.params), places=masked(node.places))


def _search(value: Any, seen: set[int]) -> Iterator[Definition]:
    """Yield the definitions of chains that functions and objects of optax hold."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Definition):
        yield value
    elif isinstance(value, functools.partial):
        yield from _search((value.func, value.args, value.keywords), seen)
    elif isinstance(value, dict):
        yield from _search((*value.values(),), seen)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _search(one, seen)
    elif hasattr(value, "__self__"):  # a bound method
        yield from _search(value.__self__, seen)
    elif hasattr(value, "__closure__"):
        for cell in value.__closure__ or ():
            yield from _search(cell.cell_contents, seen)
    elif type(value).__module__.startswith("optax."):
        yield from _search(vars(value), seen)
