"""The base of the stateful optimizers: it holds parameters, groups and state, and calls."""

import abc
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import jax
import numpy as np

from torchwise.optim import engine, functional, saving
from torchwise.optim.collection import Collection, is_groups, listed
from torchwise.optim.groups import complete_group
from torchwise.optim.hooks import Hooked, hooked
from torchwise.optim.jobs import Job
from torchwise.optim.parameter import Parameter
from torchwise.optim.recipe import Recipe
from torchwise.optim.skeleton import Skeleton, skeleton_of
from torchwise.transforms.chain import Chain

_NO_HYPERPARAMETERS = ("params", "param_names")


class Optimizer(Hooked, abc.ABC):
    """torch's Optimizer over JAX arrays: groups, hooks, state dicts around a functional chain.

    A subclass says which hyperparameters are valid (`_check`), which chain they mean (`_build`) and
    where gradients are between `backward` and `step`; all arithmetic is in that chain.

    Args:
        params: a pytree of arrays, an iterable of arrays, of `(name, array)` or of `Parameter`, or
            a list of dicts, each with any of these under "params" and hyperparameters beside it.
        defaults: the hyperparameters of groups that do not give their own.

    Attributes:
        param_groups: one dict a group, with its list of `Parameter` under "params".
        state: for each `Parameter` a dict of arrays under torch's keys.
        defaults: the hyperparameters given to the constructor.

    Raises:
        TypeError, ValueError: as torch does, for what cannot be optimized.
    """

    _added_later: ClassVar[dict[str, Any]] = {}  # group keys that old state dicts lack

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Parameter, dict[str, Any]] = defaultdict(dict)
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

    # What a subclass says.

    @abc.abstractmethod
    def _check(self, group: dict[str, Any]) -> None:
        """Raise torch's errors for invalid hyperparameters."""

    @abc.abstractmethod
    def _build(self, group: dict[str, Any]) -> Chain:
        """Return the chain of a group, whose hyperparameters are numbers."""

    @abc.abstractmethod
    def _memory(self) -> Chain:
        """Return the blocks whose state a parameter may have, used by its group or not."""

    @abc.abstractmethod
    def zero_grad(self) -> None:
        """Forget the gradients."""

    @abc.abstractmethod
    def backward(self, loss_fn: Callable[..., Any], *args: Any, has_aux: bool = False) -> Any:
        """Compute the gradients of `loss_fn(optimizer.params, *args)`."""

    @abc.abstractmethod
    def step(self) -> Any:
        """Update every parameter that has a gradient."""

    # Parameters.

    @property
    def params(self) -> Any:
        """The current values, in the structure that was passed.

        With `(name, array)` pairs that is a dict by name; with several groups, a list with one
        structure a group. What is returned keeps its values when the optimizer steps on.
        """
        trees = [
            jax.tree.map(lambda leaf: leaf.data if isinstance(leaf, Parameter) else leaf, kept.tree)
            for kept in self._collections
        ]
        return trees if self._given_as_groups or len(trees) > 1 else trees[0]

    @final
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
        self._collections.append(collection)
        self.param_groups.append(group)

    # Steps.

    @hooked
    def train_step(self, loss_fn: Callable[..., Any], *args: Any, has_aux: bool = False) -> Any:
        """Loss, gradients and update as one compiled program; `.grad` is neither used nor set.

        Args:
            loss_fn: computes the loss from `optimizer.params` and `args`; the same object at every
                call, or it is compiled again.
            *args: pytrees of arrays.
            has_aux: whether `loss_fn` returns `(loss, aux)`.

        Returns:
            What `loss_fn` returns, before the update.
        """
        job = self._job(
            [
                [parameter for parameter in group["params"] if parameter.requires_grad]
                for group in self.param_groups
            ]
        )
        skeleton, given = self._skeleton(job.parameters)
        out, *new = engine.train(
            job.plan, loss_fn, has_aux, skeleton, *job.donated(), given, job.numbers, args
        )
        job.commit(*new)
        return out

    # The functional face.

    def to_functional(self) -> tuple[Any, Any, Any]:
        """Return `(transform, params, state)` for a jitted loop of one's own.

        With several groups the transform routes each parameter to its group's chain. Leaves that
        are no parameters become None in `params`.
        """
        return functional.export(self)

    def from_functional(self, params: Any, state: Any) -> None:
        """Take back what came of `to_functional`.

        Args:
            params: the new values, in the structure that `to_functional` returned.
            state: the new state.

        Raises:
            ValueError: if the structure is another one; nothing has changed then.
        """
        functional.take_back(self, params, state)

    # State dicts.

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict: `state` by integer id, and `param_groups`.

        Arrays are shared with the optimizer, which never changes an array that others refer to.
        """
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        state_dict = saving.to_dict(self)
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
        groups, state = saving.from_dict(self, state_dict)
        self.param_groups, self.state = groups, state
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
        kept = {key: value for key, value in vars(self).items() if not key.endswith("_hooks")}
        del kept["_cached_recipe"]
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset_cache()
        self._reset_hooks()

    # Inside.

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _recipe(self, group: dict[str, Any]) -> Recipe:
        """Return a group's recipe, with arrays among its hyperparameters read as numbers."""
        items = tuple(item for item in group.items() if item[0] not in _NO_HYPERPARAMETERS)
        try:
            return self._cached_recipe(items)
        except TypeError:  # arrays cannot be hashed
            return self._new_recipe(items)

    def _new_recipe(self, items: tuple[tuple[str, Any], ...]) -> Recipe:
        numbers = {
            name: value.item() if isinstance(value, jax.Array | np.ndarray) else value
            for name, value in items
        }
        return Recipe(self._build(numbers))

    def _reset_cache(self) -> None:
        """Most steps have the hyperparameters of the one before, or of one not long ago."""
        self._cached_recipe = functools.lru_cache(maxsize=64)(self._new_recipe)

    def _job(self, active: list[list[Parameter]]) -> Job:
        """Gather the parameters that move, group by group."""
        job = Job(self.state)
        for group, parameters in zip(self.param_groups, active):
            if parameters:
                job.add(self._recipe(group), parameters)
        return job

    def _gradients(
        self, loss_fn: Callable[..., Any], args: tuple[Any, ...], has_aux: bool
    ) -> tuple[Any, dict[Parameter, jax.Array]]:
        """Return what the loss function returns, and the gradients of what requires them."""
        active = [one for one in self._parameters() if one.requires_grad]
        skeleton, given = self._skeleton(active)
        data = [parameter.data for parameter in active]
        out, grads = engine.value_and_grad(loss_fn, has_aux, skeleton, data, given, args)
        return out, dict(zip(active, grads))

    def _update(self, gradients: Mapping[Parameter, jax.Array]) -> None:
        """Update the parameters that have gradients, in one compiled program."""
        job = self._job(
            [
                [parameter for parameter in group["params"] if parameter in gradients]
                for group in self.param_groups
            ]
        )
        if job.parameters:
            grads = [gradients[parameter] for parameter in job.parameters]
            job.commit(*engine.update(job.plan, *job.donated(), grads, job.numbers))

    def _skeleton(self, differentiated: list[Parameter]) -> tuple[Skeleton, list[Any]]:
        """Return how to rebuild `params` when compiled, and the arrays that are as they are."""
        trees = [collection.tree for collection in self._collections]
        whole = trees if self._given_as_groups or len(trees) > 1 else trees[0]
        return skeleton_of(whole, differentiated)
