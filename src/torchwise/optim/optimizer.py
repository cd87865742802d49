"""The base of the stateful optimizers: it holds parameters, groups and state, and calls."""

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import numpy as np

from torchwise.groups.selection import MATCH, Groups
from torchwise.hyperparameter_types import check
from torchwise.norms import check_limit
from torchwise.numbers import number
from torchwise.optim import engine, functional, state_dicts
from torchwise.optim.assignment import Assignment
from torchwise.optim.collection import (
    Collection,
    collected_tree,
    is_groups,
    joined,
    listed,
)
from torchwise.optim.evaluation import Evaluation, Evaluations
from torchwise.optim.freezing import Freezing
from torchwise.optim.gradients import emptied, replace_grads
from torchwise.optim.groups import (
    collected,
    complete_group,
    completed,
    left_out,
    named_groups,
)
from torchwise.optim.hooks import Hooked, hooked
from torchwise.optim.hyperparameters import hyperparameters, is_immutable
from torchwise.optim.job import Job, results_are_checked
from torchwise.optim.parameter import Parameter, grads_of, is_tensor
from torchwise.optim.prepared import Prepared
from torchwise.optim.refusals import refuse_nothing
from torchwise.optim.state import ParameterState, State
from torchwise.optim.transaction import append_together, execute, lock, settle
from torchwise.rule import Rule
from torchwise.sparse import as_rows
from torchwise.state_dict.entry import initial_entry

_KEPT = 1024  # rules of groups, prepared for the engine

# Of every optimizer that takes the gradients of `train_step`, in its documentation.
EXAMPLE = """
    >>> import jax.numpy as jnp
    >>> from torchwise import optim
    >>> optimizer = optim.{name}({{"w": jnp.eye(2)}}, lr=0.5)
    >>> optimizer.train_step(lambda params: jnp.sum(params["w"] ** 2))
    Array(2., dtype=float32)
    >>> bool(jnp.any(optimizer.params["w"] < jnp.eye(2)))
    True
"""


