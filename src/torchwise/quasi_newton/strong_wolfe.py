"""A line search for the strong Wolfe conditions that is told one evaluation at a time.

It keeps two points on the line. Until it has found an interval that holds a good step length, the
first is the point before the last; from then on both are the ends of the interval.

Source: torch 2.13.0; Nocedal and Wright, Numerical Optimization, algorithms 3.5 and 3.6.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.rounding import div, mul, sqrt

_SUFFICIENT_DECREASE = 1e-4
_CURVATURE = 0.9


class Point(NamedTuple):
    """A point on the line, or several of them along the first axis.

    Attributes:
        t: the step length that leads to it.
        loss: the loss there.
        flat_grad: the gradient there, (n,).
        gtd: the slope of the loss along the direction.
    """

    t: Any
    loss: Any
    flat_grad: Any
    gtd: Any


class Search(NamedTuple):
    """What a line search knows.

    Attributes:
        start: the point with the step length 0.
        bracket: two points.
        low: which of the two has the lower loss, 0 or 1.
        bracketed: whether they are the ends of an interval.
        insufficient: whether the last round came too close to an end.
        rounds: how many evaluations have followed the first one.
        most_rounds: how many may follow it.
    """

    start: Point
    bracket: Point
    low: Any
    bracketed: Any
    insufficient: Any
    rounds: Any
    most_rounds: Any


def started(start: Point, most_rounds: Any) -> Search:
    """Return a search that waits for its first evaluation."""
    return Search(
        start=start,
        bracket=jax.tree.map(lambda value: jnp.stack([value, value]), start),
        low=jnp.zeros((), jnp.int32),
        bracketed=jnp.zeros((), bool),
        insufficient=jnp.zeros((), bool),
        rounds=-jnp.ones((), jnp.int32),
        most_rounds=most_rounds,
    )


def informed(
    search: Search, new: Point, longest: jax.Array, tolerance_change: Any
) -> tuple[Search, jax.Array, jax.Array]:
    """Return the search after an evaluation, the next step length, and whether to try it.

    Where there is nothing to try, the step length and all else is that of the point `low`.

    Args:
        search: before the evaluation.
        new: the point that was evaluated.
        longest: the largest number of the direction.
        tolerance_change: how short an interval is worth going on with, in the parameters' unit.
    """
    search = search._replace(rounds=search.rounds + 1)
    extended = _extrapolated(_at(search.bracket, 0), new)
    found, found_good = _bracketed(search, new)
    narrowed, narrowed_good = _narrowed(search, new)
    was_bracketed = search.bracketed
    search = _choose(was_bracketed, narrowed, found)
    insufficient, inner = _trial(search)
    search = search._replace(insufficient=search.bracketed & insufficient)
    width = jnp.abs(search.bracket.t[1] - search.bracket.t[0])
    finished = (
        jnp.where(was_bracketed, narrowed_good, found_good)
        | (search.rounds >= search.most_rounds)
        | (search.bracketed & (mul(width, longest) < tolerance_change))
    )
    t = jnp.where(search.bracketed, inner, extended)
    return search, jnp.where(finished, search.bracket.t[search.low], t), ~finished


def cubic_minimum(first: Point, second: Point, least: Any, most: Any) -> jax.Array:
    """Return where the cubic through two points, with their slopes, is lowest within bounds.

    Where it has no minimum, the middle of the bounds.

    Source: Nocedal and Wright, Numerical Optimization, equation 3.59.
    """
    rise = (3 * (first.loss - second.loss)).astype(first.t.dtype)
    d1 = first.gtd + second.gtd - div(rise, first.t - second.t)
    square = mul(d1, d1) - mul(first.gtd, second.gtd)
    left, right = _choose(first.t <= second.t, (first, second), (second, first))
    root = sqrt(square)
    part = div(right.gtd + root - d1, right.gtd - left.gtd + mul(root, 2))
    lowest = right.t - mul(right.t - left.t, part)
    return jnp.where(square >= 0, jnp.clip(lowest, least, most), mul(least + most, 0.5))


def _bracketed(search: Search, new: Point) -> tuple[Search, jax.Array]:
    """Look for an interval: it ends where the loss rises, or its slope does; else go further."""
    previous = _at(search.bracket, 0)
    rises = _too_high(search, new) | ((search.rounds > 1) & (new.loss >= previous.loss))
    good = ~rises & _flat_enough(search, new)
    used_up = search.rounds >= search.most_rounds
    found = rises | good | (new.gtd >= 0) | used_up
    behind = _choose(used_up, search.start, _choose(found, previous, new))
    bracket = jax.tree.map(lambda one, other: jnp.stack([one, other]), behind, new)
    low = jnp.where(good & ~used_up, 1, _lower(bracket))
    return search._replace(bracket=bracket, low=low, bracketed=found), good


def _narrowed(search: Search, new: Point) -> tuple[Search, jax.Array]:
    """Put a new point in the place of an end of the interval."""
    bracket, low = search.bracket, search.low
    high = 1 - low
    worse = _too_high(search, new) | (new.loss >= bracket.loss[low])
    good = ~worse & _flat_enough(search, new)
    turns = ~worse & ~good & (new.gtd * (bracket.t[high] - bracket.t[low]) >= 0)
    replaced = jnp.where(worse, high, low)

    def ends(old: jax.Array, value: jax.Array) -> jax.Array:
        old = old.at[high].set(jnp.where(turns, old[low], old[high]))
        return old.at[replaced].set(value)

    bracket = jax.tree.map(ends, bracket, new)
    low = jnp.where(worse, _lower(bracket), low)
    return search._replace(bracket=bracket, low=low), good


def _extrapolated(previous: Point, new: Point) -> jax.Array:
    """Return a step length beyond the last, at most ten times as long."""
    least = new.t + mul(new.t - previous.t, 0.01)
    return cubic_minimum(previous, new, least, mul(new.t, 10))


def _trial(search: Search) -> tuple[jax.Array, jax.Array]:
    """Return whether the minimum of the cubic is too close to an end, and where to go instead.

    The second time in a row, or on an end, the trial keeps a tenth of the interval's width off.
    """
    ends = search.bracket.t
    least, most = jnp.min(ends), jnp.max(ends)
    t = cubic_minimum(_at(search.bracket, 0), _at(search.bracket, 1), least, most)
    margin = mul(most - least, 0.1)
    close = jnp.minimum(most - t, t - least) < margin
    moves = close & (search.insufficient | (t >= most) | (t <= least))
    nearer_most = jnp.abs(t - most) < jnp.abs(t - least)
    inside = jnp.where(nearer_most, most - margin, least + margin)
    return close & ~moves, jnp.where(moves, inside, t)


def _too_high(search: Search, new: Point) -> jax.Array:
    """Whether the loss has not decreased enough for the step length (Armijo's condition)."""
    start = search.start
    allowed = mul(mul(new.t, _SUFFICIENT_DECREASE), start.gtd)
    return new.loss.astype(new.t.dtype) > start.loss.astype(new.t.dtype) + allowed


def _flat_enough(search: Search, new: Point) -> jax.Array:
    """Whether the slope has become small enough."""
    return jnp.abs(new.gtd) <= mul(search.start.gtd, -_CURVATURE)


def _lower(bracket: Point) -> jax.Array:
    return jnp.where(bracket.loss[0] <= bracket.loss[1], 0, 1).astype(jnp.int32)


def _at(points: Point, index: Any) -> Point:
    return jax.tree.map(lambda value: value[index], points)


def _choose(condition: Any, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)
