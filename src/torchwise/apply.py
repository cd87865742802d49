"""How a chain runs on leaves: the one place where platforms differ.

Two things leave a step: new states and new parameters. XLA fuses both into one kernel per parameter
on GPU and TPU. On CPU a fusion has one output, and what both need (the decayed gradient) would
become a temporary as large as the parameter. There the moves are computed in a second pass, from
new states behind a fence that keeps XLA from merging the two.

With `XLA_FLAGS=--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true` a fusion has
several outputs on CPU, too, if they are siblings: computed from the same inputs and not one from
the other. Then the second pass starts from the old states.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import Tracer

from torchwise.fence import fence
from torchwise.fields import fields_of
from torchwise.numbers import double, is_array
from torchwise.rounding import evaluated, full_like, pinned
from torchwise.rule import Block, Rule, Transform

Parts = tuple[Transform, ...]


class Leaf(NamedTuple):
    """One parameter with all that its step needs: one state and one `numbers` per part."""

    parts: Parts
    grad: jax.Array
    param: jax.Array
    states: tuple[Any, ...]
    numbers: tuple[Any, ...]


def numbers_at(parts: Parts, step: Any) -> tuple[Any, ...]:
    """Return each part's numbers at a step, in double precision also where they are traced.

    Hyperparameters that are schedules are called with the number of steps before this one.
    """
    with jax.enable_x64(True):
        wide = jax.tree.map(_double, parts)
        numbers = tuple(_at(part, step).numbers(step if part.counts else None) for part in wide)
    # A known number stays a Python float: as an argument of a program it would lose half its bits.
    return jax.tree.map(_known, numbers)


def _double(value: Any) -> Any:
    return value if callable(value) else double(value)  # a function in a tuple is a leaf


def _known(number: Any) -> Any:
    known = is_array(number) and not isinstance(number, Tracer)
    return number.item() if known and number.size == 1 else number


def counts(parts: Parts) -> bool:
    """Whether a chain of these parts depends on the step."""
    return any(part.counts or schedules(part) for part in parts)


def schedules(part: Transform) -> dict[str, Any]:
    """Return the hyperparameters of a part that are functions of the count, by name.

    A tuple of hyperparameters is one of them if a function is in it. Other functions are fields
    with the metadata `{"static": True}`.
    """
    return {
        field.name: value
        for field in fields_of(type(part))
        if _varies(value := getattr(part, field.name)) and not field.metadata.get("static")
    }


def scheduled(value: Any, count: Any) -> Any:
    """Return a hyperparameter, or a tuple of them, at a count."""
    if isinstance(value, list | tuple):
        return tuple(scheduled(one, count) for one in value)
    return value(count) if callable(value) else value


def at_first(part: Transform) -> Any:
    """Return a part with the first values of its schedules, for checks.

    A plain function for the rate is left alone: it may be made for counts that are arrays.
    """
    found = {
        name: value
        for name, value in schedules(part).items()
        if name != "lr" or not jax.tree_util.all_leaves([value])
    }
    values = {name: jax.tree.map(_known, scheduled(value, 0)) for name, value in found.items()}
    return part.replaced(**values) if values else part


def _varies(value: Any) -> bool:
    return any(map(callable, value)) if isinstance(value, list | tuple) else callable(value)


def _at(part: Transform, step: Any) -> Transform:
    found = schedules(part)
    if not found:
        return part
    values = {name: scheduled(value, step - 1) for name, value in found.items()}
    return part.replaced(**jax.tree.map(double, values))


def step_leaves(leaves: Sequence[Leaf]) -> list[tuple[jax.Array, tuple[Any, ...]]]:
    """Return the new parameter and the new states of each leaf."""
    return _for_each(_step, leaves)


def update_leaves(leaves: Sequence[Leaf]) -> list[tuple[jax.Array, tuple[Any, ...]]]:
    """Return the increment and the new states of each leaf; of mere blocks, what they pass on."""
    return _for_each(_update, leaves)


def _for_each(function: Callable[..., Any], leaves: Sequence[Leaf]) -> list[Any]:
    """Evaluate every leaf, under jit in a function that leaves of one shape share.

    Models repeat their layers: a shape is traced and lowered once. The shared function lives as
    long as this call, so that a new `jax.jit` around it traces anew. Numbers are constants in it
    and arrays its arguments.
    """
    if not any(isinstance(value, Tracer) for value in jax.tree.leaves(list(leaves))):
        return [function(leaf) for leaf in leaves]
    shared: dict[Any, Callable[..., Any]] = {}
    results = []
    for leaf in leaves:
        values, treedef = jax.tree.flatten(leaf)
        arrays = [value for value in values if is_array(value)]
        constants = [None if is_array(value) else value for value in values]
        # repr tells 0.0 from -0.0 and 1 from 1.0, which are equal.
        key = treedef, repr(constants)
        if key not in shared:
            shared[key] = jax.jit(_bound(function, treedef, constants))
        results.append(shared[key](arrays))
    return results


def _bound(function: Callable[..., Any], treedef: Any, constants: list[Any]) -> Callable[..., Any]:
    def call(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        values = [next(rest) if constant is None else constant for constant in constants]
        return function(treedef.unflatten(values))

    return call


def _step(leaf: Leaf) -> tuple[jax.Array, tuple[Any, ...]]:
    states, second = _two_passes(_with_numbers(leaf))
    return _conclude(second, second.param, states)


def _update(leaf: Leaf) -> tuple[jax.Array, tuple[Any, ...]]:
    states, second = _two_passes(_with_numbers(leaf))
    rule = leaf.parts[-1] if leaf.parts else None
    if not isinstance(rule, Rule):
        return evaluated(_direct(second)), states
    if rule.adds:
        return _conclude(second, full_like(second.param, -0.0), states)
    new, states = _conclude(second, second.param, states)
    return new - second.param, states


def _with_numbers(leaf: Leaf) -> Leaf:
    """Add the numbers that depend on the parameter's own state."""
    with jax.enable_x64(True):
        columns = zip(leaf.parts, leaf.states, leaf.numbers)
        own = tuple(part.numbers_of(state, leaf.param, n) for part, state, n in columns)
    return leaf._replace(numbers=own)


