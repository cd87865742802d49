"""torch's optimizers: each is its rule behind torch's signature."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, cast, overload

from torchwise import rules
from torchwise.groups.selection import Groups
from torchwise.optim.optimizer import Optimizer
from torchwise.rule import Rule

P = ParamSpec("P")


class Constructor(Protocol[P]):
    """A constructor with the signature of a rule between `params` and `groups`.

    Types cannot say that a keyword is added to a signature: with it, the others go unchecked.
    """

    @overload
    def __call__(self, params: Any, /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def __call__(
        self, params: Any, /, *args: Any, groups: Groups | None, **kwargs: Any
    ) -> None: ...


def signature_of(rule: Callable[P, Rule]) -> Callable[[Callable[..., None]], Constructor[P]]:
    """Give a constructor the signature of a rule, between `params` and `groups`."""

    def decorate(constructor: Callable[..., None]) -> Constructor[P]:
        @functools.wraps(constructor)
        def wrapper(self: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            constructor(self, params, *args, **kwargs)

        in_front = list(inspect.signature(constructor).parameters.values())[:2]
        own = inspect.signature(rule).parameters.values()
        groups = inspect.Parameter("groups", inspect.Parameter.KEYWORD_ONLY, default=None)
        vars(wrapper)["__signature__"] = inspect.Signature([*in_front, *own, groups])
        del vars(wrapper)["__wrapped__"]  # tools that follow it would miss the signature
        return cast(Constructor[P], wrapper)

    return decorate


class SGD(Optimizer):
    rule = rules.SGD

    @signature_of(rules.SGD)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Adagrad(Optimizer):
    rule = rules.Adagrad

    @signature_of(rules.Adagrad)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Adam(Optimizer):
    rule = rules.Adam

    @signature_of(rules.Adam)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class RMSprop(Optimizer):
    rule = rules.RMSprop

    @signature_of(rules.RMSprop)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class AdamW(Optimizer):
    rule = rules.AdamW

    @signature_of(rules.AdamW)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Adamax(Optimizer):
    rule = rules.Adamax

    @signature_of(rules.Adamax)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Adadelta(Optimizer):
    rule = rules.Adadelta

    @signature_of(rules.Adadelta)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class NAdam(Optimizer):
    rule = rules.NAdam

    @signature_of(rules.NAdam)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class RAdam(Optimizer):
    rule = rules.RAdam

    @signature_of(rules.RAdam)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class ASGD(Optimizer):
    rule = rules.ASGD

    @signature_of(rules.ASGD)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Rprop(Optimizer):
    rule = rules.Rprop

    @signature_of(rules.Rprop)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Adafactor(Optimizer):
    rule = rules.Adafactor

    @signature_of(rules.Adafactor)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class SparseAdam(Optimizer):
    rule = rules.SparseAdam
    example = """
    >>> import jax.numpy as jnp
    >>> from jax.experimental.sparse import BCOO
    >>> from torchwise import optim
    >>> optimizer = optim.SparseAdam([jnp.ones((3, 2))], lr=0.5, betas=(0.5, 0.75))
    >>> (table,) = optimizer.param_groups[0]["params"]
    >>> table.grad = BCOO((jnp.ones((1, 2)), jnp.array([[1]])), shape=(3, 2))
    >>> optimizer.step()
    >>> optimizer.params[0][1]
    Array([0.5, 0.5], dtype=float32)
"""

    @signature_of(rules.SparseAdam)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)


class Muon(Optimizer):
    rule = rules.Muon

    @signature_of(rules.Muon)
    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        super().__init__(params, *values, **hyperparameters)
