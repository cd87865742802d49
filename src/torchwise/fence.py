"""Where one kernel must end before the next begins."""

from typing import Any, TypeVar

import jax
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir

T = TypeVar("T")

# A primitive of its own: to choose by platform with JAX's functions takes XLA longer to compile.
_fence = Primitive("fence")
_fence.multiple_results = True


def fence(tree: T) -> T:
    """On CPU, keep XLA from merging what comes before with what comes after; elsewhere, nothing.

    On CPU a kernel has one output. Without a fence XLA would compute a second one from the inputs
    of the first again, which needs a copy of an input that the first has overwritten.
    """
    values, treedef = jax.tree.flatten(tree)
    return treedef.unflatten(_fence.bind(*values))


def _lower_to_barrier(ctx: Any, *values: Any) -> Any:
    results = stablehlo.optimization_barrier(values)
    return [results] if len(values) == 1 else results


_fence.def_impl(lambda *values: list(values))
_fence.def_abstract_eval(lambda *values: list(values))
mlir.register_lowering(_fence, lambda ctx, *values: list(values))
mlir.register_lowering(_fence, _lower_to_barrier, platform="cpu")
batching.primitive_batchers[_fence] = lambda values, axes: (_fence.bind(*values), axes)
ad.primitive_jvps[_fence] = lambda values, tangents: (_fence.bind(*values), list(tangents))
