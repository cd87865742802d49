"""Rates with a factor that is a function of one's own."""

from typing import Any

from torchwise.schedules.arithmetic import Double, iterate, traced, whole
from torchwise.schedules.schedule import Formula, as_schedule


class Lambda(Formula):
    """base * lr_lambda(count), as torch's `LambdaLR`.

    Args:
        base: what is multiplied, in the hyperparameter's unit.
        lr_lambda: from the count to a factor. In a compiled program the count is an int32 array,
            for which `jnp.where` and `jnp.minimum` take the place of `if` and `min`.

    Source: torch's LambdaLR page.

    Examples:
        >>> import torchwise
        >>> torchwise.schedules.lambda_(1.0, lambda count: 0.5**count)(2)
        0.25
    """

    scales = False
    lr_lambda: Any

    def at(self, base: Any, count: Any) -> Any:
        return base * _called(self.lr_lambda, count)


class Multiplicative(Formula):
    """base * lr_lambda(1) * ... * lr_lambda(count), as torch's `MultiplicativeLR`.

    There is no closed form: a value takes as many calls as its count, in a loop.

    Args:
        base: the first value, in the hyperparameter's unit.
        lr_lambda: from a count to the factor of that step; see `lambda_`.

    Raises:
        TypeError: unless `lr_lambda` is a function.

    Source: torch's MultiplicativeLR page.

    Examples:
        >>> import torchwise
        >>> torchwise.schedules.multiplicative(1.0, lambda count: 0.5)(3)
        0.125
    """

    lr_lambda: Any

    def check(self) -> None:
        if not callable(self.lr_lambda):
            kind = type(self.lr_lambda).__name__
            raise TypeError(f"lr_lambda should be a function, but got {kind}")

    def at(self, base: Any, count: Any) -> Any:
        return iterate(lambda value, index: value * _called(self.lr_lambda, index), base, count)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        return value if first else value * self.lr_lambda(count)


def _called(function: Any, count: Any) -> Any:
    found = function(whole(count))
    return traced(found) if isinstance(count, Double) else found


lambda_ = as_schedule(Lambda, "lambda_")
multiplicative = as_schedule(Multiplicative, "multiplicative")
