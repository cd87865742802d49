"""Rates that go from one factor of their base to another."""

from typing import Any

from torchwise.numbers import Scalar, refuse
from torchwise.schedules.arithmetic import choose, least, power
from torchwise.schedules.schedule import Formula, as_schedule


class Constant(Formula):
    """base * factor in the first steps, then base, as torch's `ConstantLR`.

    Args:
        base: the value from `total_iters` on, in the hyperparameter's unit.
        factor: of the first steps, from 0 to 1.
        total_iters: how many steps have the factor.

    Raises:
        ValueError: for a factor that is not between 0 and 1.

    Source: torch's ConstantLR page.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.constant(1.0, factor=0.5, total_iters=2)
        >>> schedule(1), schedule(2)
        (0.5, 1.0)
    """

    factor: Scalar = 1.0 / 3
    total_iters: Scalar = 5

    def check(self) -> None:
        message = "Constant multiplicative factor expected to be between 0 and 1."
        refuse(self.factor > 1.0, message)
        refuse(self.factor < 0, message)

    def at(self, base: Any, count: Any) -> Any:
        after = choose(count >= self.total_iters, lambda: 1.0, lambda: 0.0)
        return base * (self.factor + after * (1 - self.factor))

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        if count == 0:
            return value * self.factor
        return value * (1.0 / self.factor) if count == self.total_iters else value


class Linear(Formula):
    """base times a factor on a straight line, as torch's `LinearLR`.

    Args:
        base: what is multiplied, in the hyperparameter's unit.
        start_factor: at the first step, above 0 and at most 1.
        end_factor: from `total_iters` on, from 0 to 1.
        total_iters: how many steps there are on the line.

    Raises:
        ValueError: for factors out of these bounds.

    Source: torch's LinearLR page.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.linear(1.0, start_factor=0.5, total_iters=4)
        >>> schedule(0), schedule(1), schedule(4), schedule(5)
        (0.5, 0.625, 1.0, 1.0)
    """

    start_factor: Scalar = 1.0 / 3
    end_factor: Scalar = 1.0
    total_iters: Scalar = 5

    def check(self) -> None:
        message = (
            "Starting multiplicative factor expected to be greater than 0 and less or equal to 1."
        )
        refuse(self.start_factor > 1.0, message)
        refuse(self.start_factor <= 0, message)
        message = "Ending multiplicative factor expected to be between 0 and 1."
        refuse(self.end_factor > 1.0, message)
        refuse(self.end_factor < 0, message)

    def at(self, base: Any, count: Any) -> Any:
        rise = self.end_factor - self.start_factor
        return base * (self.start_factor + rise * least(self.total_iters, count) / self.total_iters)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        if count == 0:
            return value * self.start_factor
        if first or count > self.total_iters:
            return value
        rise = self.end_factor - self.start_factor
        return value * (1.0 + rise / (self.total_iters * self.start_factor + (count - 1) * rise))


class Exponential(Formula):
    """base * gamma ** count, as torch's `ExponentialLR`.

    Args:
        base: the first value, in the hyperparameter's unit.
        gamma: the factor of every step.

    Source: torch's ExponentialLR page.

    Examples:
        >>> import torchwise
        >>> torchwise.schedules.exponential(1.0, gamma=0.5)(3)
        0.125
    """

    gamma: Scalar

    def at(self, base: Any, count: Any) -> Any:
        return base * power(self.gamma, count)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        return value if first else value * self.gamma


class Polynomial(Formula):
    """base * (1 - count / total_iters) ** power, then 0, as torch's `PolynomialLR`.

    Args:
        base: the first value, in the hyperparameter's unit.
        total_iters: from which step on the value is 0.
        power: of the polynomial.

    Source: torch's PolynomialLR page.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.polynomial(1.0, total_iters=4, power=2.0)
        >>> schedule(0), schedule(2), schedule(4)
        (1.0, 0.25, 0.0)
    """

    total_iters: Scalar = 5
    power: Scalar = 1.0

    def at(self, base: Any, count: Any) -> Any:
        left = 1.0 - least(self.total_iters, count) / self.total_iters
        return base * power(left, self.power)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        if first or count > self.total_iters:
            return value
        before = 1.0 - (count - 1) / self.total_iters
        return value * ((1.0 - count / self.total_iters) / before) ** self.power


constant = as_schedule(Constant, "constant")
linear = as_schedule(Linear, "linear")
exponential = as_schedule(Exponential, "exponential")
polynomial = as_schedule(Polynomial, "polynomial")
