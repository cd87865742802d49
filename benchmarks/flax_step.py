"""A training step of a Flax model, jitted whole: torchwise.adamw in the place of optax.adamw.

Both say almost the same, so there are many rounds, and optax a second time: how far its ratio is
from 1 is how far a ratio of this machine is to be trusted.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import chains
import models
import peers
import report
import running
from optimizers import CASES
from peers import Stepper
from running import Point

AGAIN = "optax again"
_CASE = next(case for case in CASES if case.name == "adamw")


class Transformer(nn.Module):
    """A causal language model with norms before each part."""

    size: models.Size

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Return the logits of every next token."""
        size = self.size
        x = nn.Embed(size.vocabulary, size.width)(tokens)
        x = x + nn.Embed(size.time, size.width)(jnp.arange(size.time))
        mask = nn.make_causal_mask(tokens)
        for _ in range(size.layers):
            inner = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(models.HEADS)(inner, mask=mask)
            inner = nn.Dense(4 * size.width)(nn.LayerNorm()(x))
            x = x + nn.Dense(size.width)(nn.gelu(inner))
        return nn.Dense(size.vocabulary)(nn.LayerNorm()(x))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write flax.json."""
    arguments = running.parser(__doc__, "flax").parse_args(argv)
    size = models.QUICK if arguments.quick else models.FULL
    model, tokens = Transformer(size), jnp.zeros((size.batch, size.time + 1), int)
    shapes = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), tokens[:, 1:]))
    labels = {
        "workload": "train Flax transformer",
        "optimizer": _CASE.name,
        "arrays": len(shapes),
        "elements": sum(shape.size for shape in shapes),
    }
    rounds = 3 if arguments.quick else 50
    result = running.run([Point(labels, lambda: _steppers(model, size), rounds, None)], arguments)
    print(report.text(result["rows"]))


def _steppers(model: Transformer, size: models.Size) -> dict[str, Stepper]:
    pure = chains.torchwise_chains(_CASE, False) | chains.optax_chains(_CASE)
    pure[AGAIN] = pure[chains.OPTAX]
    text = jax.random.randint(jax.random.key(1), (size.batch, size.time + 1), 0, size.vocabulary)
    return {name: _stepper(model, one, text) for name, one in pure.items()}


def _stepper(model: Transformer, pure: chains.Pure, text: jax.Array) -> Stepper:
    def loss(params: Any, text: jax.Array) -> jax.Array:
        logits: Any = model.apply(params, text[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:]).mean()

    def train(params: Any, state: Any, text: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, text)
        return *pure.step(grads, state, params), value

    init: Callable[..., Any] = jax.jit(model.init)
    params = init(jax.random.key(0), text[:, :-1])
    held = [params, jax.jit(pure.init)(params)]
    program, duration, temporary = peers.compiled(train, *held, text)

    def step() -> float:
        *held[:], value = program(*held, text)
        jax.block_until_ready(held)
        return float(value)

    return Stepper(step, duration, temporary)


if __name__ == "__main__":
    main()
