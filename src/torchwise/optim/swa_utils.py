"""torch.optim.swa_utils: an average of a model beside it, its functions, and its scheduler."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.averages import EMA, SWA, WeightedSum, check_decay
from torchwise.numbers import Scalar, number
from torchwise.optim.averaging import Averaging, Function, held
from torchwise.optim.lr_scheduler.swa import SWALR
from torchwise.optim.parameter import Parameter
from torchwise.optim.transaction import execute, lock, settle
from torchwise.rounding import lerp, pinned
from torchwise.state_dict.arrays import any_array
from torchwise.state_dict.layout import Layout
from torchwise.state_dict.models import params_from_state_dict, params_to_state_dict

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
]


def get_ema_avg_fn(decay: Scalar = 0.999) -> Function:
    """Return `decay * average + (1 - decay) * value` as a function for `AveragedModel`.

    Args:
        decay: from 0 to 1.

    Raises:
        ValueError: as torch does, for a decay outside of [0, 1].

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_ema_avg_fn(0.75)(jnp.array([4.0]), jnp.array([8.0]), 1)
        Array([5.], dtype=float32)
    """
    check_decay(decay)
    return _Formula(WeightedSum(float(number(decay))).advance)


def get_ema_multi_avg_fn(decay: Scalar = 0.999) -> Function:
    """Return the interpolation from averages towards values as a function for `AveragedModel`.

    Args:
        decay: from 0 to 1.

    Raises:
        ValueError: as torch does, for a decay outside of [0, 1].

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_ema_multi_avg_fn(0.75)([jnp.array([4.0])], [jnp.array([8.0])], 1)
        [Array([5.], dtype=float32)]
    """
    check_decay(decay)
    return _Formula(EMA(float(number(decay))).advance)


def get_swa_avg_fn() -> Function:
    """Return the mean, `average + (value - average) / (n + 1)`, as a function for `AveragedModel`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_swa_avg_fn()(jnp.array([4.0]), jnp.array([8.0]), 1)
        Array([6.], dtype=float32)
    """
    return _Formula(SWA().advance)


def get_swa_multi_avg_fn() -> Function:
    """Return the mean as an interpolation, as a function for `AveragedModel`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_swa_multi_avg_fn()([jnp.array([4.0])], [jnp.array([8.0])], 1)
        [Array([6.], dtype=float32)]
    """
    return _Formula(_interpolated_mean)


class AveragedModel:
    """The average of a model's parameters over its updates, as `torch.optim.swa_utils` keeps it.

    The model is a tree of arrays. Leaves of floating point or complex type are parameters; other
    arrays are buffers, which are copied from the model. A buffer of floating point type in torch,
    as a running mean, counts as a parameter in a tree and is averaged; keep it in another tree to
    prevent that.

    Args:
        model: a tree, as `optimizer.params`; its arrays are copied.
        device: where the average is kept; by default beside the model.
        avg_fn: `(average, value, n_averaged) -> average` for one array.
        multi_avg_fn: `(averages, values, n_averaged) -> averages` for lists of arrays of one type.
            Give at most one of the two; without either it is the mean, `get_swa_avg_fn()`.
        use_buffers: average buffers of integers as well, in float32.

    Attributes:
        module: the average, in the structure of the model.
        n_averaged: how many models it is the average of.

    Raises:
        AssertionError: as torch does, if both functions are given.

    Source: `torch.optim.swa_utils.AveragedModel`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim.swa_utils import AveragedModel
        >>> averaged = AveragedModel({"w": jnp.zeros(1)})
        >>> for value in (1.0, 3.0):
        ...     averaged.update_parameters({"w": jnp.array([value])})
        >>> averaged.module, averaged.n_averaged
        ({'w': Array([2.], dtype=float32)}, 2)
        >>> list(averaged.state_dict())
        ['n_averaged', 'module.w']
    """

    def __init__(
        self,
        model: Any,
        device: Any = None,
        avg_fn: Function | None = None,
        multi_avg_fn: Function | None = None,
        use_buffers: bool = False,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers
        self.n_averaged = 0
        self._device = device
        self._average = multi_avg_fn or avg_fn or get_swa_avg_fn()
        self._may_fail = not isinstance(self._average, _Formula)
        if avg_fn is not None and self._may_fail:
            self._average = _Each(avg_fn)
        self._compiled = False
        leaves, self._treedef = jax.tree.flatten(model)
        self._leaves = [held(leaf, device) for leaf in leaves]

    @property
    def module(self) -> Any:
        """The average; later updates do not change the arrays that were handed out."""
        with lock:
            settle()
            return self._tree(lambda leaf: leaf.data if isinstance(leaf, Parameter) else leaf)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged model, if the tree can be called, as an Equinox module can."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Any) -> None:
        """Take the parameters of a model into the average, in one compiled program.

        Raises:
            ValueError: naming every leaf that does not fit; nothing has changed then.
        """
        with lock:
            settle()
            count = self.n_averaged
            first = count > 0 and not self._compiled  # compiled now, which may be interrupted

            def done(leaves: list[Any]) -> None:
                self._leaves, self.n_averaged = leaves, count + 1
                self._compiled = count > 0

            work = Averaging(
                self._leaves,
                self._fitting(model),
                count=count,
                average=self._average,
                use_buffers=self.use_buffers,
                keep=first or self._may_fail,
                done=done,
            )
            execute(work)

    def state_dict(self, *, layout: Layout = Layout()) -> dict[str, Any]:  # noqa: B008 (immutable)
        """Return torch's dict: `n_averaged`, and the average under `module.` and torch's names.

        Args:
            layout: how names and axes differ, as for `params_to_state_dict`.
        """
        average = self._arrays()
        arrays = params_to_state_dict(average, layout=_within(layout))
        return {"n_averaged": np.asarray(self.n_averaged, np.int64), **arrays}

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        layout: Layout = Layout(),  # noqa: B008 (immutable)
    ) -> None:
        """Take over what `state_dict`, or torch's, returned, or a checkpoint holds.

        Args:
            state_dict: arrays of numpy, JAX or torch by name.
            layout: as for `state_dict`.

        Raises:
            ValueError: listing all that is missing, unexpected or of another shape, by name;
                nothing has changed then.
        """
        average = self._arrays()
        ignoring = layout._replace(ignore=(*layout.ignore, "n_averaged"))
        loaded = params_from_state_dict(state_dict, average, layout=_within(ignoring))
        if "n_averaged" not in state_dict:
            raise ValueError("load_state_dict(): the state dict does not fit: no 'n_averaged'")
        count = int(any_array(state_dict["n_averaged"]))
        arrays = iter(jax.tree.leaves(loaded))
        with lock:
            settle()
            leaves = [
                held(next(arrays), self._device) if hasattr(leaf, "dtype") else leaf
                for leaf in self._leaves
            ]
            self._leaves, self.n_averaged = leaves, count

    def _arrays(self) -> Any:
        """Return the average without leaves that are no arrays."""
        average = self.module
        return jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else None, average)

    def _tree(self, of_leaf: Callable[[Any], Any]) -> Any:
        return self._treedef.unflatten(list(map(of_leaf, self._leaves)))

    def _fitting(self, model: Any) -> list[Any]:
        """Return the leaves of a model that fits, where the average is."""
        entries, treedef = jax.tree.flatten_with_path(model)
        if treedef != self._treedef:
            raise ValueError(
                "update_parameters(): the average is one of another model:\n"
                f"  average: {self._treedef}\n  model: {treedef}"
            )
        problems = [
            f"{jax.tree_util.keystr(path)}: the average has shape {leaf.shape}, the model "
            f"{jnp.shape(value)}"
            for leaf, (path, value) in zip(self._leaves, entries)
            if hasattr(leaf, "dtype") and jnp.shape(value) != leaf.shape
        ]
        if problems:
            listed = "\n  ".join(problems)
            raise ValueError(f"update_parameters(): the model does not fit:\n  {listed}")
        values = [value for _, value in entries]
        if self._device is None:
            return values
        return [
            jax.device_put(value, self._device) if hasattr(leaf, "dtype") else value
            for leaf, value in zip(self._leaves, values)
        ]


class _Formula:
    """A formula for one array, compiled, for an array or a list of them; it cannot fail."""

    def __init__(self, advance: Function) -> None:
        self._advance = advance

    def __call__(self, average: Any, value: Any, n: Any) -> Any:
        return _evaluated(self._advance, average, value, n)

    def __hash__(self) -> int:
        return hash(self._advance)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Formula) and self._advance == other._advance


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(advance: Function, average: Any, value: Any, n: Any) -> Any:
    return jax.tree.map(lambda old, new: advance(old, new, n), average, value)


class _Each:
    """A function for one array as one for lists; equal for the same, which is compiled once."""

    def __init__(self, function: Function) -> None:
        self._function = function

    def __call__(self, averages: Sequence[Any], values: Sequence[Any], n: Any) -> list[Any]:
        return [self._function(average, value, n) for average, value in zip(averages, values)]

    def __hash__(self) -> int:
        return hash(self._function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Each) and self._function == other._function


def _interpolated_mean(average: jax.Array, value: jax.Array, n: Any) -> jax.Array:
    """`average.lerp(value, 1 / (n + 1))`; torch's weight is a float32 tensor for every type."""
    below = pinned(jnp.asarray(n + 1).astype(jnp.float32))
    return lerp(average, value, pinned(jnp.ones_like(below) / below))


def _within(layout: Layout) -> Layout:
    """Return the layout of a model within another, under "module."."""
    rename = layout.rename

    def name(path: str) -> str:
        return "module." + (rename(path) if callable(rename) else rename.get(path, path))

    return layout._replace(rename=name)
