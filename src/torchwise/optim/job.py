"""One step of an optimizer: gathered for the engine, run, and put in its place."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from torchwise.numbers import split
from torchwise.optim import engine
from torchwise.optim.parameter import Parameter
from torchwise.optim.prepared import Prepared
from torchwise.optim.state import ParameterState, State
from torchwise.state_dict.entry import STEP, initial_entry, step_of

_GUARD = "jax_transfer_guard_host_to_device"  # known to JAX alone, not to its types

_config: Any = jax.config  # its types do not tell what it has


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
        call: returns the compiled function and its arguments, from the arrays of the parameters
            and of their states.
        key: of what the program depends on besides the plan and the parameters.
        inputs: the arrays that it takes besides those; what they lack would be missed too late.
        done: called at the commit, more than once perhaps.
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
        self.call: Callable[..., tuple[Callable[..., Any], Sequence[Any]]]
        self.key: Any = None
        self.inputs: Sequence[Any] = ()
        self.done: Callable[[], None] | None = None
        self.max_norm, self._record = max_norm, record
        self._state, self._compiled = state, compiled
        self._numbers: list[float] = []
        self._held: list[tuple[ParameterState | None, dict[str, Any]]] = []
        self._steps: list[np.ndarray | int | None] = []
        self._names: list[tuple[str, ...]] = []
        self._program: Any = None

    @property
    def numbers(self) -> np.ndarray | jax.Array:
        """All numbers, on the host: jit moves them to the device, unless that is forbidden to it.

        It takes less time than to move them here.
        """
        limit = [] if self.max_norm is None else [self.max_norm]
        rows = split([*self._numbers, *limit])
        guard = getattr(jax.config, _GUARD)
        return rows if guard in (None, "allow") else jax.device_put(rows)

    @property
    def out(self) -> Any:
        """What the program returned before parameters and states."""
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
                self._steps.append(step_of(rule, steps[-1]))
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

    def prepare(self) -> tuple[Callable[..., Any], Sequence[Any]]:
        """Return the program and its arguments, which nobody else has: they are donated.

        A program that may have to be compiled, by Python code that an exception may interrupt, gets
        copies of all. So does one whose results JAX checks afterwards.
        """
        _await_on_cpu(self.inputs)
        self._program = self._key()
        new = self._program not in self._compiled or results_are_checked()
        new = new or any(parameter.foreign for parameter in self.parameters)
        new = new or any(held is None or held.foreign for held, _ in self._held)
        shared = [new or not parameter.owned for parameter in self.parameters]
        params = engine.donated([one.own_array for one in self.parameters], shared)
        arrays, shared = [], []
        for names, (held, values) in zip(self._names, self._held):
            arrays += [values[name] for name in names]
            shared += [new or held is None or not held.owned] * len(names)
        return self.call(params, engine.donated(arrays, shared))

    def _key(self) -> Any:
        """What the compiled program depends on."""
        context = engine.generation(), _config.jax_enable_x64
        return self.plan, self.key, self.max_norm is None, context, *map(id, self.parameters)

    def commit(self) -> None:
        """Put the results in their places."""
        *_, params, states, norm = self.results[0]
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
                held.replace({**values, **made} if not held.own_values else made)
        if self.done is not None:
            self.done()
        self._compiled.add(self._program)


def results_are_checked() -> bool:
    """Whether JAX looks for NaNs when a program has run, and runs it again if it finds any."""
    return _config.jax_debug_nans or _config.jax_debug_infs


def _await_on_cpu(arrays: Sequence[Any]) -> None:
    """Raise what the computation of arrays raises, now; elsewhere it was raised at once."""
    first = next((array for array in arrays if isinstance(array, jax.Array)), None)
    if first is not None and next(iter(first.devices())).platform == "cpu":
        jax.block_until_ready(arrays)
