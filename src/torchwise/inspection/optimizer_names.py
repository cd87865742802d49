"""Which of torch's optimizers wrote a group, told by its keys."""

from collections.abc import Collection, Mapping
from typing import Any

from torchwise.groups.selection import OF_SCHEDULERS

# What is no hyperparameter: the parameters, and what torch's schedulers add to groups.
_FOREIGN = OF_SCHEDULERS | {"base_lr", "swa_lr", "params", "param_names"}


def optimizer_name(group: Mapping[str, Any], state_keys: Collection[str]) -> str | None:
    """Return torch's name of the optimizer that wrote a group.

    Args:
        group: it is an optimizer's if it has all the keys that this writes; or, as old versions
            wrote fewer, if it has none that this does not write. So an optimizer of another
            library whose groups look like torch's is unknown as soon as it has a key of its own.
        state_keys: those of the state of its parameters.

    Returns:
        The name; "Adam or AdamW" where several are possible, as in old dicts; or None.
    """
    # Here, since the rules need JAX, without which most files can be looked at.
    from torchwise.quasi_newton.options import Options
    from torchwise.state_dict.groups import candidates

    own = {*group} - _FOREIGN
    if own == {*Options.group_keys}:
        return "LBFGS"
    names = [
        rule.name
        for rule in candidates(group, state_keys)
        if ({*rule.group_keys} <= own or own <= {*rule.group_keys})
        and {*state_keys} <= {"step", *rule.State._fields}
    ]
    return " or ".join(names) or None
