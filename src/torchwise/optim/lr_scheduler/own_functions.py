"""The schedulers with functions of one's own, one for all groups or one for each."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torchwise.optim.lr_scheduler.group_values import copied, refuse_late_groups
from torchwise.optim.lr_scheduler.scheduler import FormulaScheduler
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules import functions
from torchwise.schedules.schedule import Formula

Functions = Callable[[int], float] | Sequence[Callable[[int], float]]


def saved_function(function: Any) -> dict[str, Any] | None:
    """Return what torch saves of a function: nothing, or the attributes of a callable object."""
    return None if isinstance(function, types.FunctionType) else vars(function).copy()


class _FunctionScheduler(FormulaScheduler):
    """A scheduler with a function for each group.

    Attributes:
        lr_lambdas: the functions.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Functions, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        count = len(optimizer.param_groups)
        if not isinstance(lr_lambda, list | tuple):
            lr_lambda = [lr_lambda] * count  # pyright: ignore[reportAssignmentType]
        elif len(lr_lambda) != count:
            raise ValueError(f"Expected {count} lr_lambdas, but got {len(lr_lambda)}")
        self.lr_lambdas: list[Any] = list(lr_lambda)  # pyright: ignore[reportArgumentType]
        for function in self.lr_lambdas:
            self.formula(function).check()
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `last_epoch`."""
        self._warn_unless_within_step()
        refuse_late_groups(self, self.lr_lambdas)
        return [self._advanced(index) for index in range(len(self.lr_lambdas))]

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict; of functions it has nothing, of callable objects the attributes."""
        state_dict = super().state_dict()
        del state_dict["lr_lambdas"]
        return {**state_dict, "lr_lambdas": list(map(saved_function, self.lr_lambdas))}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a dict; attributes of callable objects go into the present ones."""
        saved = state_dict["lr_lambdas"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, saved):
            if attributes is not None:
                vars(function).update({key: copied(value) for key, value in attributes.items()})

    def _formula(self, group: int) -> Formula:
        return self.formula(self.lr_lambdas[group])


class LambdaLR(_FunctionScheduler):
    """`torchwise.schedules.lambda_` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        lr_lambda: from the epoch to a factor of the `initial_lr`; one, or one for each group.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: for another number of functions than groups, also at a step after a group was
            added.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    formula = functions.Lambda


class MultiplicativeLR(_FunctionScheduler):
    """`torchwise.schedules.multiplicative` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        lr_lambda: from the epoch to a factor of the present lr; one, or one for each group.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: for another number of functions than groups, also at a step after a group was
            added.
        TypeError: for what is no function.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    formula = functions.Multiplicative
