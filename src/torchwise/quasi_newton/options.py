"""The hyperparameters of L-BFGS."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torchwise.fields import Fields
from torchwise.numbers import Scalar, check_single, require


class Options(Fields):
    """What both forms of L-BFGS take; see `lbfgs`.

    Attributes:
        group_keys: the keys of torch's parameter groups, in torch's order.
    """

    group_keys: ClassVar = (
        *("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change"),
        *("history_size", "line_search_fn"),
    )

    lr: Scalar = 1
    max_iter: int = 20
    max_eval: int | None = None
    tolerance_grad: Scalar = 1e-7
    tolerance_change: Scalar = 1e-9
    history_size: int = dataclasses.field(default=100, metadata={"static": True})
    line_search_fn: str | None = None

    @classmethod
    def from_group(cls, options: Mapping[str, Any]) -> Self:
        """Return the hyperparameters of one of torch's groups."""
        return cls(**{key: options[key] for key in cls.group_keys})

    @property
    def most_evaluations(self) -> int:
        """After how many evaluations a step has no further iteration."""
        return self.max_iter * 5 // 4 if self.max_eval is None else self.max_eval

    def check(self) -> None:
        """Raise what torch raises for invalid hyperparameters."""
        check_single(self.lr)
        require(0.0 <= self.lr, f"Invalid learning rate: {self.lr}")
