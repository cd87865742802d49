"""What torch's parameter groups and state dicts have to know of an optimizer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torchwise.transforms.chain import Chain


class GroupFormat(NamedTuple):
    """An optimizer of torch, between the groups of its state dict and a chain.

    Attributes:
        name: torch's.
        check: raises as torch does for invalid hyperparameters; takes a group's as keywords.
        build: returns their chain; takes a group's as keywords.
        defaults: all that torch writes into a group, in its order.
        added_later: what groups of old versions lack, with the values that torch gives it then.
        memory: the blocks whose state a parameter may have, used by its group or not.
        starts_with_state: whether torch keeps a state before the first gradient.
    """

    name: str
    check: Callable[..., None]
    build: Callable[..., Chain]
    defaults: Mapping[str, Any]
    added_later: dict[str, Any]
    memory: Chain
    starts_with_state: bool = False

    @property
    def required(self) -> list[str]:
        """The keys by which a group of this optimizer is recognised."""
        return [key for key in self.defaults if key not in self.added_later]
