"""The state of a chain as one entry per parameter, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.placement import placed_like
from torchwise.rule import Rule
from torchwise.state_dict.entry import (
    STEP,
    arrays_of,
    differs,
    gradients_seen,
    initial_entry,
    step_of,
)
from torchwise.states import ChainState
from torchwise.transformation import Chain
from torchwise.trees import absent, is_absent

Entry = Mapping[str, Any]


def entries_of(
    rule: Rule, start: int, state: ChainState, params: Sequence[jax.Array]
) -> list[tuple[dict[str, Any], bool | None]]:
    """Return the entry of each parameter of a chain, and whether it has seen a gradient.

    None where nobody can tell: the chain does not count, and the arrays are in every bit what they
    were at first. For such a chain it makes no difference to the next step.

    Args:
        rule: at the end of the chain.
        start: where the parts of the rule begin among the states.
        state: of the chain.
        params: the parameters.
    """
    fields = {name: jax.tree.leaves(tree) for name, tree in arrays_of(state.states[start:]).items()}
    steps = steps_of(state, len(params))
    found = []
    for index, param in enumerate(params):
        entry = {
            name: leaves[index] for name, leaves in fields.items() if not is_absent(leaves[index])
        }
        if rule.counts_in_torch:
            entry = {STEP: step_of(rule, steps[index]), **entry}
        started = steps[index] > 0 if steps else differs(rule, param, entry) or None
        found.append((entry, started))
    return found


def steps_of(state: ChainState, size: int) -> list[int]:
    """Return the step count of each of `size` parameters; nothing where a chain does not count."""
    steps = [int(step) for step in jax.device_get(jax.tree.leaves(state.step))]
    return steps * size if len(steps) == 1 else steps


def rule_chain(
    rule: Rule, held: Sequence[Entry | None], per_parameter_steps: bool = False
) -> Chain:
    """Return the chain of a rule; with a count per parameter if these entries need it."""
    chain = Chain((rule,))
    needed = chain.counts and len({gradients_seen(rule, entry) for entry in held}) > 1
    return Chain((rule,), True) if per_parameter_steps or needed else chain


def chain_state(
    chain: Chain,
    template: ChainState,
    held: Sequence[Entry | None],
    params: Sequence[jax.Array],
) -> ChainState:
    """Return the state of a rule's chain with these entries of its parameters.

    Args:
        chain: what `rule_chain` returned.
        template: its state as `jax.eval_shape` gives it.
        held: an entry for each parameter; what it lacks is as before the first gradient.
        params: the parameters.
    """
    rule = chain.rule
    assert rule is not None
    names = [*arrays_of(template.states)]
    full = []
    for param, entry in zip(params, held):
        entry = entry or {}
        if not all(name in entry for name in names):
            entry = {**dict.fromkeys(names, absent()), **initial_entry(rule, param), **entry}
        full.append(entry)

    def tree_of(structure: Any, values: list[Any]) -> Any:
        placed = [placed_like(param, jnp.asarray(value)) for param, value in zip(params, values)]
        return jax.tree.structure(structure).unflatten(placed)

    states = tuple(
        type(state)(
            *(
                None if tree is None else tree_of(tree, [one[name] for one in full])
                for name, tree in state._asdict().items()
            )
        )
        for state in template.states
    )
    if template.step is None:
        return ChainState(None, states)
    steps = [jnp.asarray(gradients_seen(rule, entry), jnp.int32) for entry in held]
    if chain.per_parameter_steps:
        return ChainState(tree_of(template.step, steps), states)
    if not steps:  # a group without parameters has a count, which nobody asks for
        return ChainState(jnp.zeros((), jnp.int32), states)
    return ChainState(tree_of(template.step, steps[:1]), states)
