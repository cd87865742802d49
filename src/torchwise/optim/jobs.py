"""One step of an optimizer: gathered for the engine, and put back when it is done."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.optim import engine
from torchwise.optim.parameter import Parameter
from torchwise.optim.recipe import Recipe
from torchwise.state_dict.leaves import initial_entry, step_array
from torchwise.transforms import entries

State = dict[Parameter, dict[str, Any]]


class _Part(NamedTuple):
    """One group's share of a job: its parameters, their entries after the step, and their steps."""

    parameters: list[Parameter]
    entries: list[dict[str, Any]]
    names: tuple[str, ...]
    steps: list[np.ndarray] | None


class Job:
    """The parameters that a step moves, in the order of the groups.

    Nothing that belongs to the optimizer changes before `commit`.

    Attributes:
        parameters: the parameters to move.
        plan: what the compiled program depends on.
    """

    def __init__(self, state: State) -> None:
        self.parameters: list[Parameter] = []
        self.plan: engine.Plan = ()
        self._state = state
        self._parts: list[_Part] = []
        self._numbers: list[float] = []

    @property
    def numbers(self) -> jax.Array:
        """The numbers of all segments."""
        return _vector(tuple(self._numbers), bool(jax.config.read("jax_enable_x64")))

    def add(
        self,
        recipe: Recipe,
        parameters: list[Parameter],
    ) -> None:
        """Add those parameters of a group that move."""
        names = recipe.names
        held: list[dict[str, Any]] = []
        fresh = [False] * len(parameters)
        if names or recipe.saves_step:
            held = [self._state.get(parameter) or {} for parameter in parameters]
            fresh = [not entry.keys() >= recipe.keys for entry in held]
        if any(fresh):
            transforms = recipe.chain.transforms
            held = [
                {**initial_entry(transforms, parameter.data), **entry} if first else entry
                for parameter, entry, first in zip(parameters, held, fresh)
            ]
        saved = None
        if recipe.saves_step:
            steps = [int(entry[entries.STEP]) + 1 for entry in held]
            saved = list(map(step_array, steps))
        else:  # all that dampening has to know is whether a gradient is the first
            steps = [1 if first else 2 for first in fresh]
        segment, numbers = recipe.segment(steps)
        self.parameters += parameters
        self.plan = (*self.plan, segment)
        self._numbers += numbers
        self._parts.append(_Part(parameters, held, names, saved))

    def donated(self) -> tuple[list[jax.Array], list[jax.Array]]:
        """Return the parameters and the states, fit for donation."""
        arrays = [
            entry[name] for part in self._parts for entry in part.entries for name in part.names
        ]
        data = [parameter._data for parameter in self.parameters]
        return engine.unshared(data), engine.unshared(arrays)

    def commit(self, params: list[jax.Array], states: list[jax.Array]) -> None:
        """Put the results in their places."""
        for parameter, data in zip(self.parameters, params):
            parameter._data = data
        arrays = iter(states)
        for part in self._parts:
            for parameter, entry in zip(part.parameters, part.entries):
                for name in part.names:
                    entry[name] = next(arrays)
                if entry:
                    self._state[parameter] = entry
            if part.steps is not None:
                for entry, step in zip(part.entries, part.steps):
                    entry[entries.STEP] = step


@functools.lru_cache(maxsize=64)  # a transfer costs more than a look-up
def _vector(numbers: tuple[float, ...], wide: bool) -> jax.Array:
    """Pack doubles for one transfer, rounded once where 64-bit types are off."""
    return jnp.asarray(np.asarray(numbers, np.float64 if wide else np.float32))
