"""torch.optim.Muon."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.doubles import product
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_single, require
from torchwise.rounding import add, addmm, clamp, div, full_like, lerp, matmul, mul, norm
from torchwise.rule import Rule
from torchwise.transformation import as_function


class MuonState(NamedTuple):
    """The average of gradients, like the parameter in shape and type."""

    momentum_buffer: Any


class MuonNumbers(NamedTuple):
    """The numbers of a step; `decay` is `1 - lr * weight_decay`."""

    lr: Any
    decay: Any
    momentum: Scalar
    rest: Scalar
    coefficients: Sequence[Scalar]
    eps: Scalar


class Muon(Rule):
    """Muon, equal to `torch.optim.Muon` but for the order of the sums in its matrix products.

    It is for matrices; others belong to another optimizer, as with `optax.partition`.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        weight_decay: the parameter is multiplied by `1 - lr * weight_decay` before it moves.
        momentum: the weight of the old average of gradients.
        nesterov: look ahead along the new average.
        ns_coefficients: of the Newton-Schulz polynomial `a * x + b * x**3 + c * x**5`.
        eps: the least norm that the average is divided by, in the gradient's unit.
        ns_steps: how often the polynomial is applied; below 100.
        adjust_lr_fn: "original", or None: multiply the rate by `sqrt(max(1, rows / columns))`;
            "match_rms_adamw": by `0.2 * sqrt(max(rows, columns))`.

    Raises:
        ValueError: as torch does, for hyperparameters out of range, and for parameters that are no
            matrices.
        RuntimeError: for complex parameters.

    Source: the algorithm on torch's Muon page; Jordan et al., kellerjordan.github.io/posts/muon.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.muon(lr=0.5, weight_decay=0.0)
        >>> params = jnp.eye(2)
        >>> state = transform.init(params)
        >>> params, state = transform.step(jnp.eye(2), state, params)
        >>> state.states[0].momentum_buffer.shape
        (2, 2)
    """

    State: ClassVar = MuonState
    name: ClassVar[str] = "Muon"
    group_keys: ClassVar = (
        *("lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps"),
        *("ns_steps", "adjust_lr_fn"),
    )

    lr: Scalar | Schedule = 1e-3
    weight_decay: Scalar = term(default=0.1)
    momentum: Scalar = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[Scalar, Scalar, Scalar] = (3.4445, -4.775, 2.0315)
    eps: Scalar = 1e-7
    ns_steps: int = dataclasses.field(default=5, metadata={"static": True})
    adjust_lr_fn: str | None = None

    def check(self) -> None:
        if not callable(self.lr):
            check_single(self.lr)
            require(0.0 <= self.lr, f"Learning rate should be >= 0 but is: {self.lr}")
        require(0.0 <= self.momentum, f"momentum should be >= 0 but is: {self.momentum}")
        decay = self.weight_decay
        require(0.0 <= decay, f"weight decay should be >= 0 but is: {decay}")
        known = self.adjust_lr_fn in (None, "original", "match_rms_adamw")
        require(known, f"Adjust learning rate function {self.adjust_lr_fn} is not supported")

    def check_param(self, param: Any) -> None:
        if param.ndim != 2:
            raise ValueError(
                "Muon only supports 2D parameters whereas we found a parameter with size: "
                f"torch.Size({list(param.shape)})"
            )
        if jnp.iscomplexobj(param):
            raise RuntimeError("Muon does not support complex parameters")

    @property
    def adds(self) -> bool:
        return not self.has("weight_decay")

    def init(self, param: jax.Array) -> MuonState:
        return MuonState(full_like(param, 0))

    def numbers(self, step: Any) -> MuonNumbers:
        return MuonNumbers(
            lr=self.lr,
            decay=1 - product(self.lr, self.weight_decay),
            momentum=self.momentum,
            rest=1 - self.momentum,
            coefficients=tuple(self.ns_coefficients),
            eps=self.eps,
        )

    def numbers_of(self, state: MuonState, param: jax.Array, n: MuonNumbers) -> MuonNumbers:
        return n._replace(lr=n.lr * self._ratio(*param.shape))

    def accumulate(
        self, grad: jax.Array, state: MuonState, param: jax.Array, n: MuonNumbers
    ) -> MuonState:
        return MuonState(lerp(state.momentum_buffer, grad, n.rest))

    def move(
        self, base: jax.Array, grad: jax.Array, state: MuonState, param: jax.Array, n: MuonNumbers
    ) -> jax.Array:
        if self.has("weight_decay"):
            base = mul(base, n.decay)
        average = state.momentum_buffer
        update = lerp(grad, average, n.momentum) if self.nesterov else average
        update = orthogonalized(update, n.coefficients, self.ns_steps, n.eps)
        return add(base, update.astype(base.dtype), alpha=-n.lr)

    def _ratio(self, rows: int, columns: int) -> float:
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1, rows / columns))


def orthogonalized(
    matrix: jax.Array, coefficients: Sequence[Scalar], steps: int, eps: Scalar
) -> jax.Array:
    """Return a matrix with the same singular vectors and singular values near 1, in bfloat16.

    Args:
        matrix: of any real type.
        coefficients: of the Newton-Schulz polynomial.
        steps: how often it is applied.
        eps: the least norm that the matrix is divided by.

    Raises:
        ValueError: as torch does, for 100 steps or more.
    """
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    a, b, c = coefficients
    upright = matrix.shape[0] > matrix.shape[1]
    x = matrix.astype(jnp.bfloat16)
    x = x.T if upright else x
    x = div(x, clamp(norm(x), eps))
    for _ in range(steps):
        gram = matmul(x, x.T)
        x = addmm(x, addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if upright else x


muon = as_function(Muon, "muon")
