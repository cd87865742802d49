"""The way out to pure functions and back: one transform with its state, for all groups."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.optim.parameter import Parameter
from torchwise.optim.saving import Saving
from torchwise.optim.state import ParameterState, State
from torchwise.optim.transaction import execute, lock, refuse_traced, settle
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


def refuse_strangers(call: str, tree: Any, owners: Owners) -> None:
    """Raise a ValueError where groups and parameters are not those that were passed any more."""
    known = dict.fromkeys(_parameters(tree))
    times = Counter(parameter for _, members in owners for parameter in members)
    problems = [f"{one.label} is in {times[one]} groups" for one in known if times[one] != 1]
    problems += [
        f"{one.label} of a group was not passed to the optimizer" for one in times.keys() - known
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{call}() needs each parameter in one group; add them by add_param_group():"
            f"\n  {listed}"
        )


def export(
    tree: Any, owners: Owners, state: State, per_parameter_steps: bool
) -> tuple[Any, Any, Any]:
    """Return a transform, the parameters and the state; the arrays are copies, free to donate.

    Args:
        tree: holds a `Parameter` in the place of each array that is optimized.
        owners: the rule and the parameters of each group.
        state: of the optimizer.
        per_parameter_steps: see `torchwise.chain`.
    """
    groups = [(rule, _in_tree_order(tree, members)) for rule, members in owners]
    chains = [
        rule_chain(rule, _held(state, members), per_parameter_steps) for rule, members in groups
    ]
    transform, params = _transform(chains, tree, owners), _arrays(tree)
    template = jax.eval_shape(transform.init, params)
    states = []
    for chain, (_, members), inner in zip(chains, groups, chain_states(template)):
        data = [one.own_array for one in members]
        states.append(chain_state(chain, inner, _held(state, members), data))
    whole = with_chain_states(template, states)
    return transform, jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, whole)


class Return:
    """What comes back from pure functions, checked against what `export` would return now.

    Args:
        tree: see `export`.
        owners: see `export`.
        state: see `export`.
        params: what came back.
        returned: the state that came back.

    Raises:
        ValueError: if the structure is another one.
    """

    def __init__(self, tree: Any, owners: Owners, state: State, params: Any, returned: Any) -> None:
        self.results: list[Any] = []
        self._tree, self._owners, self._state = tree, owners, state
        self._params, self._returned = params, returned
        wanted = _arrays(tree)
        self._refuse("params", difference(params, wanted))
        groups = [(rule, _in_tree_order(tree, members)) for rule, members in owners]
        problem: str | None = None
        for per_parameter_steps in (False, True):
            chains = [
                rule_chain(rule, _held(state, members), per_parameter_steps)
                for rule, members in groups
            ]
            transform = _transform(chains, tree, owners)
            problem = difference(returned, jax.eval_shape(transform.init, wanted))
            if problem is None:
                return
        self._refuse("state", problem)

    def prepare(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what makes copies; nothing is given up."""
        return self._copied, (None,)

    def _copied(self, _: None) -> tuple[list[Any], list[Any]]:
        """Return copies of the parameters, and the entries of their states."""
        params, state = jax.tree.map(jnp.array, (self._params, self._returned))
        refuse_traced(jax.tree.leaves(params))
        entries = []
        for (rule, members), inner in zip(self._owners, chain_states(state)):
            ordered = _in_tree_order(self._tree, members)
            found = entries_of(rule, 0, inner, [one.own_array for one in ordered])
            entries += zip(ordered, found)
        return list(zip(_parameters(self._tree), jax.tree.leaves(params))), entries

    def commit(self) -> None:
        """Put the copies in their places."""
        params, entries = self.results[0]
        for parameter, data in params:
            parameter.replace(data)
        for parameter, (entry, started) in entries:
            if entry and (started or parameter in self._state):
                if parameter not in self._state:
                    self._state[parameter] = ParameterState()
                self._state[parameter].replace(entry)

    def _refuse(self, name: str, problem: str | None) -> None:
        if problem:
            raise ValueError(f"from_functional() changed nothing: {name}: {problem}")


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
            tree, owners = self._tree(), self._owners()
            refuse_strangers("to_functional", tree, owners)
            return export(tree, owners, self._state, per_parameter_steps)

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
            tree, owners = self._tree(), self._owners()
            refuse_strangers("from_functional", tree, owners)
            execute(Return(tree, owners, self._state, params, state))


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
