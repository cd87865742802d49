"""A step happens whole or not at all, whatever is raised and whoever reads in the meantime.

A step donates the old arrays, so that between its start and its commit nobody has the values.
Everything that is Python comes before the donation. Then a compiled function is called and its
results go into a list, all in one call of C code, in which Python does not look at signals; whoever
comes next, the step itself or any reader after an exception, puts them in their places.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import Tracer

lock = threading.RLock()
_unfinished: list[tuple[Callable[[Any], None], list[Any]]] = []  # what commits, and what it takes


def execute(
    prepare: Callable[[], tuple[Callable[..., Any], Sequence[Any]]], commit: Callable[[Any], None]
) -> Any:
    """Run a program, put what it returns in its place, and return it.

    Args:
        prepare: returns the program and its arguments. If it gives arrays up, it must be compiled
            already: Python code may be interrupted.
        commit: takes what the program returned; harmless if it was done before, in full or in part.

    Raises:
        RuntimeError: under a transformation of JAX, where results are no values.
    """
    with lock:
        _finish(drop=True)
        results: list[Any] = []
        _unfinished.append((commit, results))
        try:
            function, arguments = prepare()
            columns = [(argument,) for argument in arguments]
            results.extend(map(function, *columns))  # in C alone
        finally:
            _finish(drop=True)
    refuse_traced(results)
    return results[0]


def hand_over(values: Any, put: Callable[[Any], None]) -> None:
    """Put values in their places that are there already, and need not be computed.

    Args:
        values: a list or a tuple; nested ones may be in it.
        put: takes them as a tuple; harmless if it is called again.

    Raises:
        RuntimeError: for values of a trace.
    """
    execute(lambda: (tuple, (values,)), put)


def refuse_traced(value: Any) -> None:
    """Raise a RuntimeError for an array, or results, of a trace, which must not outlive it."""
    if isinstance(value, Tracer) or _is_traced(value):
        raise RuntimeError(
            "a stateful optimizer cannot step or change inside jit, grad, vmap or scan, where "
            "arrays have no values yet: call transform, params, state = "
            "optimizer.to_functional() outside, and there "
            "transform.step(grads, state, params)"
        )


def _is_traced(value: Any) -> bool:
    return isinstance(_first_array(value), Tracer)


def _first_array(value: Any) -> Any:
    """Return one array of nested lists and tuples: what one program has made is all alike."""
    if not isinstance(value, list | tuple):
        return value if isinstance(value, jax.Array) else None
    for one in value:
        found = _first_array(one)
        if found is not None:
            return found
    return None


def append_together(lists: Sequence[list[Any]], values: Sequence[Any]) -> None:
    """Append a value to each list; an interrupt comes before all or after all."""
    deque(map(list.append, lists, values), maxlen=0)  # in C alone


def settle() -> None:
    """Put every step that has happened in its place.

    Whoever is to keep other threads from stepping meanwhile holds `lock` first: `with lock` is C
    code, where a context manager of Python might be interrupted and keep it for ever.
    """
    if _unfinished:
        with lock:
            _finish(drop=False)


def _finish(drop: bool) -> None:
    """Commit what has results; drop what has none, unless it is running and reads by itself."""
    while _unfinished:
        commit, results = _unfinished[-1]
        if results:
            if not _is_traced(results):
                commit(results[0])
        elif not drop:
            return
        _unfinished.pop()
