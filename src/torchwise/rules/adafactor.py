"""torch.optim.Adafactor."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.doubles import choose, in_double, power, product
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_single, double, require
from torchwise.rounding import (
    add,
    clamp,
    div,
    full_like,
    lerp,
    materialized,
    mean,
    mul,
    norm,
    rsqrt,
    square,
)
from torchwise.rule import Rule
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class AdafactorState(NamedTuple):
    """Averages of squares.

    Attributes:
        row_var: of each row: like the parameter with a last axis of 1; None for vectors.
        col_var: of each column: like the parameter with a last axis but one of 1; None for vectors.
        variance: of each element of a vector or a scalar; None for matrices.
    """

    row_var: Any = None
    col_var: Any = None
    variance: Any = None


class AdafactorNumbers(NamedTuple):
    """The numbers of a step: the weight of new squares, the rate, `1 - lr * weight_decay`, `d`."""

    rest: Any
    rate: Any
    decay: Any
    d: Scalar
    eps1: Any
    eps2: Scalar
    scale: Any = None


class Adafactor(Rule):
    """Adafactor, equal to `torch.optim.Adafactor` but for the order of its sums.

    Args:
        lr: the largest rate, relative to a parameter's root mean square: a number, a 0-d array, or
            a schedule `count -> lr`. The rate of the t-th gradient is the smaller of this and
            `1 / sqrt(t)`.
        beta2_decay: the weight of the t-th squares in their average is `t**beta2_decay`.
        eps: the least root of an average (by default the machine epsilon of the type), and the
            least root mean square of a parameter.
        d: a step with a larger root mean square is clipped to it.
        weight_decay: the parameter is multiplied by `1 - lr * weight_decay` before it moves.
        foreach: chooses an implementation in torch; without effect.
        maximize: ascend.

    Raises:
        ValueError: as torch does, for hyperparameters out of range.
        RuntimeError: for complex parameters.

    Source: the algorithm on torch's Adafactor page; Shazeer and Stern, arXiv:1804.04235.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.adafactor(lr=0.5)
        >>> params = jnp.full((2, 3), 2.0)
        >>> state = transform.init(params)
        >>> state.states[0].row_var.shape, state.states[0].col_var.shape
        ((2, 1), (1, 3))
    """

    State: ClassVar = AdafactorState
    name: ClassVar[str] = "Adafactor"
    group_keys: ClassVar = (
        *("lr", "beta2_decay", "eps", "d", "weight_decay", "foreach", "maximize"),
    )
    added_later: ClassVar = {"foreach": None}
    counts_in_torch: ClassVar[bool] = True
    state_by_shape: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-2
    beta2_decay: Scalar = -0.8
    eps: tuple[Scalar | None, Scalar] = (None, 1e-3)
    d: Scalar = 1.0
    weight_decay: Scalar = term(default=0.0)
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False

    def check(self) -> None:
        if not callable(self.lr):
            check_single(self.lr)
            require(0.0 <= self.lr, f"Learning rate should be >= 0 but is: {self.lr}")
        require(0.0 >= self.beta2_decay, f"beta2_decay should be <= 0 but is: {self.beta2_decay}")
        eps1, eps2 = self.eps
        if eps1 is not None:
            require(0.0 <= eps1, f"epsilon1 should be >= 0 but is: {eps1}")
        require(0.0 <= eps2, f"epsilon2 should be >= 0 but is: {eps2}")
        require(1.0 <= self.d, f"Clipping threshold d should be >= 1 but is: {self.d}")
        decay = self.weight_decay
        require(0.0 <= decay, f"weight_decay should be >= 0 but is: {decay}")

    @property
    def counts(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return not self.has("weight_decay")

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self, decays=False), self

    def check_param(self, param: Any) -> None:
        if jnp.iscomplexobj(param):
            raise RuntimeError("Adafactor does not support complex parameters")

    def init(self, param: jax.Array) -> AdafactorState:
        if param.ndim < 2:
            return AdafactorState(variance=full_like(param, 0))
        *batch, rows, columns = param.shape
        return AdafactorState(
            row_var=jnp.zeros((*batch, rows, 1), param.dtype),
            col_var=jnp.zeros((*batch, 1, columns), param.dtype),
        )

    def numbers(self, step: Any) -> AdafactorNumbers:
        step, falling = double(step), 1 / power(double(step), 0.5)
        return AdafactorNumbers(
            rest=power(step, self.beta2_decay),
            rate=choose(self.lr < falling, lambda: self.lr, lambda: falling),
            decay=1 - product(self.lr, self.weight_decay),
            d=self.d,
            eps1=self.eps[0],
            eps2=self.eps[1],
        )

    def memory(self, param: jax.Array) -> dict[str, Any]:
        state = self.init(param)._asdict()
        return {name: value for name, value in state.items() if value is not None}

    def numbers_of(
        self, state: AdafactorState, param: jax.Array, n: AdafactorNumbers
    ) -> AdafactorNumbers:
        size = double(norm(param)) / param.size**0.5
        return n._replace(scale=choose(size > n.eps2, lambda: size, lambda: n.eps2) * n.rate)

    def accumulate(
        self, grad: jax.Array, state: AdafactorState, param: jax.Array, n: AdafactorNumbers
    ) -> AdafactorState:
        if state.variance is not None:
            return AdafactorState(variance=lerp(state.variance, square(grad), n.rest))
        grad = materialized(grad)
        rows, columns = (div(square(norm(grad, axis)), grad.shape[axis]) for axis in (-1, -2))
        return AdafactorState(
            row_var=lerp(state.row_var, rows, n.rest), col_var=lerp(state.col_var, columns, n.rest)
        )

    def move(
        self,
        base: jax.Array,
        grad: jax.Array,
        state: AdafactorState,
        param: jax.Array,
        n: AdafactorNumbers,
    ) -> jax.Array:
        if self.has("weight_decay"):
            base = mul(base, n.decay)
        eps1 = float(jnp.finfo(param.dtype).eps) if n.eps1 is None else n.eps1
        variance = state.variance
        if variance is None:
            products = mul(state.row_var, state.col_var)
            variance = div(products, clamp(mean(state.row_var, axis=-2), eps1))
        update = materialized(mul(rsqrt(clamp(variance, eps1 * eps1)), grad))
        return add(base, update, alpha=-_rate(norm(update), update.size, n))


@in_double
def _rate(size: jax.Array, count: int, n: AdafactorNumbers) -> Any:
    """Clip a step of this norm with so many elements."""
    relative = double(size) / (count**0.5 * n.d)
    return n.scale / choose(relative > 1.0, lambda: relative, lambda: 1.0)


adafactor = as_function(Adafactor, "adafactor")
