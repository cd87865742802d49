"""Ascend instead of descend."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax

from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.transform import Empty, Stateless


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Maximize(Stateless):
    """-grad."""

    implies: ClassVar[Mapping[str, Any]] = MappingProxyType({"maximize": True})

    @property
    def counts(self) -> bool:
        """False: the sign does not depend on the step."""
        return False

    def scalars(self, step: None) -> None:
        """No numbers are needed."""

    def direction(self, grad: jax.Array, state: Empty, param: jax.Array, scalars: Any) -> jax.Array:
        """The negated gradient."""
        return -grad


def maximize() -> Chain:
    """Negate the gradient, so that what follows ascends. Stands first, before weight decay.

    Source: the line `if maximize: g_t = -grad f(theta_{t-1})` of the algorithm on torch's SGD page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.chain(torchwise.maximize(), torchwise.scale_by_learning_rate(0.5))
        >>> transform.update(jnp.ones(1), transform.init(jnp.ones(1)), jnp.ones(1))[0]
        Array([0.5], dtype=float32)
    """
    return chain(Maximize())
