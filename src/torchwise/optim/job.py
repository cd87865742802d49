"""One step of an optimizer: gathered for the engine, run, and put in its place."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from torchwise.numbers import split
from torchwise.optim import engine
from torchwise.optim.parameter import Parameter
from torchwise.optim.prepared import Prepared
from torchwise.optim.state import ParameterState, State
from torchwise.state_dict.entry import STEP, initial_entry, step_array


class Job:
    """The parameters that a step moves, in the order of the groups.

    Nothing that belongs to the optimizer changes before `commit`.

    Args:
        state: of the optimizer.
        compiled: the plans that have run before.
        max_norm: see the attribute.
        record: takes the norm of the gradients, or None if they are not clipped.

    Attributes:
        parameters: the parameters to move.
        plan: what the compiled program depends on.
        max_norm: how long the gradients may be, all together; None if they are not clipped.
        numbers: its data.
        out: what `call` returned first.
        results: see `transaction`.
    """

    def __init__(
        self,
        state: State,
        compiled: set[Any],
        max_norm: float | None = None,
        record: Callable[[Any], None] = lambda norm: None,
    ) -> None:
        self.parameters: list[Parameter] = []
        self.plan: engine.Plan = ()
        self.results: list[Any] = []
        self.max_norm = max_norm
        self.call: Callable[..., tuple[Any, list[jax.Array], list[jax.Array], Any]]
        self._record = record
        self._state, self._compiled = state, compiled
        self._numbers: list[float] = []
        self._held: list[tuple[ParameterState | None, dict[str, Any]]] = []
        self._steps: list[np.ndarray | None] = []
        self._names: list[tuple[str, ...]] = []

    @property
    def numbers(self) -> np.ndarray:
        """All numbers, on the host: jit moves them to the device."""
        limit = [] if self.max_norm is None else [self.max_norm]
        return split([*self._numbers, *limit])

    @property
    def out(self) -> Any:
        """What the loss function returned."""
        return self.results[0][0]

    def add(self, prepared: Prepared, parameters: list[Parameter]) -> None:
        """Add those parameters of a group that move."""
        for names, members in prepared.by_names(parameters):
            self._add(prepared, names, members)

    def _add(self, prepared: Prepared, names: tuple[str, ...], parameters: list[Parameter]) -> None:
        rule = prepared.rule
        steps = []
        for parameter in parameters:
            held = self._state.get(parameter)
            values = held.own_values if held is not None else {}
            fresh = not all(name in values for name in names)
            if rule.counts_in_torch and not values:
                values = initial_entry(rule, parameter.own_array)
            elif rule.counts_in_torch and fresh:
                missing = next(name for name in names if name not in values)
                error = KeyError(missing)  # as torch; and what torch leaves to be guessed
                error.add_note(
                    f"{parameter.label} has a state that was made before an option of its group "
                    "was switched on; delete optimizer.state[parameter] to start it anew"
                )
                raise error
            elif fresh:
                values = {**initial_entry(rule, parameter.own_array), **values}
            self._held.append((held, values))
            if rule.counts_in_torch:
                steps.append(int(values[STEP]) + 1)
                self._steps.append(step_array(steps[-1]))
            else:  # all that dampening has to know is whether a gradient is the first
                steps.append(1 if fresh else 2)
                self._steps.append(None)
        self.parameters += parameters
        self._names += [names] * len(parameters)
        each = prepared.counts and len({*steps}) > 1
        for step in steps if each else steps[:1]:
            self._numbers += prepared.numbers(step)
        section = engine.Section(prepared.structure, names, len(parameters), each)
        self.plan = (*self.plan, section)

    def run(self, _: None) -> tuple[Any, list[jax.Array], list[jax.Array], Any]:
        """Run the program on arrays that nobody else has: they are donated.

        A program that has not run before is compiled now, by Python code that an exception may
        interrupt: it gets copies.
        """
        key = (self.plan, self.max_norm is None, *map(id, self.parameters))
        new = key not in self._compiled
        shared = [new or not parameter.owned for parameter in self.parameters]
        params = engine.donated([one.own_array for one in self.parameters], shared)
        arrays, shared = [], []
        for names, (held, values) in zip(self._names, self._held):
            arrays += [values[name] for name in names]
            shared += [new or (held is not None and not held.owned)] * len(names)
        results = self.call(params, engine.donated(arrays, shared))
        self._compiled.add(key)
        return results

    def commit(self) -> None:
        """Put the results in their places."""
        _, params, states, norm = self.results[0]
        self._record(norm)
        arrays = iter(states)
        for parameter, data, names, (held, values), step in zip(
            self.parameters, params, self._names, self._held, self._steps
        ):
            parameter.replace(data)
            made = {name: next(arrays) for name in names}
            if step is not None:
                made = {STEP: step, **made}
            if held is None and made:
                held = self._state[parameter] = ParameterState({**values, **made})
            if held is not None:
                held.replace({**values, **made} if len(held) == 0 else made)
