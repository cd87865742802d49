"""L-BFGS as pure functions, for jitted programs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.hyperparameter_types import check
from torchwise.numbers import Scalar
from torchwise.quasi_newton.arguments import checked_evaluation, refuse_params, refuse_state
from torchwise.quasi_newton.iteration import LBFGSState, initial_state, loss_dtype, minimize
from torchwise.quasi_newton.options import Options
from torchwise.quasi_newton.vector import flat


class LBFGS(Options):
    """What `lbfgs` returns: two pure functions and their hyperparameters, which are a pytree.

    Jit a function around `step`, or every call traces the loss anew.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from torchwise.quasi_newton.lbfgs import LBFGS
        >>> loss = jax.value_and_grad(lambda x: jnp.sum((x - 3.0) ** 2))
        >>> optimizer, params = LBFGS(line_search_fn="strong_wolfe"), jnp.ones(2)
        >>> params, state = optimizer.step(loss, optimizer.init(params), params)
        >>> params, int(state.func_evals)
        (Array([3., 3.], dtype=float32), 3)
    """

    def init(self, params: Any) -> LBFGSState:
        """Return the state before the first step.

        Args:
            params: a tree of float or complex arrays.

        Raises:
            ValueError: for a `history_size` below 1.
            TypeError: for params that are no such tree.
        """
        refuse_params("init", params)
        return initial_state(params, self.history_size)

    def step(
        self, value_and_grad_fn: Callable[[Any], tuple[Any, Any]], state: LBFGSState, params: Any
    ) -> tuple[Any, LBFGSState]:
        """Return the new parameters and the new state.

        Args:
            value_and_grad_fn: returns the loss, 0-d, and the gradients, a tree like `params`; for
                complex parameters in torch's sense, the conjugates of those of `jax.grad`.
            state: what `init` or the last `step` returned.
            params: a tree of float or complex arrays.

        Raises:
            RuntimeError: as torch does, for a line search that there is none.
            TypeError: for other arguments, by name.
        """
        refuse_params("step", params)
        refuse_state(state, value_and_grad_fn)

        def evaluate(params: Any) -> tuple[jax.Array, jax.Array]:
            loss, grads = checked_evaluation(value_and_grad_fn(params), params)
            return jnp.asarray(loss, loss_dtype()), flat(grads)

        return minimize(self, evaluate, state, params)


def lbfgs(
    lr: Scalar = 1,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: Scalar = 1e-7,
    tolerance_change: Scalar = 1e-9,
    history_size: int = 100,
    line_search_fn: str | None = None,
) -> LBFGS:
    """L-BFGS, on the path of `torch.optim.LBFGS` but for the order in which dot products sum.

    Args:
        lr: the step length; with a line search, the first one to try. A number or a 0-d array.
        max_iter: how many iterations a step has at most.
        max_eval: after how many evaluations a step has no further iteration; None means a quarter
            more than `max_iter`.
        tolerance_grad: a step ends where no number of the gradient is larger.
        tolerance_change: a step ends where no parameter changes by more, or the loss by less.
        history_size: how many pairs of vectors like the parameters approximate the Hessian.
        line_search_fn: "strong_wolfe" or None.

    Raises:
        ValueError: as torch does, for a learning rate that is negative or NaN.

    Source: torch 2.13.0; Nocedal and Wright, Numerical Optimization, sections 3.5 and 7.2.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from torchwise.quasi_newton.lbfgs import lbfgs
        >>> optimizer, params = lbfgs(lr=0.5, max_iter=1), {"w": jnp.full(2, 0.25)}
        >>> loss = jax.value_and_grad(lambda params: jnp.sum(params["w"] ** 2))
        >>> optimizer.step(loss, optimizer.init(params), params)[0]
        {'w': Array([0., 0.], dtype=float32)}
    """
    optimizer = LBFGS(
        lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size, line_search_fn
    )
    check(optimizer, "lbfgs()")
    return optimizer
