"""torch.optim.ASGD."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.doubles import choose, power, product
from torchwise.fence import fence
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_rate, double, first_rate, require
from torchwise.rounding import add, full_like, mul, select, sub
from torchwise.rule import Rule
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class ASGDState(NamedTuple):
    """The rate and the weight of the next step (float32, 0-d), and the averaged parameter."""

    eta: Any
    mu: Any
    ax: Any


class ASGDNumbers(NamedTuple):
    """The numbers of a step: what it leaves for the next, then what the last has left for it."""

    next_eta: Any
    next_mu: Any
    lambd: Scalar
    eta: Any = None
    mu: Any = None
    averages: Any = None
    decay: Any = None


class ASGD(Rule):
    """Averaged stochastic gradient descent, equal to `torch.optim.ASGD`.

    A changed learning rate acts one step later, as in torch: a step leaves the rate for the next.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        lambd: every step multiplies the parameter by `1 - lambd * eta`.
        alpha: the power with which the rate falls: `eta = lr / (1 + lambd * lr * t)**alpha`.
        t0: the step after which the parameters are averaged.
        weight_decay: this times the parameter is added to the gradient (L2).
        foreach: chooses an implementation in torch; without effect, as are `capturable` and
            `differentiable`.
        maximize: ascend.
        differentiable: without effect.
        capturable: without effect.

    Raises:
        ValueError: as torch does, for a negative lr or weight_decay.

    Source: the algorithm on torch's ASGD page; Polyak and Juditsky, SIAM J. Control 30 (1992).

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.asgd(lr=0.5, lambd=0.0)
        >>> params = jnp.array([2.0])
        >>> params, state = transform.step(jnp.array([2.0]), transform.init(params), params)
        >>> params, state.states[0].ax
        (Array([1.], dtype=float32), Array([1.], dtype=float32))
    """

    State: ClassVar = ASGDState
    name: ClassVar[str] = "ASGD"
    group_keys: ClassVar = (
        *("lr", "lambd", "alpha", "t0", "weight_decay"),
        *("foreach", "maximize", "differentiable", "capturable"),
    )
    added_later: ClassVar = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "capturable": False,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-2
    lambd: Scalar = 1e-4
    alpha: Scalar = 0.75
    t0: Scalar = 1e6
    weight_decay: Scalar = term(default=0)
    foreach: bool | None = None
    maximize: bool = False
    differentiable: bool = False
    capturable: bool = False

    def check(self) -> None:
        check_rate(self.lr)
        require(0.0 <= self.weight_decay, f"Invalid weight_decay value: {self.weight_decay}")

    @property
    def counts(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return False  # the parameter is multiplied first

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> ASGDState:
        return ASGDState(
            eta=jnp.asarray(first_rate(self.lr), jnp.float32),
            mu=jnp.ones((), jnp.float32),
            ax=full_like(param, 0),
        )

    def numbers(self, step: Any) -> ASGDNumbers:
        step = double(step)
        grown = 1 + product(self.lambd, self.lr, step)
        averaged = step - self.t0
        next_mu = 1 / choose(averaged > 1, lambda: averaged, lambda: 1.0)
        return ASGDNumbers(self.lr / power(grown, self.alpha), next_mu, self.lambd)

    def numbers_of(self, state: ASGDState, param: jax.Array, n: Any) -> ASGDNumbers:
        eta, mu = double(state.eta), double(state.mu)
        return n._replace(eta=eta, mu=mu, averages=mu != 1, decay=1 - product(n.lambd, eta))

    def accumulate(
        self, grad: jax.Array, state: ASGDState, param: jax.Array, n: ASGDNumbers
    ) -> ASGDState:
        # torch makes a float32 tensor of each, also where a loaded state has another type.
        eta, mu = (jnp.asarray(number, jnp.float32) for number in (n.next_eta, n.next_mu))
        return state._replace(eta=eta.astype(state.eta.dtype), mu=mu.astype(state.mu.dtype))

    def conclude(
        self, base: jax.Array, grad: jax.Array, state: Any, param: jax.Array, n: ASGDNumbers
    ) -> tuple[jax.Array, ASGDState]:
        new = fence(add(mul(base, n.decay), grad, alpha=-n.eta))
        averaged = add(state.ax, mul(sub(new, state.ax), n.mu))
        return new, state._replace(ax=select(n.averages, averaged, new))


asgd = as_function(ASGD, "asgd")
