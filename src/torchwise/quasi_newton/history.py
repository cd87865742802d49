"""What L-BFGS remembers of the curvature, and the direction that follows from it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.quasi_newton.vector import dot
from torchwise.rounding import add, div, mul, neg, reciprocal

_LEAST_CURVATURE = 1e-10


class History(NamedTuple):
    """The last pairs of a change of the gradient and the step that made it, in a ring of rows.

    Pair number i is in row i modulo the number of rows.

    Attributes:
        pairs: how many pairs have been stored, with those that are overwritten; int32, 0-d.
        old_dirs: the changes of the gradient, (rows, n).
        old_stps: the steps, (rows, n).
        ro: 1 / (change . step), (rows,).
        al: the coefficients of the last direction, from the oldest pair on, (rows,).
        H_diag: the scale of the first approximation of the inverse Hessian, 0-d.
    """

    pairs: Any
    old_dirs: Any
    old_stps: Any
    ro: Any
    al: Any
    H_diag: Any


def empty_history(rows: int, size: int, dtype: Any) -> History:
    """Return a history without pairs for vectors of `size` numbers."""
    return History(
        pairs=jnp.zeros((), jnp.int32),
        old_dirs=jnp.zeros((rows, size), dtype),
        old_stps=jnp.zeros((rows, size), dtype),
        ro=jnp.zeros(rows, dtype),
        al=jnp.zeros(rows, dtype),
        H_diag=jnp.ones((), dtype),
    )


def remembered(history: History, y: jax.Array, s: jax.Array) -> History:
    """Return the history with one more pair, if its curvature is positive enough.

    Args:
        history: a full one loses its oldest pair.
        y: the change of the gradient, (n,).
        s: the step, (n,).
    """
    ys = dot(y, s)
    accepted = ys > _LEAST_CURVATURE
    row = history.pairs % history.ro.shape[0]

    def stored(rows: jax.Array, value: jax.Array) -> jax.Array:
        return rows.at[row].set(jnp.where(accepted, value, rows[row]))

    return history._replace(
        pairs=history.pairs + accepted.astype(jnp.int32),
        old_dirs=stored(history.old_dirs, y),
        old_stps=stored(history.old_stps, s),
        ro=stored(history.ro, reciprocal(ys)),
        H_diag=jnp.where(accepted, div(ys, dot(y, y)), history.H_diag),
    )


def direction(history: History, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the coefficients `al` and the direction: minus the inverse Hessian times `grad`.

    Source: the recursion of two loops, Nocedal and Wright, Numerical Optimization, algorithm 7.4.
    """
    rows = history.ro.shape[0]
    known = jnp.minimum(history.pairs, rows)
    oldest = history.pairs - known

    def back(turn: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        al, q = carry
        age = known - 1 - turn
        row = (oldest + age) % rows
        weight = mul(dot(history.old_stps[row], q), history.ro[row])
        return al.at[age].set(weight), add(q, history.old_dirs[row], alpha=-weight)

    def forth(age: Any, r: jax.Array) -> jax.Array:
        row = (oldest + age) % rows
        weight = mul(dot(history.old_dirs[row], r), history.ro[row])
        return add(r, history.old_stps[row], alpha=al[age] - weight)

    al, q = lax.fori_loop(0, known, back, (history.al, neg(grad)))
    return al, lax.fori_loop(0, known, forth, mul(q, history.H_diag))
