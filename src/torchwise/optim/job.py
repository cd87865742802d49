"""One step of an optimizer: gathered for the engine, run, and put in its place."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from torchwise.numbers import split
from torchwise.optim import engine
from torchwise.optim.constant import constant
from torchwise.optim.parameter import Parameter, all_owned, arrays_of
from torchwise.optim.prepared import Prepared
from torchwise.optim.refusals import count_of, refuse_foreign, refuse_narrowing
from torchwise.optim.state import ParameterState, State
from torchwise.placement import transfers_are_guarded
from torchwise.rule import Rule
from torchwise.state_dict.entry import STEP, initial_entry, step_of

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
        max_norm: how long the gradients may be, all together; None if they are not clipped.
        call: returns the compiled function and its arguments, from the arrays of the parameters
            and of their states.
        key: of what the program depends on besides the plan and the parameters.
        inputs: the arrays that it takes besides those; what they lack would be missed too late.
        done: called at the commit, more than once perhaps.
    """

    def __init__(
        self,
        state: State,
        compiled: set[Any],
        max_norm: float | None,
        record: Callable[[Any], None],
    ) -> None:
        self.parameters: list[Parameter] = []
        self.call: Callable[..., tuple[Callable[..., Any], Sequence[Any]]]
        self.key: Any = None
        self.inputs: Sequence[Any] = ()
        self.done: Callable[[], None] | None = None
        self.max_norm, self._record = max_norm, record
        self._state, self._compiled = state, compiled
        self._sections: list[engine.Section] = []
        self._numbers: list[list[float]] = []
        self._held: list[ParameterState | None] = []
        self._values: list[dict[str, Any]] = []
        self._steps: list[np.ndarray | int | None] = []
        self._names: list[tuple[str, ...]] = []
        self._alike: list[tuple[str, ...]] = []  # those that are 0-d, or shaped as the parameter
        self._begins = False  # whether a state is made for any parameter
        self._program: Any = None

    @functools.cached_property
    def plan(self) -> engine.Plan:
        """What the compiled program depends on."""
        return constant(tuple(self._sections))

    @property
    def numbers(self) -> engine.Numbers:
        """All numbers, on the host: jit moves them to the device, unless that is forbidden to it.

        It takes less time than to move them here.
        """
        limit = [] if self.max_norm is None else [self.max_norm]
        values = [*itertools.chain.from_iterable(self._numbers), *limit]
        whole = np.array(values, np.float64) if _config.jax_enable_x64 else split(values)
        starts = _starts(self.plan) if len(self._numbers) > 1 else ()
        return engine.Numbers(jax.device_put(whole) if transfers_are_guarded() else whole, starts)

    def add(self, prepared: Prepared, parameters: list[Parameter]) -> None:
        """Add those parameters of a group that move."""
        for names, members in prepared.by_names(parameters):
            self._add(prepared, names, members)

    def _add(self, prepared: Prepared, names: tuple[str, ...], parameters: list[Parameter]) -> None:
        rule = prepared.rule
        held = list(map(self._state.get, parameters))
        values = [{} if one is None else one.own_values for one in held]
        wanted = dict.fromkeys(names).keys()
        fresh = [not wanted <= one.keys() for one in values]
        if any(fresh) or (rule.counts_in_torch and not all(values)):
            values = list(map(functools.partial(_begun, rule, wanted), parameters, values))
            self._begins = True
        if rule.counts_in_torch:
            steps = [1 + count_of(*one) for one in zip(parameters, values)]
            self._steps += [step_of(rule, step) for step in steps]
        else:  # all that dampening has to know is whether a gradient is the first
            steps = [1 if one else 2 for one in fresh]
            self._steps += [None] * len(steps)
        self._held += held
        self._values += values
        self._names += [names] * len(parameters)
        self._alike += [() if rule.state_by_shape else names] * len(parameters)
        self.parameters += parameters
        each = prepared.counts and len({*steps}) > 1
        for step in steps if each else steps[:1]:
            self._numbers.append(prepared.numbers(step))
        self._sections.append(engine.Section(prepared.structure, names, len(parameters), each))

    def prepare(self) -> tuple[Callable[..., Any], Sequence[Any]]:
        """Return the program and its arguments, which nobody else has: they are donated.

        A program that may have to be compiled, by Python code that an exception may interrupt, gets
        copies of all. So does one whose results JAX checks afterwards.
        """
        _await_on_cpu(self.inputs)
        self._program = self._key()
        new = self._begins or self._program not in self._compiled or results_are_checked()
        holders = [held for held, names in zip(self._held, self._names) if names]
        arrays = [
            values[name] for names, values in zip(self._names, self._values) for name in names
        ]
        if not new and all_owned(self.parameters) and all_owned(holders):  # as in most steps
            return self.call(arrays_of(self.parameters), arrays)
        if new:
            refuse_narrowing(self.parameters)
        if any(held.foreign for held in holders if held is not None):
            refuse_foreign(self.parameters, self._held, self._alike)
            new = True
        new = new or any(parameter.foreign for parameter in self.parameters)
        shared = [new or not parameter.owned for parameter in self.parameters]
        params = engine.donated(arrays_of(self.parameters), shared)
        shared = []
        for held, names in zip(self._held, self._names):
            shared += [new or held is None or not held.owned] * len(names)
        return self.call(params, engine.donated(arrays, shared))

    def _key(self) -> Any:
        """What the compiled program depends on."""
        context = engine.generation(), _config.jax_enable_x64
        return self.plan, self.key, self.max_norm is None, context, *map(id, self.parameters)

    def commit(self, results: Sequence[Any]) -> None:
        """Put the results in their places."""
        *_, params, states, norm = results
        self._record(norm)
        for parameter, data in zip(self.parameters, params):
            parameter.replace(data)
        arrays = iter(states)
        members = zip(self.parameters, self._held, self._values, self._names, self._steps)
        for parameter, held, values, names, step in members:
            made = dict(zip(names, arrays))
            if step is not None:
                made[STEP] = step
            if self._begins:
                made = {**values, **made}
                if held is None and made:
                    held = self._state[parameter] = ParameterState()
            if held is not None:
                held.replace(made)
        if self.done is not None:
            self.done()
        self._compiled.add(self._program)


