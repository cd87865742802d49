"""Where one kernel must end before the next begins."""

from typing import TypeVar

from jax import lax

T = TypeVar("T")


def fence(tree: T) -> T:
    """On CPU, keep XLA from merging what comes before with what comes after; elsewhere, nothing.

    On CPU a kernel has one output. Without a fence XLA would compute a second one from the inputs
    of the first again, which needs a copy of an input that the first has overwritten.
    """
    return lax.platform_dependent(tree, cpu=lax.optimization_barrier, default=lambda tree: tree)
