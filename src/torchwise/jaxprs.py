"""Reading a traced program: its equations, and those of the programs in them.

A jaxpr is read as `jax.make_jaxpr` prints it; nothing private of JAX is asked.
"""

from collections.abc import Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield every equation of a jaxpr, and those of the jaxprs in it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for one in inner(eqn):
            yield from equations(one)


def inner(eqn: Any) -> Iterator[Any]:
    """Yield the jaxprs among the parameters of an equation."""
    for value in jax.tree.leaves(list(eqn.params.values())):
        found = getattr(value, "jaxpr", value)
        if hasattr(found, "eqns"):
            yield found
