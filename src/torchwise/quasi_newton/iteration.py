"""The iterations of one step of L-BFGS, for whatever evaluates the loss and runs the loops."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.numbers import require
from torchwise.quasi_newton.history import History, direction, empty_history, remembered
from torchwise.quasi_newton.options import Options
from torchwise.quasi_newton.strong_wolfe import Point, Search, informed, started
from torchwise.quasi_newton.vector import dot, largest, moved, vector_dtype, vector_size
from torchwise.rounding import mul, reciprocal, sub

Loop = Callable[[Callable[[Any], Any], Callable[[Any], Any], Any], Any]


class LBFGSState(NamedTuple):
    """What remains between two steps; `n` is the number of real numbers in the parameters.

    Attributes:
        func_evals: how often the loss was evaluated; int32, 0-d.
        n_iter: how many iterations there were; int32, 0-d.
        d: the last direction, (n,).
        t: the last step length, 0-d.
        history: a `History`, the pairs that approximate the Hessian.
        prev_flat_grad: the gradient at the beginning of the last iteration, (n,).
        prev_loss: the loss there, 0-d.
    """

    func_evals: Any
    n_iter: Any
    d: Any
    t: Any
    history: Any
    prev_flat_grad: Any
    prev_loss: Any


class Run(NamedTuple):
    """Where a step is.

    Attributes:
        state: with None for its history, which changes in its own memory.
        loss: at the parameters, 0-d.
        flat_grad: there, (n,).
        gtd: the slope of the loss along the direction, 0-d.
        evaluations: how many this step has made; int32, 0-d.
        iterations: likewise.
        search: the line search, or None.
        searching: whether the loss at the step length `state.t` is asked for.
        going: whether there is another iteration; False after `proposed`: the parameters stay.
    """

    state: LBFGSState
    loss: Any
    flat_grad: Any
    gtd: Any
    evaluations: Any
    iterations: Any
    search: Search | None
    searching: Any
    going: Any


def initial_state(params: Any, history_size: int) -> LBFGSState:
    """Return the state before the first evaluation.

    With a step of length zero behind it, the first iteration is like any other.

    Raises:
        ValueError: for a history without rows.
    """
    require(history_size > 0, f"history_size must be at least 1, but it is {history_size}")
    size, dtype = vector_size(params), vector_dtype(params)
    return LBFGSState(
        func_evals=jnp.zeros((), jnp.int32),
        n_iter=jnp.zeros((), jnp.int32),
        d=jnp.zeros(size, dtype),
        t=jnp.zeros((), dtype),
        history=empty_history(history_size, size, dtype),
        prev_flat_grad=jnp.zeros(size, dtype),
        prev_loss=jnp.zeros((), loss_dtype()),
    )


def loss_dtype() -> Any:
    """Return the type of losses: double precision, as in torch, where 64-bit types are on."""
    return jnp.result_type(float)


def minimize(
    options: Options,
    evaluate: Callable[[Any], tuple[jax.Array, jax.Array]],
    state: LBFGSState,
    params: Any,
    loop: Loop = lax.while_loop,
) -> tuple[Any, LBFGSState]:
    """Return the parameters and the state after one step.

    Args:
        options: the hyperparameters.
        evaluate: returns the loss, of `loss_dtype`, and the gradient, (n,), for parameters.
        state: before the step; its history is given up where the loop is one of Python.
        params: a tree of arrays.
        loop: `lax.while_loop`, or what does the same.

    Raises:
        RuntimeError: as torch does, for a line search that there is none.
    """
    if options.line_search_fn not in (None, "strong_wolfe"):
        raise RuntimeError("only 'strong_wolfe' is supported")
    history = state.history
    run = _begun(options, state._replace(history=None), *evaluate(params))

    def iterate(carry: tuple[Any, History, Run]) -> tuple[Any, History, Run]:
        params, history, run = carry
        history, run = _proposed(options, history, run)

        def attempt(run: Run) -> Run:
            return _reported(options, run, *evaluate(moved(params, run.state.t, run.state.d)))

        run = loop(lambda run: run.searching, attempt, run)
        params = moved(params, run.state.t, run.state.d, run.going)
        return params, history, _concluded(options, run)

    params, history, run = loop(lambda carry: carry[-1].going, iterate, (params, history, run))
    return params, run.state._replace(history=history)


def host_loop(going: Callable[[Any], Any], advance: Callable[[Any], Any], carry: Any) -> Any:
    """Do what `lax.while_loop` does, in Python."""
    while going(carry):
        carry = advance(carry)
    return carry


@jax.jit
def _begun(options: Options, state: LBFGSState, loss: jax.Array, flat_grad: jax.Array) -> Run:
    """Begin a step with the evaluation at its start."""
    at_optimum = largest(flat_grad) <= options.tolerance_grad
    none = jnp.zeros((), jnp.int32)
    return Run(
        state=state._replace(func_evals=state.func_evals + 1),
        loss=loss,
        flat_grad=flat_grad,
        gtd=jnp.zeros((), flat_grad.dtype),
        evaluations=none + 1,
        iterations=none,
        search=_search(options, loss, flat_grad, jnp.zeros((), flat_grad.dtype), none),
        searching=jnp.zeros((), bool),
        going=~at_optimum & (none < options.max_iter),
    )


@functools.partial(jax.jit, donate_argnames="history")
def _proposed(options: Options, history: History, run: Run) -> tuple[History, Run]:
    """Find a direction and the first step length to try; stop where the loss does not fall."""
    state, grad = run.state, run.flat_grad
    change, step = sub(grad, state.prev_flat_grad), mul(state.d, state.t)
    history = remembered(history, change, step)
    al, d = direction(history, grad)
    n_iter = state.n_iter + 1
    short = reciprocal(jnp.sum(jnp.abs(grad)))
    one = jnp.ones_like(short)
    t = mul(jnp.where((n_iter == 1) & (short < one), short, one), options.lr)
    gtd = dot(grad, d)
    going = ~(gtd > -options.tolerance_change)
    iterations = run.iterations + 1
    asked = going if options.line_search_fn else going & (iterations != options.max_iter)
    left = jnp.asarray(options.most_evaluations - run.evaluations, jnp.int32)
    state = state._replace(n_iter=n_iter, d=d, t=t, prev_flat_grad=grad, prev_loss=run.loss)
    run = run._replace(
        state=state,
        gtd=gtd,
        iterations=iterations,
        search=_search(options, run.loss, grad, gtd, left),
        searching=asked,
        going=going,
    )
    return history._replace(al=al), run


def _search(
    options: Options, loss: jax.Array, flat_grad: jax.Array, gtd: jax.Array, most_rounds: Any
) -> Search | None:
    if options.line_search_fn is None:
        return None
    return started(Point(jnp.zeros_like(gtd), loss, flat_grad, gtd), most_rounds)


@jax.jit
def _reported(options: Options, run: Run, loss: jax.Array, flat_grad: jax.Array) -> Run:
    """Take in the loss and the gradient that were asked for."""
    state = run.state._replace(func_evals=run.state.func_evals + 1)
    run = run._replace(state=state, evaluations=run.evaluations + 1)
    if run.search is None:
        return run._replace(loss=loss, flat_grad=flat_grad, searching=jnp.zeros((), bool))
    point = Point(state.t, loss, flat_grad, dot(flat_grad, state.d))
    search, t, searching = informed(run.search, point, largest(state.d), options.tolerance_change)
    return run._replace(
        state=state._replace(t=t),
        loss=search.bracket.loss[search.low],
        flat_grad=search.bracket.flat_grad[search.low],
        search=search,
        searching=searching,
    )


@jax.jit
def _concluded(options: Options, run: Run) -> Run:
    """Stop after the last iteration, at an optimum, or where nothing changes any more."""
    state = run.state
    stops = (
        (run.iterations >= options.max_iter)
        | (run.evaluations >= options.most_evaluations)
        | (largest(run.flat_grad) <= options.tolerance_grad)
        | (largest(mul(state.d, state.t)) <= options.tolerance_change)
        | (jnp.abs(run.loss - state.prev_loss) < options.tolerance_change)
    )
    return run._replace(going=run.going & ~stops)
