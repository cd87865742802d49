"""Hooks: functions that run before and after, registered under removable handles."""

import functools
import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torchwise.optim.parameter import without_grads

Hook = Callable[..., Any]
Hooks = OrderedDict[int, Hook]

_next_id = itertools.count()


class RemovableHandle:
    """Removes its hook, once or as often as asked; at the end of a `with` block by itself.

    Attributes:
        id: the key of the hook in its registry.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD([jnp.ones(1)])
        >>> handle = optimizer.register_step_pre_hook(lambda *_: print("a step"))
        >>> optimizer.step()
        a step
        >>> handle.remove()
        >>> optimizer.step()
    """

    def __init__(self, hooks: Hooks) -> None:
        self.id = next(_next_id)
        self._hooks = weakref.ref(hooks)

    def remove(self) -> None:
        """Remove the hook if it is still there."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> "RemovableHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __getstate__(self) -> dict[str, Any]:  # a copy has no registry to remove from
        return {"id": self.id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.id = state["id"]
        self._hooks = weakref.ref(OrderedDict())


def register(hooks: Hooks, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
    """Add a hook at the end, or with `prepend` at the beginning."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


_global_pre_hooks: Hooks = OrderedDict()
_global_post_hooks: Hooks = OrderedDict()


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Run `hook(optimizer, args, kwargs)` before every step of every optimizer.

    Args:
        hook: `args` includes the optimizer itself. It may return None or `(new_args, new_kwargs)`.

    Returns:
        A handle whose `remove()` takes the hook away again.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> def note(optimizer, args, kwargs):
        ...     print(type(optimizer).__name__, "is going to step")
        >>> with optim.register_optimizer_step_pre_hook(note):
        ...     optim.SGD([jnp.ones(1)]).step()
        SGD is going to step
    """
    return register(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Run `hook(optimizer, args, kwargs)` after every step of every optimizer.

    Args:
        hook: its result is ignored.

    Returns:
        A handle whose `remove()` takes the hook away again.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> def note(optimizer, args, kwargs):
        ...     print(type(optimizer).__name__, "has stepped")
        >>> with optim.register_optimizer_step_post_hook(note):
        ...     optim.SGD([jnp.ones(1)]).step()
        SGD has stepped
    """
    return register(_global_post_hooks, hook)


def hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """Run the hooks around a step: global before local ahead of it, local before global after.

    Around a whole step, `train_step`, there are no gradients to look at.
    """
    whole = step.__name__ == "train_step"

    def call(hook: Hook, *arguments: Any) -> Any:
        return without_grads().run(hook, *arguments) if whole else hook(*arguments)

    @functools.wraps(step)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        optimizer = args[0]
        for hook in [*_global_pre_hooks.values(), *optimizer._step_pre_hooks.values()]:
            result = call(hook, optimizer, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(
                        f"{step} must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {result}."
                    )
                args, kwargs = result
        out = step(*args, **kwargs)
        for hook in [*optimizer._step_post_hooks.values(), *_global_post_hooks.values()]:
            call(hook, optimizer, args, kwargs)
        return out

    return wrapper


class Hooked:
    """What has torch's hooks around steps and state dicts."""

    def _reset_hooks(self) -> None:
        self._step_pre_hooks: Hooks = OrderedDict()
        self._step_post_hooks: Hooks = OrderedDict()
        self._state_dict_pre_hooks: Hooks = OrderedDict()
        self._state_dict_post_hooks: Hooks = OrderedDict()
        self._load_state_dict_pre_hooks: Hooks = OrderedDict()
        self._load_state_dict_post_hooks: Hooks = OrderedDict()

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Run `hook(optimizer, args, kwargs)` before each step; it may return new ones of both."""
        return register(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Run `hook(optimizer, args, kwargs)` after each step."""
        return register(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Run `hook(optimizer)` before `state_dict`."""
        return register(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Run `hook(optimizer, state_dict)` after `state_dict`; its result replaces the dict."""
        return register(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Run `hook(optimizer, state_dict)` before loading; what it returns replaces the dict."""
        return register(self._load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Run `hook(optimizer)` after loading."""
        return register(self._load_state_dict_post_hooks, hook, prepend)

    def _replaced(self, state_dict: dict[str, Any], hooks: Hooks) -> dict[str, Any]:
        """Return a state dict, or what hooks have put in its place."""
        for hook in hooks.values():
            result = hook(self, state_dict)
            if result is not None:
                state_dict = result
        return state_dict
