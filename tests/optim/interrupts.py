"""Exceptions raised at chosen lines of Python, as an interrupt may come at any of them."""

import itertools
import sys

import jax
import numpy as np

from torchwise.optim.transaction import lock


def interrupted(call, limit, everywhere=False):
    """Call a function; raise KeyboardInterrupt at the line of a number, if it has that many.

    Args:
        call: without arguments.
        limit: the number; 0 only counts.
        everywhere: whether the lines of all modules count, or those of the library alone.

    Returns:
        How many lines ran, and whether the exception came out.
    """
    lines = itertools.count(1)

    def tracer(frame, event, _):
        if not everywhere and "torchwise" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(lines) == limit:
            sys.settrace(None)
            raise KeyboardInterrupt
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    raised = False
    try:
        call()
    except KeyboardInterrupt:
        raised = True
    except Exception:  # C code makes others of what interrupts the Python that it calls
        if not everywhere:
            raise
        raised = True
    finally:
        sys.settrace(before)
        release()
    return next(lines) - 1, raised


def release():
    """Release the lock: at the end of a `with`, a tracer raises where no signal does."""
    try:
        while True:
            lock.release()
    except RuntimeError:
        pass


def held(optimizer):
    """All that an optimizer holds, as bytes: what a file that is written now would have."""
    params = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(optimizer.params)]
    saved = optimizer.state_dict()
    state = {
        identity: {key: np.asarray(value).tobytes() for key, value in entry.items()}
        for identity, entry in saved["state"].items()
    }
    return params, state, repr(saved["param_groups"])
