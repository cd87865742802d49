"""The base of the stateful optimizers: it holds parameters, groups and state, and calls."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import jax

from torchwise.groups.selection import Groups
from torchwise.norms import check_limit
from torchwise.numbers import number
from torchwise.optim import engine
from torchwise.optim.differentiating import Differentiating
from torchwise.optim.documentation import EXAMPLE, documentation
from torchwise.optim.freezing import Freezing
from torchwise.optim.functional import Exporting
from torchwise.optim.hooks import hooked
from torchwise.optim.job import Job, results_are_checked
from torchwise.optim.parameter import Parameter, grads_of
from torchwise.optim.prepared import Preparations
from torchwise.optim.transaction import execute, lock, settle
from torchwise.sparse import as_rows


class Optimizer(Freezing, Differentiating, Exporting):
    """torch's Optimizer over JAX arrays: groups, hooks, gradients and state dicts around a rule.

    A subclass names its rule, which has the mathematics, the hyperparameters and what torch calls
    them.

    Args:
        params: a pytree of arrays, an iterable of arrays, of `(name, array)` or of `Parameter`, or
            a list of dicts, each with any of these under "params" and hyperparameters next to it.
        groups: which parameters of one tree have hyperparameters of their own, by their names: a
            list of dicts with patterns under "match", a function `(name, array) -> dict | None`, or
            a rule of `torchwise.groups`. `optimizer.params` stays the tree, whatever the groups.
        hyperparameters: of groups that do not give their own, in the order of the rule's fields.

    Attributes:
        param_groups: one dict per group, with its list of `Parameter` under "params".
        state: for each `Parameter` a mapping of arrays under torch's keys.
        defaults: the hyperparameters given to the constructor.
        grad_norm: the norm that all gradients of the last step had before it clipped them, a 0-d
            array; None if it did not. Only `train_step(..., max_grad_norm=)` clips.

    Raises:
        TypeError, ValueError, RuntimeError: as torch does, for what cannot be optimized.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.5)
        >>> optimizer.backward(lambda params: jnp.sum(params["w"] ** 2))
        Array(2., dtype=float32)
        >>> optimizer.step()
        >>> optimizer.params["w"]
        Array([0., 0.], dtype=float32)
    """

    example: ClassVar[str] = EXAMPLE

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in vars(cls) and cls.__doc__ is None:
            cls.__doc__ = documentation(cls.rule, cls.example)

    def __init__(
        self, params: Any, *values: Any, groups: Groups | None = None, **hyperparameters: Any
    ) -> None:
        taken = [one for one in fields(self.rule) if one.init and not one.kw_only]
        if len(values) > len(taken):
            raise TypeError(
                f"{type(self).__name__}.__init__() takes from 2 to {len(taken) + 2} positional "
                f"arguments but {len(values) + 2} were given"
            )
        rule = self.rule(*values, **hyperparameters)
        defaults = {key: getattr(rule, key) for key in self.rule.group_keys}
        self._build(params, defaults, groups)
        if defaults.get("fused"):
            if defaults.get("differentiable"):
                raise RuntimeError("`fused` does not support `differentiable`")
            if defaults.get("foreach"):
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")

    def _build(self, params: Any, defaults: dict[str, Any], groups: Groups | None = None) -> None:
        self.grad_norm: jax.Array | None = None
        super().__init__(params, defaults, groups)

    @hooked
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in one compiled program.

        Args:
            closure: computes gradients and the loss; called before the update.

        Returns:
            What the closure returned, or None.
        """
        loss = None if closure is None else closure()
        self._update(grads_of(self._parameters()))
        return loss

    @hooked
    def train_step(
        self,
        loss_fn: Callable[..., Any],
        *args: Any,
        has_aux: bool = False,
        materialize_grads: bool = False,
        max_grad_norm: float | jax.Array | None = None,
        **kwargs: Any,
    ) -> Any:
        """Loss, gradients and update in one call; `.grad` is neither used nor set.

        They are one compiled program, unless the loss function calls back into Python as it runs,
        or needs much memory: then the gradients are computed first, so that an exception leaves
        the parameters alone.

        Args:
            loss_fn: as for `backward`.
            *args: as for `backward`.
            has_aux: whether `loss_fn` returns `(loss, aux)`.
            materialize_grads: as for `backward`.
            max_grad_norm: clip the gradients, as `torchwise.clip_grad_norm` does with this
                `max_norm`, in the same program; `grad_norm` is their norm before. With `math.inf`
                they are measured only.
            **kwargs: as for `backward`.

        Returns:
            What `loss_fn` returns, before the update.

        Raises:
            RuntimeError, TypeError: as `backward`.
            ValueError: for a `max_grad_norm` that is negative or NaN.
        """
        limit = None if max_grad_norm is None else float(number(max_grad_norm))
        if limit is not None:
            check_limit("train_step(): max_grad_norm", limit)
        with lock:
            settle()
            one = self._evaluation(loss_fn, args, kwargs, has_aux, materialize_grads)
            if one.facts.alone or results_are_checked():
                out, grads = one.gradients()
                self._update(grads, limit)
                return out
            job = self._job(set(one.parameters), limit)
            loss = (one.loss, has_aux, one.skeleton_for(job.parameters))
            job.key, job.inputs = one.key, one.arrays
            job.call = lambda params, states: (
                engine.train,
                (job.plan, *loss, params, states, one.given, job.numbers, one.arrays),
            )
            out, *_ = execute(job.prepare, job.commit)
        return jax.tree.unflatten(one.facts.treedef, out)

    # Copies.

    def __getstate__(self) -> dict[str, Any]:  # like torch, without hooks
        with lock:
            settle()
            left_out = ("_preparations", "_compiled", "_evaluations")
            kept = vars(self).items()
            return {k: v for k, v in kept if not k.endswith("_hooks") and k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset_hooks()

    # Inside.

    @functools.cached_property
    def _preparations(self) -> Preparations:
        """What was prepared for steps."""
        return Preparations(self._rule, self._rule_keys())

    @functools.cached_property
    def _compiled(self) -> set[Any]:
        """The programs of steps that have run."""
        return set()

    def _job(self, active: Any, max_norm: float | None = None) -> Job:
        """Gather the parameters that move, group by group."""
        record = functools.partial(setattr, self, "grad_norm")
        job = Job(self._state, self._compiled, max_norm, record)
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter in active]
            if parameters:
                job.add(self._preparations.of(group, len(self.param_groups)), parameters)
        return job

    def _update(
        self,
        gradients: Mapping[Parameter, jax.Array],
        max_norm: float | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """Update the parameters that have gradients, in one compiled program; call `done` with it.

        It may be called twice.
        """
        with lock:
            settle()
            job = self._job(gradients, max_norm)
            job.done = done
            grads = list(map(gradients.__getitem__, job.parameters))
            grads = [one if isinstance(one, jax.Array) else as_rows(one) for one in grads]
            leaves = jax.tree.leaves(grads)
            job.key = tuple([one.sharding if one.committed else None for one in leaves])
            job.inputs = leaves
            job.call = lambda params, states: (
                engine.update,
                (job.plan, params, states, grads, job.numbers),
            )
            if job.parameters:
                execute(job.prepare, job.commit)
