"""torch.optim.LBFGS: the closure is evaluated where the pure form evaluates its function."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.hyperparameter_types import check
from torchwise.numbers import number
from torchwise.optim import lbfgs_state
from torchwise.optim.hooks import hooked
from torchwise.optim.optimizer import Optimizer
from torchwise.optim.parameter import Parameter, grads_of
from torchwise.optim.state import State
from torchwise.optim.transaction import hand_over, lock, settle
from torchwise.quasi_newton.iteration import host_loop, loss_dtype, minimize
from torchwise.quasi_newton.options import Options
from torchwise.quasi_newton.vector import flat
from torchwise.sparse import as_dense


class LBFGS(Optimizer):
    """L-BFGS, on the path of `torch.optim.LBFGS` but for the order in which dot products sum.

    All parameters are one vector, in a single group; a parameter without gradient has zeros in it.
    The state belongs to the first parameter.

    Args:
        params: see `Optimizer`; a single group.
        lr: the step length; with a line search, the first one to try.
        max_iter: how many iterations a step has at most.
        max_eval: after how many evaluations a step has no further iteration; None means a quarter
            more than `max_iter`.
        tolerance_grad: a step ends where no number of the gradient is larger.
        tolerance_change: a step ends where no parameter changes by more, or the loss by less.
        history_size: how many pairs of vectors like the parameters approximate the Hessian.
        line_search_fn: "strong_wolfe" or None.

    Raises:
        ValueError: as torch does, for a learning rate that is negative or NaN, and for groups.

    Source: as of `torchwise.lbfgs`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim.lbfgs import LBFGS
        >>> optimizer = LBFGS({"w": jnp.ones(2)}, line_search_fn="strong_wolfe")
        >>> def loss(params):
        ...     return jnp.sum((params["w"] - 3.0) ** 2)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     return optimizer.backward(loss)
        >>> optimizer.step(closure)
        Array(8., dtype=float32)
        >>> optimizer.params["w"]
        Array([3., 3.], dtype=float32)
    """

    def __init__(
        self,
        params: Any,
        lr: float | jax.Array = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        options = Options(
            lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size, line_search_fn
        )
        check(options, "LBFGS()")
        defaults = {key: getattr(options, key) for key in Options.group_keys}
        self._build(params, {**defaults, "max_eval": options.most_evaluations})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @hooked
    def step(self, closure: Callable[[], Any]) -> Any:
        """Do at most `max_iter` iterations; all of them count, or after an exception none.

        Args:
            closure: sets the gradients at the current parameters and returns the loss; it is called
                several times.

        Returns:
            What the closure returned the first time.

        Raises:
            AssertionError: as torch does, if a group was added.
            RuntimeError: as torch does, for a line search that there is none.
        """

        def evaluate() -> tuple[Any, Any, Mapping[Parameter, Any]]:
            loss = closure()
            return loss, loss, grads_of(self._parameters())

        return self._minimize(evaluate)

    @hooked
    def train_step(
        self, loss_fn: Callable[..., Any], *args: Any, has_aux: bool = False, **kwargs: Any
    ) -> Any:
        """Do what `step` does, without a closure; `.grad` is neither used nor set.

        Args:
            loss_fn: as for `backward`.
            *args: as for `backward`.
            has_aux: whether `loss_fn` returns `(loss, aux)`.
            **kwargs: as for `backward`.

        Returns:
            What `loss_fn` returns, before the first iteration.
        """

        def evaluate() -> tuple[Any, Any, Mapping[Parameter, Any]]:
            out, grads = self._gradients(loss_fn, args, kwargs, has_aux)
            return out, out[0] if has_aux else out, grads

        return self._minimize(evaluate)

    def to_functional(self, *, per_parameter_steps: bool = False) -> Any:
        """Refuse: no transformation of gradients does what L-BFGS does."""
        raise TypeError("LBFGS is no chain: in a jitted loop of your own, call torchwise.lbfgs()")

    def from_functional(self, params: Any, state: Any) -> None:
        """Refuse, as `to_functional`."""
        self.to_functional()

    # Inside.

    def _minimize(self, evaluate: Callable[[], tuple[Any, Any, Mapping[Parameter, Any]]]) -> Any:
        """Take a step; `evaluate` returns the result, the loss and the gradients."""
        if len(self.param_groups) != 1:
            raise AssertionError(
                f"Expected exactly one param_group, but got {len(self.param_groups)}"
            )
        options = self._options(self.param_groups[0])
        parameters = self._parameters()
        with lock:
            settle()
            start = [parameter.data for parameter in parameters]
            entry = self._state[parameters[0]]
            state = lbfgs_state.packed(entry.own_values, start, options.history_size)
        results: list[Any] = []

        def at(arrays: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
            _put(parameters, arrays)
            result, loss, found = evaluate()
            results.append(result)
            del results[1:]
            grads = [found.get(one) for one in parameters]
            given = [jnp.zeros_like(a) if g is None else as_dense(g) for a, g in zip(arrays, grads)]
            return jnp.asarray(float(number(loss)), loss_dtype()), flat(given)

        def put(chosen: tuple[list[jax.Array], Mapping[str, Any]]) -> None:
            arrays, made = chosen
            for parameter, array in zip(parameters, arrays):
                parameter.replace(array, owned=False)
            if made:
                entry.replace(made)

        chosen: tuple[list[jax.Array], Mapping[str, Any]] = start, {}  # until there is another end
        try:
            try:
                end, state = minimize(options, at, state, start, host_loop)
                chosen = end, lbfgs_state.unpacked(state)
            finally:
                hand_over(chosen, put)
        except BaseException:
            hand_over(chosen, put)  # an interrupt may have come before the first could
            raise
        return results[0]

    def _options(self, group: Mapping[str, Any]) -> Options:
        return Options.from_group({key: number(group[key]) for key in Options.group_keys})

    def _begin(self) -> None:
        """There is no state before the first step."""

    def _check(self, group: Mapping[str, Any]) -> None:
        check(Options.from_group(group), "LBFGS()")

    def _check_params(self, group: Mapping[str, Any]) -> None:
        """All parameters are taken."""

    def _loaded(self, state_dict: Mapping[str, Any]) -> tuple[list[dict[str, Any]], State]:
        return lbfgs_state.from_dict(state_dict, self.param_groups, self.defaults, self._check)


def _put(parameters: list[Parameter], arrays: list[jax.Array]) -> None:
    for parameter, array in zip(parameters, arrays):
        parameter.data = array
