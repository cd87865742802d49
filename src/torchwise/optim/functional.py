"""The way out to pure functions and back: one transform with its state, for all groups."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.optim.parameter import Parameter
from torchwise.optim.saving import Saving
from torchwise.optim.state import ParameterState, State
from torchwise.optim.transaction import hand_over, lock, refuse_traced, settle
from torchwise.param_groups import (
    ParamGroups,
    chain_states,
    group_leaves,
    with_chain_states,
)
from torchwise.rule import Rule
from torchwise.state_dict.chain_state import chain_state, entries_of, rule_chain
from torchwise.structure import difference
from torchwise.transformation import Chain

Owners = Sequence[tuple[Rule, Sequence[Parameter]]]


class Exporting(Saving):
    """What can go out to pure functions, and come back."""

    def to_functional(self, *, per_parameter_steps: bool = False) -> tuple[Any, Any, Any]:
        """Return `(transform, params, state)` for a jitted loop of one's own.

        With several groups the transform routes each parameter to its group's chain. Leaves that
        are no parameters become None in `params`.

        Args:
            per_parameter_steps: as for `torchwise.chain`; it is so in any case where the counts of
                the parameters differ.
        """
        with lock:
            settle()
            self._refuse_strangers("to_functional")
            return _export(self._tree(), self._owners(), self._state, per_parameter_steps)

    def from_functional(self, params: Any, state: Any) -> None:
        """Take back what came of `to_functional`.

        Args:
            params: the new values, in the structure that `to_functional` returned.
            state: the new state.

        Raises:
            ValueError: if the structure is another one; nothing has changed then.
        """
        with lock:
            settle()
            self._refuse_strangers("from_functional")
            _take_back(self._tree(), self._owners(), self._state, params, state)

    def _refuse_strangers(self, call: str) -> None:
        """Raise a ValueError where parameters of groups are not those that were passed any more."""
        known = dict.fromkeys(_parameters(self._tree()))
        times = Counter(self._parameters())
        problems = [f"{one.label} is in {times[one]} groups" for one in known if times[one] != 1]
        problems += [
            f"{one.label} of a group was not passed to the optimizer"
            for one in times.keys() - known
        ]
        if problems:
            listed = "\n  ".join(problems)
            raise ValueError(
                f"{call}() needs each parameter in one group; add them by add_param_group():"
                f"\n  {listed}"
            )


def _export(
    tree: Any, owners: Owners, state: State, per_parameter_steps: bool
) -> tuple[Any, Any, Any]:
    """Return a transform, the parameters and the state; the arrays are copies, free to donate.

    Args:
        tree: holds a `Parameter` in the place of each array that is optimized.
        owners: the rule and the parameters of each group.
        state: of the optimizer.
        per_parameter_steps: see `torchwise.chain`.
    """
    chains = _chains(tree, owners, state, per_parameter_steps)
    transform, params = _transform(chains, tree, owners), _arrays(tree)
    template = jax.eval_shape(transform.init, params)
    states = []
    for chain, (_, given), inner in zip(chains, owners, chain_states(template)):
        members = _in_tree_order(tree, given)
        data = [one.own_array for one in members]
        states.append(chain_state(chain, inner, _held(state, members), data))
    whole = with_chain_states(template, states)
    return transform, jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, whole)


def _take_back(tree: Any, owners: Owners, state: State, params: Any, returned: Any) -> None:
    """Take over copies of what comes back, if it is what `_export` would return now.

    Args:
        tree: see `_export`.
        owners: see `_export`.
        state: see `_export`.
        params: what came back.
        returned: the state that came back.

    Raises:
        ValueError: if the structure is another one.
    """
    wanted = _arrays(tree)
    _refuse("params", difference(params, wanted))
    problem: str | None = None
    for per_parameter_steps in (False, True):
        chains = _chains(tree, owners, state, per_parameter_steps)
        transform = _transform(chains, tree, owners)
        problem = difference(returned, jax.eval_shape(transform.init, wanted))
        if problem is None:
            break
    _refuse("state", problem)
    params, returned = jax.tree.map(jnp.array, (params, returned))
    refuse_traced(jax.tree.leaves(params))
    values = list(zip(_parameters(tree), jax.tree.leaves(params)))
    entries: list[tuple[Parameter, Any]] = []
    for (rule, given), inner in zip(owners, chain_states(returned)):
        members = _in_tree_order(tree, given)
        found = entries_of(rule, 0, inner, [one.own_array for one in members])
        entries += zip(members, found)

    def put(_: Any) -> None:
        for parameter, data in values:
            parameter.replace(data)
        for parameter, (entry, started) in entries:
            if entry and (started or parameter in state):
                if parameter not in state:
                    state[parameter] = ParameterState()
                state[parameter].replace(entry)

    hand_over(values, put)


def _refuse(name: str, problem: str | None) -> None:
    if problem:
        raise ValueError(f"from_functional() changed nothing: {name}: {problem}")


def _chains(tree: Any, owners: Owners, state: State, per_parameter_steps: bool) -> list[Chain]:
    return [
        rule_chain(rule, _held(state, _in_tree_order(tree, members)), per_parameter_steps)
        for rule, members in owners
    ]


def _parameters(tree: Any) -> list[Parameter]:
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, Parameter)]


def _arrays(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.own_array if isinstance(leaf, Parameter) else None, tree)


def _in_tree_order(tree: Any, members: Sequence[Parameter]) -> list[Parameter]:
    """Return a group's parameters in the order of the leaves."""
    wanted = set(members)
    return [parameter for parameter in _parameters(tree) if parameter in wanted]


def _held(state: State, parameters: Sequence[Parameter]) -> list[dict[str, Any] | None]:
    found = map(state.get, parameters)
    return [None if values is None else values.own_values for values in found]


def _transform(chains: Sequence[Chain], tree: Any, owners: Owners) -> Chain | ParamGroups:
    if len(chains) == 1:
        return chains[0]
    position = {parameter: index for index, parameter in enumerate(_parameters(tree))}
    members = [[position[one] for one in members] for _, members in owners]
    return ParamGroups(chains, group_leaves(_arrays(tree), members))
