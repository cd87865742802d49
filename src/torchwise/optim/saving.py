"""The state of an optimizer, and how it is saved and loaded."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torchwise.groups.selection import Groups
from torchwise.optim import state_dicts
from torchwise.optim.grouped import Grouped
from torchwise.optim.hooks import Hooked
from torchwise.optim.parameter import Parameter
from torchwise.optim.state import ParameterState, State
from torchwise.optim.transaction import lock, settle
from torchwise.state_dict.entry import initial_entry


class Saving(Grouped, Hooked):
    """What has a state, and torch's dicts of its groups and its state."""

    _ids: Mapping[Parameter, str] = MappingProxyType({})  # where a dict that was loaded had names

    def __init__(self, params: Any, defaults: dict[str, Any], groups: Groups | None = None) -> None:
        self._state = State()
        self._reset_hooks()
        super().__init__(params, defaults, groups)
        self._begin()

    @property
    def state(self) -> State:
        """For each `Parameter` a mapping of arrays under torch's keys."""
        settle()
        return self._state

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
        return self._replaced(state_dict, self._state_dict_post_hooks)

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
        state_dict = self._replaced(state_dict, self._load_state_dict_pre_hooks)
        state_dicts.refuse_malformed(state_dict)
        with lock:
            settle()
            groups, state = self._loaded(state_dict)
            ids = state_dicts.names_for_ids(state_dict, groups)
            # At once: an interrupt may come.
            vars(self).update(param_groups=groups, _state=state, _ids=ids)
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)

    # What LBFGS, which has no rule, does in other ways.

    def _begin(self) -> None:
        """Make the state that torch makes before the first gradient."""
        if self.rule.starts_with_state:
            for rule, parameters in self._owners():
                for parameter in parameters:
                    entry = initial_entry(rule, parameter.own_array)
                    self._state[parameter] = ParameterState(entry)

    def _loaded(self, state_dict: Mapping[str, Any]) -> tuple[list[dict[str, Any]], State]:
        """Return the groups and the state that a state dict means."""
        return state_dicts.from_dict(
            state_dict, self.param_groups, self.defaults, self.rule, self._check, self._rule
        )