def _two_passes(leaf: Leaf) -> tuple[tuple[Any, ...], Leaf]:
    """Return the new states, and the leaf from which the second pass starts."""
    first = _pinned(leaf)
    states = _accumulate(first)
    siblings = _fuses_several_outputs_on_cpu()
    second = leaf if siblings else leaf._replace(states=states)
    grad, param, held = fence((second.grad, second.param, second.states))
    second = _pinned(leaf._replace(grad=grad, param=param, states=held))
    return states, second._replace(states=_accumulate(second)) if siblings else second


def _pinned(leaf: Leaf) -> Leaf:
    """Keep apart what has produced the gradient and the parameter from what is done to them.

    Where a clip coefficient or a loss scale is in the same program, XLA would merge that product
    into the first sum, and the gradient would never be rounded.
    """
    param = pinned(leaf.param)
    return leaf._replace(grad=pinned(leaf.grad, leaf.param), param=param)


def _accumulate(leaf: Leaf) -> tuple[Any, ...]:
    """Advance the states in order. The last direction is dead code, which XLA removes."""
    grad: Any = leaf.grad
    new = []
    for part, state, n in zip(leaf.parts, leaf.states, leaf.numbers):
        new.append(part.accumulate(_input(part, grad), state, leaf.param, n))
        if isinstance(part, Block):
            grad = part.direction(evaluated(grad), new[-1], leaf.param, n)
    return tuple(new)


def _direct(leaf: Leaf) -> Any:
    """Follow the directions in order, off states that have advanced already."""
    grad: Any = leaf.grad
    for part, state, n in zip(leaf.parts, leaf.states, leaf.numbers):
        if isinstance(part, Block):
            grad = part.direction(evaluated(grad), state, leaf.param, n)
    return grad


def _conclude(
    leaf: Leaf, base: jax.Array, states: tuple[Any, ...]
) -> tuple[jax.Array, tuple[Any, ...]]:
    """Move the parameter; a rule may finish its state only now."""
    rule, held = leaf.parts[-1], leaf.states[-1]
    assert isinstance(rule, Rule)
    grad = _input(rule, _direct(leaf))
    new, finished = rule.conclude(base, grad, held, leaf.param, leaf.numbers[-1])
    return new, states if finished is held else (*states[:-1], finished)


def _input(part: Transform, grad: Any) -> Any:
    return grad if isinstance(part, Rule) and part.divides else evaluated(grad)


def _fuses_several_outputs_on_cpu() -> bool:
    """Whether the user has switched on XLA's fusion of several outputs for CPU."""
    return "xla_cpu_use_multi_output_fusion=true" in os.environ.get("XLA_FLAGS", "")
