"""The base of the stateful optimizers: it holds parameters, groups and state, and calls."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.numbers import numbers
from torchwise.optim import engine, functional, state_dicts
from torchwise.optim.collection import Collection, collected_tree, is_groups, listed
from torchwise.optim.groups import complete_group
from torchwise.optim.hooks import Hooked, hooked
from torchwise.optim.job import Job
from torchwise.optim.parameter import Parameter
from torchwise.optim.prepared import Prepared
from torchwise.optim.skeleton import Skeleton, skeleton_of
from torchwise.optim.state import ParameterState, State
from torchwise.optim.transaction import execute, settled
from torchwise.rule import Rule
from torchwise.state_dict.entry import initial_entry


class Optimizer(Hooked):
    """torch's Optimizer over JAX arrays: groups, hooks, gradients and state dicts around a rule.

    A subclass names its rule, which has the mathematics, the hyperparameters and what torch calls
    them.

    Args:
        params: a pytree of arrays, an iterable of arrays, of `(name, array)` or of `Parameter`, or
            a list of dicts, each with any of these under "params" and hyperparameters next to it.
        hyperparameters: of groups that do not give their own, in the order of the rule's fields.

    Attributes:
        param_groups: one dict per group, with its list of `Parameter` under "params".
        state: for each `Parameter` a mapping of arrays under torch's keys.
        defaults: the hyperparameters given to the constructor.

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

    rule: ClassVar[type[Rule]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in vars(cls) and cls.__doc__ is None:
            cls.__doc__ = _documentation(cls.rule)

    def __init__(self, params: Any, *values: Any, **hyperparameters: Any) -> None:
        taken = [one for one in fields(self.rule) if one.init and not one.kw_only]
        if len(values) > len(taken):
            raise TypeError(
                f"{type(self).__name__}.__init__() takes from 2 to {len(taken) + 2} positional "
                f"arguments but {len(values) + 2} were given"
            )
        rule = self.rule(*values, **hyperparameters)
        self._build(params, {key: getattr(rule, key) for key in self.rule.group_keys})

    def _build(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._state = State()
        self._collections: list[Collection] = []
        self._reset_cache()
        self._reset_hooks()
        if isinstance(params, Parameter | jax.Array | np.ndarray):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {type(params).__name__}"
            )
        self._check(defaults)
        params = listed(params)
        self._given_as_groups = is_groups(params)
        groups = params if self._given_as_groups else [{"params": params}]
        if not self._given_as_groups and not jax.tree.leaves(params):
            raise ValueError("optimizer got an empty parameter list")
        for group in groups:
            self.add_param_group(group)
        if defaults.get("fused"):
            if defaults.get("differentiable"):
                raise RuntimeError("`fused` does not support `differentiable`")
            if defaults.get("foreach"):
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        self._begin()

    # The rule of a group: what LBFGS, which has none, does in other ways.

    def _begin(self) -> None:
        """Make the state that torch makes before the first gradient."""
        if self.rule.starts_with_state:
            for rule, parameters in self._owners():
                for parameter in parameters:
                    entry = initial_entry(rule, parameter.own_array)
                    self._state[parameter] = ParameterState(entry)

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        """Return the rule with the hyperparameters of a group, read as numbers."""
        return self.rule.from_group({key: numbers(group[key]) for key in self.rule.group_keys})

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise torch's errors for invalid hyperparameters."""
        for key, value in group.items():
            if callable(value):
                raise TypeError(
                    f"{key} is a function, but a stateful optimizer takes a number: let a "
                    "scheduler of torchwise.optim.lr_scheduler write it, change "
                    f"param_groups[i][{key!r}] between steps, or pass the schedule to "
                    "the function of the same name, as torchwise.sgd"
                )
        self.rule.from_group(group).check()

    def _check_params(self, group: Mapping[str, Any]) -> None:
        """Raise torch's errors for parameters that the optimizer does not take."""
        rule = self._rule(group)
        for parameter in group["params"]:
            rule.check_param(parameter.own_array)

    def _loaded(self, state_dict: Mapping[str, Any]) -> tuple[list[dict[str, Any]], State]:
        """Return the groups and the state that a state dict means."""
        return state_dicts.from_dict(
            state_dict, self.param_groups, self.defaults, self.rule, self._check, self._rule
        )

    # Parameters.

    @property
    def params(self) -> Any:
        """The current values, in the structure that was passed.

        With `(name, array)` pairs that is a dict by name; with several groups, a list with one
        structure per group. What is returned keeps its values when the optimizer steps on.
        """
        with settled():
            return jax.tree.map(
                lambda leaf: leaf.data if isinstance(leaf, Parameter) else leaf, self._tree()
            )

    @property
    def state(self) -> State:
        """For each `Parameter` a mapping of arrays under torch's keys."""
        return self._state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own.

        Args:
            param_group: parameters under "params", as in the constructor, and hyperparameters;
                those not given are the defaults. The dict is not changed.

        Raises:
            TypeError, ValueError: as torch does; the optimizer is then as it was before.
        """
        collection, group = complete_group(param_group, self.defaults, self.param_groups)
        self._check(group)
        self._check_params(group)
        self._collections.append(collection)
        self.param_groups.append(group)

    # Gradients and steps.

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` fill them with zeros."""
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else jnp.zeros_like(parameter.grad)

    def backward(self, loss_fn: Callable[..., Any], *args: Any, has_aux: bool = False) -> Any:
        """Add the gradients of `loss_fn(optimizer.params, *args)` to `.grad`, jitted.

        Args:
            loss_fn: a function, the same object at every call, or it is compiled again.
            *args: pytrees of arrays.
            has_aux: whether `loss_fn` returns `(loss, aux)`.

        Returns:
            What `loss_fn` returns.
        """
        out, grads = self._gradients(loss_fn, args, has_aux)
        held = {one: one.grad for one in grads if one.grad is not None}
        grads |= engine.add(held, {one: grads[one] for one in held})
        for parameter, grad in grads.items():
            parameter.grad = grad
        return out

    @hooked
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in one compiled program.

        Args:
            closure: computes gradients and the loss; called before the update.

        Returns:
            What the closure returned, or None.
        """
        loss = None if closure is None else closure()
        held = ((one, one.grad) for one in self._parameters())
        self._update({one: grad for one, grad in held if grad is not None})
        return loss

    @hooked
    def train_step(self, loss_fn: Callable[..., Any], *args: Any, has_aux: bool = False) -> Any:
        """Loss, gradients and update in one call; `.grad` is neither used nor set.

        They are one compiled program, unless the loss function calls back into Python as it runs:
        then the gradients are computed first, so that an exception leaves the parameters alone.

        Args:
            loss_fn: computes the loss from `optimizer.params` and `args`; the same object at every
                call, or it is compiled again.
            *args: pytrees of arrays.
            has_aux: whether `loss_fn` returns `(loss, aux)`.

        Returns:
            What `loss_fn` returns, before the update.
        """
        with settled():
            active = {one for one in self._parameters() if one.requires_grad}
            job = self._job(active)
            skeleton, given = self._skeleton(job.parameters)
            loss = (loss_fn, has_aux, skeleton)
            if self._may_raise(job, *loss, given, args):
                out, grads = self._gradients(loss_fn, args, has_aux)
                self._update(grads)
                return out
            job.call = lambda params, states: engine.train(
                job.plan, *loss, params, states, given, job.numbers, args
            )
            execute(job)
        return job.out

    # To pure functions and back.

    def to_functional(self, *, per_parameter_steps: bool = False) -> tuple[Any, Any, Any]:
        """Return `(transform, params, state)` for a jitted loop of one's own.

        With several groups the transform routes each parameter to its group's chain. Leaves that
        are no parameters become None in `params`.

        Args:
            per_parameter_steps: as for `torchwise.chain`; it is so in any case where the counts of
                the parameters differ.
        """
        with settled():
            return functional.export(self._tree(), self._owners(), self._state, per_parameter_steps)

    def from_functional(self, params: Any, state: Any) -> None:
        """Take back what came of `to_functional`.

        Args:
            params: the new values, in the structure that `to_functional` returned.
            state: the new state.

        Raises:
            ValueError: if the structure is another one; nothing has changed then.
        """
        with settled():
            execute(functional.Return(self._tree(), self._owners(), self._state, params, state))

    # State dicts.

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict: `state` by integer id, and `param_groups`.

        Arrays are shared with the optimizer, which never changes an array that others refer to.
        """
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        with settled():
            state_dict = state_dicts.to_dict(self.param_groups, self._state)
        for hook in self._state_dict_post_hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over groups and state of a dict that `state_dict` or torch made.

        Parameters are matched by name where both sides have names, else by position. Everything is
        checked before anything is changed.

        Raises:
            ValueError: listing all that is missing, unexpected or of another shape, by name.
        """
        state_dict = state_dict.copy()
        for hook in self._load_state_dict_pre_hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        with settled():
            self.param_groups, self._state = self._loaded(state_dict)
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)

    # Copies.

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    def __getstate__(self) -> dict[str, Any]:  # like torch, without hooks
        with settled():
            left_out = ("_prepared", "_compiled", "_raising")
            kept = vars(self).items()
            return {k: v for k, v in kept if not k.endswith("_hooks") and k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset_cache()
        self._reset_hooks()

    # Inside.

    def _tree(self) -> Any:
        """What was passed, with a `Parameter` in the place of each array that is optimized."""
        return collected_tree(self._collections, self._given_as_groups)

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _owners(self) -> list[tuple[Rule, list[Parameter]]]:
        """Return the rule and the parameters of each group."""
        return [(self._rule(group), group["params"]) for group in self.param_groups]

    def _prepare(self, group: Mapping[str, Any]) -> Prepared:
        values = tuple([group.get(key) for key in self._rule_keys()])
        try:
            return self._prepared(values)
        except TypeError:  # arrays cannot be hashed
            return self._prepared(tuple(map(numbers, values)))

    def _rule_keys(self) -> Sequence[str]:
        """The keys of a group that its rule depends on."""
        return self.rule.group_keys

    def _reset_cache(self) -> None:
        """Most steps have the hyperparameters of the one before, or of one not long ago."""

        def prepared(values: tuple[Any, ...]) -> Prepared:
            return Prepared(self._rule(dict(zip(self._rule_keys(), values))))

        self._prepared = functools.lru_cache(maxsize=64)(prepared)
        self._compiled: set[Any] = set()
        self._raising: dict[Any, bool] = {}

    def _job(self, active: Any) -> Job:
        """Gather the parameters that move, group by group."""
        job = Job(self._state, self._compiled)
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter in active]
            if parameters:
                job.add(self._prepare(group), parameters)
        return job

    def _gradients(
        self, loss_fn: Callable[..., Any], args: tuple[Any, ...], has_aux: bool
    ) -> tuple[Any, dict[Parameter, jax.Array]]:
        """Return what the loss function returns, and the gradients of what requires them."""
        with settled():
            active = [one for one in self._parameters() if one.requires_grad]
            skeleton, given = self._skeleton(active)
            data = [parameter.own_array for parameter in active]
        out, grads = engine.value_and_grad(loss_fn, has_aux, skeleton, data, given, args)
        return out, dict(zip(active, grads))

    def _update(self, gradients: Mapping[Parameter, jax.Array]) -> None:
        """Update the parameters that have gradients, in one compiled program."""
        with settled():
            job = self._job(gradients)
            grads = [gradients[parameter] for parameter in job.parameters]
            job.call = lambda params, states: (
                None,
                *engine.update(job.plan, params, states, grads, job.numbers),
            )
            if job.parameters:
                execute(job)

    def _may_raise(
        self, job: Job, loss_fn: Any, has_aux: bool, skeleton: Skeleton, given: Any, args: Any
    ) -> bool:
        """Whether the loss calls back into Python; found out once for each function."""
        key = (loss_fn, has_aux, skeleton)
        if key not in self._raising:
            data = [parameter.own_array for parameter in job.parameters]
            self._raising[key] = engine.may_raise(*key, data, given, args)
        return self._raising[key]

    def _skeleton(self, differentiated: list[Parameter]) -> tuple[Skeleton, list[Any]]:
        """Return how to rebuild `params` when compiled, and the arrays that are as they are."""
        return skeleton_of(self._tree(), differentiated)


def _documentation(rule: type[Rule]) -> str:
    """Return the documentation of a rule for its stateful class, which has parameters first."""
    text = (inspect.getdoc(rule) or "").split("\nExamples:")[0]
    text = text.replace("Args:\n", "Args:\n    params: see `Optimizer`.\n", 1)
    return f"""{text}
Examples:
    >>> import jax.numpy as jnp
    >>> from torchwise import optim
    >>> optimizer = optim.{rule.name}({{"w": jnp.eye(2)}}, lr=0.5)
    >>> optimizer.train_step(lambda params: jnp.sum(params["w"] ** 2))
    Array(2., dtype=float32)
    >>> bool(jnp.any(optimizer.params["w"] < jnp.eye(2)))
    True
"""
