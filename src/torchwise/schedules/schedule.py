"""What a schedule is: torch's formula for a hyperparameter at a count of steps, and a base."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Concatenate, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from torchwise.fields import Fields, fields_of
from torchwise.numbers import Scalar, is_array
from torchwise.schedules.arithmetic import plain, traced

P = ParamSpec("P")


class Formula(Fields):
    """The mathematics of one of torch's schedulers, for one parameter group.

    Its fields are the scheduler's arguments. The formulas are written with the functions of
    `arithmetic`, in torch's order of operations.

    Attributes:
        scales: whether the value is the base times a factor; if not, it ignores what another
            scheduler has made of the rate.
    """

    scales: ClassVar[bool] = True

    def check(self) -> None:
        """Raise what torch raises for invalid arguments."""

    @property
    def multiplies(self) -> bool:
        """Whether this formula, with its arguments, multiplies its base by a factor."""
        return self.scales

    @abc.abstractmethod
    def at(self, base: Any, count: Any) -> Any:
        """Return the value at a count, torch's closed form.

        Args:
            base: the value before the schedule.
            count: how many steps there have been.
        """

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        """Return the value at a count from the value before it: torch's recursion.

        Only for Python numbers: stateful schedulers call it.

        Args:
            value: the present one.
            base: see `at`.
            count: the new count.
            first: whether this is the call in the scheduler's constructor.
        """
        return self.at(base, count)


class Schedule(Fields):
    """A hyperparameter as a function of the number of steps before this one.

    A schedule is a pytree of its numbers, so it can be an argument of a jitted function: for
    another one of the same class, nothing is compiled again. `schedule(count)` computes in double
    precision and equals torch's closed form to the bit. For a Python int it returns a float, and
    for an array of counts an array: float64 where 64-bit types are on, else rounded once to
    float32. As an argument of a jitted function without 64-bit types, its numbers are float32.
    """

    def __call__(self, count: Any) -> Any:
        """Return the value at a count.

        Args:
            count: a Python int, or an array of integers; 0 at the first gradient.
        """
        count = count.item() if isinstance(count, np.generic) else count
        arrays = [leaf for leaf in jax.tree.leaves((self, count)) if is_array(leaf)]
        if not arrays:
            return self.at(None, count)
        if len(arrays) == 1 and not isinstance(count, Tracer) and np.size(count) == 1:
            return jnp.asarray(self.at(None, np.asarray(count).item())).reshape(np.shape(count))
        with jax.enable_x64(True):
            wide = jax.tree.map(traced, self)
            result = plain(wide.at(None, traced(count)))
        return jnp.asarray(result, jnp.result_type(float))

    @abc.abstractmethod
    def at(self, base: Any, count: Any) -> Any:
        """Return the value at a count, with another base if that is not None."""

    @property
    def multiplies(self) -> bool:
        """Whether the value is the base times a factor that depends on the count alone."""
        return True


class Based(Schedule):
    """A formula with its base."""

    base: Any
    formula: Any

    def at(self, base: Any, count: Any) -> Any:
        return self.formula.at(self.base if base is None else base, count)

    @property
    def multiplies(self) -> bool:
        return self.formula.multiplies

    def __repr__(self) -> str:
        fields = fields_of(type(self.formula))
        rest = "".join(f", {one.name}={getattr(self.formula, one.name)!r}" for one in fields)
        return f"{type(self.formula).__name__}({self.base!r}{rest})"


def as_schedule(
    formula: Callable[P, Formula], name: str
) -> Callable[Concatenate[Scalar, P], Schedule]:
    """Return the function of the public API that checks a formula and gives it a base.

    Args:
        formula: a class; the function has `base` and then its arguments, and its documentation.
        name: the name of the function.
    """

    def function(base: Scalar, *args: P.args, **kwargs: P.kwargs) -> Schedule:
        if is_array(base) and np.size(base) != 1:
            raise TypeError(
                f"{name}(): base is an array of shape {np.shape(base)}, but a number is wanted; to "
                "have several at once, make the schedule inside jax.vmap"
            )
        made = formula(*args, **kwargs)
        made.check()
        return started(Based(float_(base), jax.tree.map(float_, made)), name)

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = formula.__module__, formula.__doc__
    own = inspect.signature(formula).parameters.values()
    first = inspect.Parameter("base", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Scalar)
    vars(function)["__signature__"] = inspect.Signature([first, *own], return_annotation=Schedule)
    return function


def started(schedule: Any, name: str) -> Any:
    """Return a schedule whose first value can be computed.

    Raises:
        ZeroDivisionError: as torch does, where a division by zero would be a silent NaN in a
            compiled program.
    """
    if not any(map(is_array, jax.tree.leaves(schedule))) and not calls_user(schedule):
        try:
            schedule(0)
        except ZeroDivisionError as error:
            raise ZeroDivisionError(f"{name}() has a phase of no steps: {schedule!r}") from error
    return schedule


def calls_user(schedule: Any) -> bool:
    """Whether a formula has a function of the user's in it."""
    if not isinstance(schedule, Fields):
        return any(map(calls_user, schedule)) if isinstance(schedule, list | tuple) else False
    values = [getattr(schedule, one.name) for one in fields_of(type(schedule))]
    return any(
        calls_user(value) or (callable(value) and not isinstance(value, Schedule))
        for value in values
    )


def float_(value: Any) -> Any:
    """Return a Python int as a float, so that it is data like any other; the rest as it is."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
