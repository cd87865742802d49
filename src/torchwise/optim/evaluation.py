"""One evaluation of a loss function: what is compiled, on which arrays, and what is known of it."""

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from torchwise.optim import engine
from torchwise.optim.jaxprs import bytes_made, dependent, may_raise
from torchwise.optim.parameter import Parameter
from torchwise.optim.skeleton import Skeleton, Static, skeleton_of
from torchwise.optim.transaction import refuse_traced

_LARGE = 2**26  # bytes; a program that makes fewer does not run out of memory
_KEPT = 256  # programs; more are dropped together
_ALIKE = 5  # functions of one definition, before a warning


class Loss(NamedTuple):
    """A loss function with those of its arguments that are no arrays; hashable.

    Attributes:
        function: of the parameters and the arguments.
        arguments: how to put `(args, kwargs)` together.
    """

    function: Static
    arguments: Skeleton

    def __call__(self, params: Any, *arrays: Any) -> Any:
        """Call the function."""
        args, kwargs = self.arguments.fill((), arrays)
        return self.function.value(params, *args, **kwargs)


class Facts(NamedTuple):
    """What the trace of a loss function tells.

    Attributes:
        treedef: of what it returns.
        used: for each parameter, whether the loss depends on it, so that it has a gradient.
        alone: whether gradients are computed before the step begins, since the program may raise as
            it runs, or run out of memory, and in one program with the step would take the
            parameters with it.
    """

    treedef: Any
    used: tuple[bool, ...]
    alone: bool


class Evaluation(NamedTuple):
    """A loss function on the parameters of an optimizer.

    Attributes:
        loss: the function.
        has_aux: whether it returns `(loss, aux)`.
        skeleton: of the tree that it takes.
        parameters: those that are differentiated.
        given: the other arrays of the tree.
        arrays: of the arguments.
        key: of what can differ between two calls with the same parameters.
        facts: what its trace tells.
    """

    loss: Loss
    has_aux: bool
    skeleton: Skeleton
    parameters: list[Parameter]
    given: list[Any]
    arrays: tuple[Any, ...]
    key: Any
    facts: Facts

    def skeleton_for(self, parameters: Sequence[Parameter]) -> Skeleton:
        """Return the skeleton for the arrays of the same parameters in another order."""
        position = {parameter: index for index, parameter in enumerate(parameters)}
        return self.skeleton.permuted([position[one] for one in self.parameters])

    def gradients(self) -> tuple[Any, dict[Parameter, jax.Array]]:
        """Return what the loss function returns, and the gradients of `parameters`.

        Where the program may raise as it runs, they are waited for, so that it raises here.
        """
        data = [parameter.own_array for parameter in self.parameters]
        program = (self.loss, self.has_aux, self.skeleton)
        out, grads = engine.value_and_grad(*program, data, self.given, self.arrays)
        refuse_traced(grads)
        if self.facts.alone:
            jax.block_until_ready(grads)
        return out, dict(zip(self.parameters, grads))


class Evaluations:
    """The loss functions that an optimizer has seen, each traced once for each kind of arguments.

    Args:
        owner: what warnings call the optimizer.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._facts: OrderedDict[Any, Facts] = OrderedDict()
        self._alike: dict[Any, set[Any]] = {}

    def of(
        self,
        tree: Any,
        parameters: Sequence[Parameter],
        loss_fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        has_aux: bool,
        materialize_grads: bool = False,
    ) -> Evaluation:
        """Return the evaluation of a loss function.

        Args:
            tree: holds a `Parameter` in the place of each array that is optimized.
            parameters: those that require gradients.
            loss_fn: of the tree of arrays, `args` and `kwargs`.
            args: of the function.
            kwargs: of the function.
            has_aux: whether it returns `(loss, aux)`.
            materialize_grads: whether parameters that it does not use have zeros for gradients.

        Raises:
            TypeError: if `loss_fn` is no function.
            RuntimeError: as torch does, if the loss depends on no parameter.
        """
        if not callable(loss_fn):
            raise TypeError(
                f"the first argument is the loss function, not its value: got {_named(loss_fn)}; "
                "pass the function and its other arguments, as train_step(loss_fn, x, y)"
            )
        arguments, arrays = skeleton_of((args, dict(kwargs)), (), numbers=True)
        loss = Loss(Static(loss_fn), arguments)
        call = loss, has_aux, tuple(arrays)
        evaluation = self._of(tree, list(parameters), *call)
        used = evaluation.facts.used
        if materialize_grads or all(used):
            return evaluation
        if not any(used):
            raise RuntimeError(
                "the loss does not depend on any parameter that requires a gradient: compute it "
                "from the first argument of the loss function"
            )
        return self._of(tree, [one for one, kept in zip(parameters, used) if kept], *call)

    def _of(
        self, tree: Any, parameters: list[Parameter], loss: Loss, has_aux: bool, arrays: Any
    ) -> Evaluation:
        skeleton, given = skeleton_of(tree, parameters)
        key = (loss, has_aux, skeleton, tuple(map(kind_of, arrays)), tuple(map(kind_of, given)))
        facts = self._facts.get(key)
        if facts is None:
            data = [parameter.own_array for parameter in parameters]
            facts = _facts((loss, has_aux, skeleton, data, given, arrays))
            self._remember(key, facts, loss.function.value)
        return Evaluation(loss, has_aux, skeleton, parameters, given, arrays, key, facts)

    def _remember(self, key: Any, facts: Facts, function: Any) -> None:
        if len(self._facts) >= _KEPT:
            self._facts.clear()
            self._alike.clear()
            engine.forget_losses()
        self._facts[key] = facts
        code = _code_of(function)
        if code is None:
            return
        alike = self._alike.setdefault(code, set())
        alike.add(Static(function))
        if len(alike) == _ALIKE:
            warnings.warn(
                f"{self._owner} has compiled {_ALIKE} loss functions of the same definition, "
                f"{code.co_name} at {code.co_filename}:{code.co_firstlineno}: define the function "
                "outside of the loop, and pass what changes as an argument",
                stacklevel=2,
            )


def kind_of(array: Any) -> Any:
    """Return all that a compiled program depends on, of an array or a number.

    Raises:
        RuntimeError: for a value of a trace.
    """
    refuse_traced(array)
    if isinstance(array, jax.Array):
        return array.aval, array.committed, array.sharding
    if isinstance(array, np.ndarray | np.generic):
        return array.shape, array.dtype
    return type(array)


def _facts(program: tuple[Any, ...]) -> Facts:
    traced = engine.value_and_grad.trace(*program)
    jaxpr = traced.jaxpr.jaxpr
    out, grads = traced.out_info
    alone = may_raise(jaxpr) or bytes_made(jaxpr) > _LARGE
    used = dependent(jaxpr)[len(jaxpr.outvars) - len(grads) :]
    return Facts(jax.tree.structure(out), tuple(used), alone)


def _code_of(function: Any) -> Any:
    """Return what functions that are made anew at each call share."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__wrapped__", function)
    return getattr(function, "__code__", None)


def _named(value: Any) -> str:
    kind = type(value).__name__
    return f"an array of shape {value.shape}" if isinstance(value, jax.Array) else f"a {kind}"