class Optimizer(Freezing, Hooked):
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

    rule: ClassVar[type[Rule]]
    example: ClassVar[str] = EXAMPLE
    _ids: Mapping[Parameter, str] = MappingProxyType({})  # where a dict that was loaded had names

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in vars(cls) and cls.__doc__ is None:
            cls.__doc__ = _documentation(cls.rule, cls.example)

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
        self._build(params, {key: getattr(rule, key) for key in self.rule.group_keys}, groups)

    def _build(self, params: Any, defaults: dict[str, Any], groups: Groups | None = None) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.grad_norm: jax.Array | None = None
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
        self._given_as_groups, self._is_one_tree = is_groups(params), groups is not None
        if not self._given_as_groups and not jax.tree.leaves(params):
            raise ValueError("optimizer got an empty parameter list")
        if groups is not None:
            self._add_by_name(params, groups)
        else:
            for group in params if self._given_as_groups else [{"params": params}]:
                self.add_param_group(group)
        refuse_nothing(params, self._parameters())
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
        return self.rule.from_group(hyperparameters(group, self.rule.group_keys))

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise torch's errors for invalid hyperparameters."""
        read = hyperparameters(group, self.rule.group_keys)  # refuses functions
        tensors = {key: read[key] for key in read if is_tensor(group.get(key))}
        check(self.rule.from_group({**group, **tensors}), f"{type(self).__name__}()")

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

        With `(name, array)` pairs that is a dict by name; with a list of groups, a list with one
        structure per group, but with `groups=` the one tree. What is returned keeps its values when
        the optimizer steps on, and to change it changes nothing here: assign a whole tree of the
        same structure, as in `optimizer.params = new`. The state stays.

        Raises:
            ValueError: if what is assigned has another structure, shapes or types, by name; nothing
                has changed then.
        """
        with lock:
            settle()
            return jax.tree.map(
                lambda leaf: leaf.data if isinstance(leaf, Parameter) else leaf, self._tree()
            )

    @params.setter
    def params(self, values: Any) -> None:
        with lock:
            settle()
            execute(Assignment(self._tree(), values))

    @property
    def state(self) -> State:
        """For each `Parameter` a mapping of arrays under torch's keys."""
        settle()
        return self._state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own.

        Args:
            param_group: parameters under "params", as in the constructor, and hyperparameters;
                those not given are the defaults. The dict is not changed. If the parameters are one
                tree, as with `groups=`, new ones join its dicts, and those that it has and no
                group can also be named by patterns under "match".

        Raises:
            TypeError, ValueError: as torch does; the optimizer is then as it was before.
        """
        if isinstance(param_group, Mapping) and MATCH in param_group:
            self._add_left_out(param_group)
            return
        collection, group = complete_group(param_group, self.defaults, self.param_groups)
        self._check(group)
        self._check_params(group)
        if not self._is_one_tree:
            append_together((self._collections, self.param_groups), (collection, group))
            return
        whole, groups = joined(self._collections[0], collection), [*self.param_groups, group]
        vars(self).update(_collections=[whole], param_groups=groups)  # at once

    # Gradients and steps.

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` fill them with zeros.

        A sparse gradient of zeros has no entries, as in torch.
        """
        with lock:
            settle()
            held = {one: one.own_grad for one in self._parameters() if one.own_grad is not None}
            replace_grads(emptied(held, set_to_none))

    def backward(
        self,
        loss_fn: Callable[..., Any],
        *args: Any,
        has_aux: bool = False,
        materialize_grads: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Add the gradients of `loss_fn(optimizer.params, *args, **kwargs)` to `.grad`, jitted.

        As in torch, a parameter on which the loss does not depend has no gradient. Gradients of
        complex parameters are torch's, the conjugates of JAX's: along them the loss rises.

        Args:
            loss_fn: a function, the same object at every call, or it is compiled again.
            *args: pytrees of arrays and numbers. What is neither, as a flag or a string, is
                compiled into the program.
            has_aux: whether `loss_fn` returns `(loss, aux)`.
            materialize_grads: whether parameters that the loss does not use have zeros for a
                gradient, as in JAX; then decay and momentum move them.
            **kwargs: pytrees, as `args`.

        Returns:
            What `loss_fn` returns.

        Raises:
            RuntimeError: as torch does, if the loss depends on no parameter.
            TypeError: if `loss_fn` is no function, or what it returns no scalar.
        """
        out, grads = self._gradients(loss_fn, args, kwargs, has_aux, materialize_grads)
        with lock:
            held = grads_of(list(grads))
            replace_grads(grads | engine.add(held, {one: grads[one] for one in held}))
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
            position = {parameter: index for index, parameter in enumerate(job.parameters)}
            skeleton = one.skeleton.permuted([position[each] for each in one.parameters])
            loss = (one.loss, has_aux, skeleton)
            job.key, job.inputs = one.key, one.arrays
            job.call = lambda params, states: (
                engine.train,
                (job.plan, *loss, params, states, one.given, job.numbers, one.arrays),
            )
            execute(job)
        return jax.tree.unflatten(one.facts.treedef, job.out)

    # To pure functions and back.

    def to_functional(self, *, per_parameter_steps: bool = False) -> tuple[Any, Any, Any]:
        """Return `(transform, params, state)` for a jitted loop of one's own.

        With several groups the transform routes each parameter to its group's chain. Leaves that
        are no parameters become None in `params`.

        Args:
            per_parameter_steps: as for `torchwise.chain`; it is so in any case where the counts of
                the parameters differ.
        """
        with lock:
            settle()
            tree, owners = self._tree(), self._owners()
            functional.refuse_strangers("to_functional", tree, owners)
            return functional.export(tree, owners, self._state, per_parameter_steps)

    def from_functional(self, params: Any, state: Any) -> None:
        """Take back what came of `to_functional`.

        Args:
            params: the new values, in the structure that `to_functional` returned.
            state: the new state.

        Raises:
            ValueError: if the structure is another one; nothing has changed then.
        """
        with lock:
            settle()
            tree, owners = self._tree(), self._owners()
            functional.refuse_strangers("from_functional", tree, owners)
            execute(functional.Return(tree, owners, self._state, params, state))

    # State dicts.

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict: `state` by id, and `param_groups`.

        Ids are numbers in the order of the groups, within a group that in which its parameters were
        passed; or names, if the dict that was loaded had names for ids, as those of FSDP.
        Arrays are shared with the optimizer, which never changes an array that others refer to.
        """
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        with lock:
            settle()
            state_dict = state_dicts.to_dict(self.param_groups, self._state, self._ids)
        for hook in self._state_dict_post_hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over groups and state of a dict that `state_dict` or torch made.

        Parameters are matched by name where both sides have names, else by place, as in torch: in
        the order in which they were passed, of a dict that of its keys. (`jax.jit` and
        `jax.tree.map` return dicts with sorted keys.) Ids that are strings, as those of FSDP, are
        names. Everything is checked before anything is changed.

        Raises:
            ValueError: listing all that is missing, unexpected or of another shape, by name; or
                for what is no such dict.
        """
        if isinstance(state_dict, Mapping):
            state_dict = dict(state_dict)
        else:
            state_dicts.refuse_malformed(state_dict)
        for hook in self._load_state_dict_pre_hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        state_dicts.refuse_malformed(state_dict)
        with lock:
            settle()
            groups, state = self._loaded(state_dict)
            ids = state_dicts.names_for_ids(state_dict, groups)
            # At once: an interrupt may come.
            vars(self).update(param_groups=groups, _state=state, _ids=ids)
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
        with lock:
            settle()
            left_out = ("_prepared", "_last", "_compiled", "_evaluations")
            kept = vars(self).items()
            return {k: v for k, v in kept if not k.endswith("_hooks") and k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset_cache()
        self._reset_hooks()

    # Inside.

    def _add_by_name(self, params: Any, groups: Groups) -> None:
        """Make all groups of one tree."""
        if self._given_as_groups:
            raise ValueError(
                "groups are given twice: pass one tree of parameters with groups=, or a list of "
                "dicts with 'params' without it"
            )
        whole = collected(params)
        self._collections = [whole]
        for options, part in named_groups(whole, groups, self._rule_keys()):
            self._join(options, part)
        if whole.parameters and not self._parameters():
            raise ValueError("groups leave out all parameters: there is nothing to optimize")

    def _add_left_out(self, param_group: Mapping[str, Any]) -> None:
        """Make a group of parameters of the tree that are in none."""
        known = [one for collection in self._collections for one in collection.parameters]
        self._join(*left_out(param_group, known, self.param_groups, self._rule_keys()))

    def _join(self, options: dict[str, Any], part: Collection) -> None:
        """Add a group of parameters that are in the tree."""
        group = completed(options, part, self.defaults, self.param_groups)
        self._check(group)
        self._check_params(group)
        self.param_groups.append(group)

    def _tree(self) -> Any:
        """What was passed, with a `Parameter` in the place of each array that is optimized."""
        return collected_tree(self._collections, self._given_as_groups)

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _owners(self) -> list[tuple[Rule, list[Parameter]]]:
        """Return the rule and the parameters of each group."""
        return [(self._rule(group), group["params"]) for group in self.param_groups]

    def _prepare(self, group: Mapping[str, Any]) -> Prepared:
        given = tuple(map(group.get, self._rule_keys()))
        last = self._last.get(id(group))
        if last is not None and all(map(operator.is_, given, last[0])):
            return last[1]
        values = tuple(hyperparameters(group, self._rule_keys()).values())
        prepared = self._prepared(values, _types(values))
        if len(self._last) > 2 * len(self.param_groups):
            self._last.clear()
        if all(map(is_immutable, given)):  # else it may be the same object, and another value
            self._last[id(group)] = given, prepared
        return prepared

    def _rule_keys(self) -> Sequence[str]:
        """The keys of a group that its rule depends on."""
        return self.rule.group_keys

    def _reset_cache(self) -> None:
        """Most steps have the hyperparameters of the one before, or of one not long ago.

        Many of the others have another rate. `_last` has the hyperparameters of each group, and
        what was prepared of them.
        """
        known: dict[Any, Prepared] = {}

        def prepared(values: tuple[Any, ...], types: Any) -> Prepared:
            keys, rate, others = self._rule_keys(), values[0], (values[1:], types)
            plain = keys[0] == "lr" and type(rate) is float and rate != 0
            alike = known.get(others) if plain else None
            made = None if alike is None else alike.with_rate(rate)
            if made is None:
                made = Prepared(self._rule(dict(zip(keys, values))), alike)
                if len(known) == _KEPT:
                    known.clear()
                if plain and made.rate == rate:  # a subclass may multiply it
                    known[others] = made
            return made

        self._prepared = functools.lru_cache(maxsize=_KEPT)(prepared)
        self._last: dict[int, tuple[tuple[Any, ...], Prepared]] = {}
        self._compiled: set[Any] = set()
        self._evaluations = Evaluations(f"{type(self).__module__}.{type(self).__name__}")

    def _job(self, active: Any, max_norm: float | None = None) -> Job:
        """Gather the parameters that move, group by group."""
        job = Job(self._state, self._compiled, max_norm, self._record_norm)
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter in active]
            if parameters:
                job.add(self._prepare(group), parameters)
        return job

    def _evaluation(
        self,
        loss_fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        has_aux: bool,
        materialize_grads: bool,
    ) -> Evaluation:
        """Return what is compiled for a loss function, and on which arrays."""
        active = [one for one in self._parameters() if one.requires_grad]
        tree = self._tree()
        return self._evaluations.of(tree, active, loss_fn, args, kwargs, has_aux, materialize_grads)

    def _record_norm(self, norm: jax.Array | None) -> None:
        self.grad_norm = norm

    def _gradients(
        self,
        loss_fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        has_aux: bool,
        materialize_grads: bool = False,
    ) -> tuple[Any, dict[Parameter, jax.Array]]:
        """Return what the loss function returns, and the gradients of what it depends on."""
        with lock:
            settle()
            one = self._evaluation(loss_fn, args, kwargs, has_aux, materialize_grads)
            return one.gradients()

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
                execute(job)


def _types(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the types of hyperparameters: a number of numpy equals Python's, and rounds."""
    types = tuple(map(type, values))
    nested = (_types(value) for value in values if type(value) is tuple)
    return (*types, *nested) if tuple in types else types


def _documentation(rule: type[Rule], example: str) -> str:
    """Return the documentation of a rule for its stateful class, which has parameters, too."""
    text = (inspect.getdoc(rule) or "").split("\nExamples:")[0]
    theirs = "".join(f"    {name}: see `Optimizer`.\n" for name in ("params", "groups"))
    text = text.replace("Args:\n", f"Args:\n{theirs}", 1)
    return f"{text}\nExamples:{example.format(name=rule.name)}"