def results_are_checked() -> bool:
    """Whether JAX looks for NaNs when a program has run, and runs it again if it finds any."""
    return _config.jax_debug_nans or _config.jax_debug_infs


def _begun(
    rule: Rule, wanted: Iterable[str], parameter: Parameter, values: dict[str, Any]
) -> dict[str, Any]:
    """Return the first state of a parameter, if it has none; torch raises for half of one."""
    missing = next((name for name in wanted if name not in values), None)
    if not values or (missing is not None and not rule.counts_in_torch):
        return {**initial_entry(rule, parameter.own_array), **values}
    if missing is None:
        return values
    error = KeyError(missing)  # as torch; and what torch leaves to be guessed
    error.add_note(
        f"{parameter.label} has a state that was made before an option of its group "
        "was switched on; delete optimizer.state[parameter] to start it anew"
    )
    raise error


def _await_on_cpu(arrays: Sequence[Any]) -> None:
    """Raise what the computation of arrays raises, now; elsewhere it was raised at once."""
    first = next((array for array in arrays if isinstance(array, jax.Array)), None)
    if first is not None and next(iter(first.devices())).platform == "cpu":
        jax.block_until_ready(arrays)


@functools.lru_cache(maxsize=64)
def _starts(plan: engine.Plan) -> tuple[jax.Array, ...]:
    """Return where the sets of numbers of a plan begin, in arrays that lie on the device."""
    ends = itertools.accumulate(engine.set_sizes(plan), initial=0)
    with jax.ensure_compile_time_eval():  # within a trace they would be of the trace
        return tuple(map(jax.device_put, map(np.int32, ends)))[:-1]
