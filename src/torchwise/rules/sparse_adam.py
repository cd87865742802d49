"""torch.optim.SparseAdam."""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp

from torchwise.doubles import product, root
from torchwise.numbers import Scalar, Schedule, check_single, refuse, require
from torchwise.rounding import add, div, full_like, mul, sqrt, square, sub
from torchwise.rule import Rule
from torchwise.rules.moments import Decays, check_betas, decays_at
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class SparseAdamState(NamedTuple):
    """Averages like the parameter in shape and type."""

    exp_avg: Any
    exp_avg_sq: Any


class SparseAdamNumbers(NamedTuple):
    """The numbers of a step."""

    decays: Decays
    step_size: Any
    eps: Scalar


class SparseAdam(Rule):
    """Adam of the rows that a sparse gradient names, equal to `torch.optim.SparseAdam`.

    Other rows and their averages stay as they are. The equality is to the bit wherever torch's
    square root is correctly rounded, and no row is named more than twice: torch adds up the values
    of a row in no particular order.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        betas: the weights of the old averages: of gradients, and of their squares.
        eps: added to the uncorrected root, outside of it, in the gradient's unit.
        maximize: ascend.

    Raises:
        ValueError: as torch does, for an lr or eps that is not positive, for betas that are not in
            [0, 1), and by `init` for complex parameters.
        RuntimeError: as torch does, by `step`, for gradients that are no
            `jax.experimental.sparse.BCOO`.

    Source: `torch.optim.SparseAdam`, a masked version of the algorithm on torch's Adam page; Kingma
    and Ba, arXiv:1412.6980.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> from jax.experimental.sparse import BCOO
        >>> table = jnp.ones((3, 2))
        >>> grad = BCOO((jnp.ones((1, 2)), jnp.array([[1]])), shape=(3, 2))
        >>> transform = torchwise.sparse_adam(lr=0.5, betas=(0.5, 0.75))
        >>> transform.step(grad, transform.init(table), table)[0]
        Array([[1. , 1. ],
               [0.5, 0.5],
               [1. , 1. ]], dtype=float32)
    """

    State: ClassVar = SparseAdamState
    name: ClassVar[str] = "SparseAdam"
    group_keys: ClassVar = ("lr", "betas", "eps", "maximize")
    added_later: ClassVar = {"maximize": False}
    counts_in_torch: ClassVar[bool] = True
    integer_step: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-3
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    maximize: bool = False

    def check(self) -> None:
        if not callable(self.lr):
            check_single(self.lr)
            require(0.0 < self.lr, f"Invalid learning rate: {self.lr}")
        require(0.0 < self.eps, f"Invalid epsilon value: {self.eps}")
        check_betas(self.betas)

    def check_param(self, param: Any) -> None:
        message = "SparseAdam does not support complex parameters"
        refuse(jnp.iscomplexobj(param), message)

    def for_gradient(self, sparse: bool) -> Self:
        if not sparse:
            message = "SparseAdam does not support dense gradients, please consider Adam instead"
            raise RuntimeError(message)
        return self

    @property
    def counts(self) -> bool:
        return True

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> SparseAdamState:
        return SparseAdamState(full_like(param, 0), full_like(param, 0))

    def numbers(self, step: Any) -> SparseAdamNumbers:
        decays = decays_at(self.betas, step)
        rate = product(self.lr, root(decays.correction2)) / decays.correction1
        return SparseAdamNumbers(decays, rate, self.eps)

    def accumulate(
        self, grad: jax.Array, state: SparseAdamState, param: jax.Array, n: SparseAdamNumbers
    ) -> SparseAdamState:
        exp_avg, exp_avg_sq = state
        return SparseAdamState(
            exp_avg=add(exp_avg, mul(sub(grad, exp_avg), n.decays.rest1)),
            exp_avg_sq=add(exp_avg_sq, mul(sub(square(grad), exp_avg_sq), n.decays.rest2)),
        )

    def move(
        self,
        base: jax.Array,
        grad: jax.Array,
        state: SparseAdamState,
        param: jax.Array,
        n: SparseAdamNumbers,
    ) -> jax.Array:
        quotient = div(state.exp_avg, add(sqrt(state.exp_avg_sq), n.eps))
        return add(base, mul(quotient, -n.step_size))


sparse_adam = as_function(SparseAdam, "sparse_adam")
