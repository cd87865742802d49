"""One step of one parameter: its gradient passes the blocks, and the rule moves the parameter."""

from typing import Any, NamedTuple

import jax

from torchwise.rounding import evaluated
from torchwise.rule import Block, Rule, Transform

Parts = tuple[Transform, ...]


class Leaf(NamedTuple):
    """One parameter with all that its step needs: one state and one `numbers` per part."""

    parts: Parts
    grad: Any  # an array, or `sparse.Rows`
    param: jax.Array
    states: tuple[Any, ...]
    numbers: tuple[Any, ...]


def with_numbers(leaf: Leaf) -> Leaf:
    """Add the numbers that depend on the parameter's own state."""
    with jax.enable_x64(True):
        columns = zip(leaf.parts, leaf.states, leaf.numbers)
        own = tuple(part.numbers_of(state, leaf.param, n) for part, state, n in columns)
    return leaf._replace(numbers=own)


def accumulate(leaf: Leaf) -> tuple[Any, ...]:
    """Advance the states in order. The last direction is dead code, which XLA removes."""
    grad: Any = leaf.grad
    new = []
    for part, state, n in zip(leaf.parts, leaf.states, leaf.numbers):
        new.append(part.accumulate(_input(part, grad), state, leaf.param, n))
        if isinstance(part, Block):
            grad = part.direction(evaluated(grad), new[-1], leaf.param, n)
    return tuple(new)


def direct(leaf: Leaf) -> Any:
    """Follow the directions in order, off states that have advanced already."""
    grad: Any = leaf.grad
    for part, state, n in zip(leaf.parts, leaf.states, leaf.numbers):
        if isinstance(part, Block):
            grad = part.direction(evaluated(grad), state, leaf.param, n)
    return grad


def passed_on(leaf: Leaf, position: int) -> Any:
    """Return what the blocks before a position pass on; in one pass, for sums over the leaf."""
    if position == 0:
        return leaf.grad
    before = with_numbers(
        leaf._replace(
            parts=leaf.parts[:position],
            states=leaf.states[:position],
            numbers=leaf.numbers[:position],
        )
    )
    return evaluated(direct(before._replace(states=accumulate(before))))


def conclude(
    leaf: Leaf, base: jax.Array, states: tuple[Any, ...]
) -> tuple[jax.Array, tuple[Any, ...]]:
    """Move the parameter; a rule may finish its state only now."""
    rule, held = leaf.parts[-1], leaf.states[-1]
    assert isinstance(rule, Rule)
    grad = _input(rule, direct(leaf))
    new, finished = rule.conclude(base, grad, held, leaf.param, leaf.numbers[-1])
    return new, states if finished is held else (*states[:-1], finished)


def _input(part: Transform, grad: Any) -> Any:
    return grad if isinstance(part, Rule) and part.divides else evaluated(grad)
