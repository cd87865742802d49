"""The documentation of stateful optimizers, made of that of their rules."""

import inspect

from torchwise.rule import Rule

# Of every optimizer that takes the gradients of `train_step`, in its documentation.
EXAMPLE = """
    >>> import jax.numpy as jnp
    >>> from torchwise import optim
    >>> optimizer = optim.{name}({{"w": jnp.eye(2)}}, lr=0.5)
    >>> optimizer.train_step(lambda params: jnp.sum(params["w"] ** 2))
    Array(2., dtype=float32)
    >>> bool(jnp.any(optimizer.params["w"] < jnp.eye(2)))
    True
"""


def documentation(rule: type[Rule], example: str) -> str:
    """Return the documentation of a rule for its stateful class, which has parameters, too."""
    text = (inspect.getdoc(rule) or "").split("\nExamples:")[0]
    theirs = "".join(f"    {name}: see `Optimizer`.\n" for name in ("params", "groups"))
    text = text.replace("Args:\n", f"Args:\n{theirs}", 1)
    return f"{text}\nExamples:{example.format(name=rule.name)}"
