"""Whether an optimizer has stepped since its first scheduler was made, as torch's warnings ask."""

import weakref
from typing import Any, NamedTuple

from torchwise.optim.optimizer import Optimizer

_PAGE = "See more details at https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"
ORDER = (
    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and later, "
    "you should call them in the opposite order: `optimizer.step()` before `lr_scheduler.step()`.  "
    "Failure to do this will result in PyTorch skipping the first value of the learning rate "
    f"schedule. {_PAGE}"
)
OVERRIDDEN = (
    "Seems like `optimizer.step()` has been overridden after learning rate scheduler "
    "initialization. Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`. "
    f"{_PAGE}"
)
EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where "
    "possible. Please use `scheduler.step()` to step the scheduler. During the deprecation, if "
    "epoch is different from None, the closed form is used instead of the new chainable form, "
    "where available. Please open an issue if you are unable to replicate your use case: "
    "https://github.com/pytorch/pytorch/issues/new/choose."
)


class _Watch(NamedTuple):
    """Attributes: `called` has an item after a step; `own_step` is the id of a replaced `step`."""

    called: list[bool]
    own_step: int


# Not in the optimizer, which would be copied and pickled with it; torch's mark is lost there, too.
_watched: weakref.WeakKeyDictionary[Optimizer, _Watch] = weakref.WeakKeyDictionary()


def watch(optimizer: Optimizer) -> None:
    """Begin to note the steps of an optimizer, when its first scheduler is made."""
    if optimizer in _watched:
        return
    called: list[bool] = []

    def note(*_: Any) -> None:
        if not called:
            called.append(True)

    optimizer.register_step_pre_hook(note)
    _watched[optimizer] = _Watch(called, id(vars(optimizer).get("step")))


def complaint(optimizer: Optimizer) -> str | None:
    """Return torch's warning, if there is one, for the first step of a scheduler."""
    found = _watched.get(optimizer)
    if found is None or found.own_step != id(vars(optimizer).get("step")):
        return OVERRIDDEN
    return None if found.called else ORDER
