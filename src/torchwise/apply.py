"""How a chain runs on leaves: the one place where platforms differ.

Two things leave a step: new states and new parameters. XLA fuses both into one kernel per parameter
on GPU and TPU. On CPU a fusion has one output, and what both need (the decayed gradient) would
become a temporary as large as the parameter. There the moves are computed in a second pass, from
new states behind a fence that keeps XLA from merging the two; for large parameters strip by strip.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.core import Tracer

from torchwise import pinning, strips
from torchwise.fence import fence
from torchwise.fields import fields_of
from torchwise.leaf import Leaf, Parts, accumulate, conclude, direct, with_numbers
from torchwise.numbers import double, is_array
from torchwise.rounding import evaluated, full_like, pinned
from torchwise.rule import Rule, Transform
from torchwise.sparse import by_rows, without_rows


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


def step_leaves(
    leaves: Sequence[Leaf], whole_program: bool = False
) -> list[tuple[jax.Array, tuple[Any, ...]]]:
    """Return the new parameter and the new states of each leaf.

    Args:
        leaves: all that are stepped.
        whole_program: whether nothing else is in the program. Then large parameters may be stepped
            in strips. Where a program computes the gradients as well, a loop would come too late to
            find them in the cache, and all of them would be held until then.
    """
    return _for_each(by_rows(_step), leaves, whole_program)


def update_leaves(leaves: Sequence[Leaf]) -> list[tuple[jax.Array, tuple[Any, ...]]]:
    """Return the increment and the new states of each leaf; of mere blocks, what they pass on."""
    return _for_each(without_rows(_update), leaves, whole_program=False)


def _for_each(
    function: Callable[[Leaf], Any], leaves: Sequence[Leaf], whole_program: bool
) -> list[Any]:
    """Evaluate every leaf, under jit in a function that leaves of one shape share.

    Models repeat their layers: a shape is traced and lowered once. The shared function lives as
    long as this call, so that a new `jax.jit` around it traces anew. Numbers are constants in it
    and arrays its arguments.
    """
    if not any(isinstance(value, Tracer) for value in jax.tree.leaves(list(leaves))):
        return [function(leaf) for leaf in leaves]
    zeros = pinning.zeros_for(value for leaf in leaves for value in (leaf.grad, leaf.param))
    in_strips = strips.fit(leaves) if whole_program else [False] * len(leaves)
    shared: dict[Any, Callable[..., Any]] = {}
    results = []
    for leaf, cut in zip(leaves, in_strips):
        values, treedef = jax.tree.flatten(leaf)
        arrays = [value for value in values if is_array(value)]
        constants = [None if is_array(value) else value for value in values]
        # repr tells 0.0 from -0.0 and 1 from 1.0, which are equal.
        key = treedef, repr(constants), cut
        if key not in shared:
            call = _bound(function, treedef, constants, whole_program)
            if cut:
                strip_by_strip = _bound(by_rows(strips.step), treedef, constants, whole_program)
                call = _on_cpu(strip_by_strip, call)
            shared[key] = jax.jit(call)
        results.append(shared[key](arrays, zeros))
    return results


def _bound(
    function: Callable[..., Any], treedef: Any, constants: list[Any], whole_program: bool
) -> Callable[..., Any]:
    def call(arrays: list[Any], zeros: pinning.Zeros) -> Any:
        rest = iter(arrays)
        values = [next(rest) if constant is None else constant for constant in constants]
        with pinning.sharing(zeros, given=whole_program):
            return function(treedef.unflatten(values))

    return call


def _on_cpu(on_cpu: Callable[..., Any], elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    """Choose by platform; derivatives are those of the second function, which has no loop."""
    differentiable = jax.custom_jvp(on_cpu)
    differentiable.defjvp(lambda values, tangents: jax.jvp(elsewhere, values, tangents))
    return lambda *values: lax.platform_dependent(*values, cpu=differentiable, default=elsewhere)


def _step(leaf: Leaf) -> tuple[jax.Array, tuple[Any, ...]]:
    states, second = _two_passes(with_numbers(leaf))
    return conclude(second, second.param, states)


def _update(leaf: Leaf) -> tuple[jax.Array, tuple[Any, ...]]:
    states, second = _two_passes(with_numbers(leaf))
    rule = leaf.parts[-1] if leaf.parts else None
    if not isinstance(rule, Rule):
        return evaluated(direct(second)), states
    if rule.adds:
        return conclude(second, full_like(second.param, -0.0), states)
    new, states = conclude(second, second.param, states)
    return new - second.param, states


def _two_passes(leaf: Leaf) -> tuple[tuple[Any, ...], Leaf]:
    """Return the new states, and the leaf from which the second pass starts."""
    states = accumulate(_pinned(leaf))
    if not jax.tree.leaves(states):
        return states, _pinned(leaf)
    grad, param, held = fence((leaf.grad, leaf.param, states))
    return states, _pinned(leaf._replace(grad=grad, param=param, states=held))


def _pinned(leaf: Leaf) -> Leaf:
    """Keep apart what has produced the gradient and the parameter from what is done to them.

    Where a clip coefficient or a loss scale is in the same program, XLA would merge that product
    into the first sum, and the gradient would never be rounded.
    """
    param = pinned(leaf.param)
    return leaf._replace(grad=pinned(leaf.grad), param=param)
