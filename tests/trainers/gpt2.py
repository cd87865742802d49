"""GPT-2 of transformers as a function over a dict of arrays, under torch's names."""

import jax
import jax.numpy as jnp


def parameter_names(layers):
    """Names in the order of the model's `named_parameters()`, which no file of a checkpoint has."""
    parts = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    modules = [f"transformer.h.{i}.{part}" for i in range(layers) for part in parts]
    ends = ("weight", "bias")
    return [
        "transformer.wte.weight",
        "transformer.wpe.weight",
        *(f"{module}.{end}" for module in (*modules, "transformer.ln_f") for end in ends),
    ]


def logits(params, tokens, heads, epsilon=1e-5):
    """Scores of the next token, of shape (batch, length, vocabulary)."""
    length = tokens.shape[1]
    x = params["transformer.wte.weight"][tokens] + params["transformer.wpe.weight"][:length]
    layers = len({name.split(".")[2] for name in params if ".h." in name})
    for i in range(layers):
        block = f"transformer.h.{i}"
        x = x + _attention(
            params, f"{block}.attn", _norm(params, f"{block}.ln_1", x, epsilon), heads
        )
        hidden = _dense(params, f"{block}.mlp.c_fc", _norm(params, f"{block}.ln_2", x, epsilon))
        x = x + _dense(params, f"{block}.mlp.c_proj", jax.nn.gelu(hidden, approximate=True))
    x = _norm(params, "transformer.ln_f", x, epsilon)
    return x @ params["transformer.wte.weight"].T  # the head is tied to the embedding


def loss(params, tokens, heads):
    """Sum over the tokens that are predicted, divided as the Trainer of transformers 5.23 does it.

    It counts all labels of the batch, and so the first token of each row, which nothing predicts.
    """
    scores = jax.nn.log_softmax(logits(params, tokens, heads)[:, :-1])
    chosen = jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)
    return -chosen.sum() / tokens.size


def _dense(params, name, x):
    """Apply HF's Conv1D, whose weight has the axes (in, out) already."""
    return x @ params[f"{name}.weight"] + params[f"{name}.bias"]


def _norm(params, name, x, epsilon):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    scaled = (x - mean) * jax.lax.rsqrt(variance + epsilon)
    return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]


def _attention(params, name, x, heads):
    batch, length, width = x.shape
    joined = _dense(params, f"{name}.c_attn", x).reshape(batch, length, 3, heads, width // heads)
    query, key, value = (joined[:, :, i].swapaxes(1, 2) for i in range(3))
    scores = query @ key.swapaxes(-1, -2) / (width // heads) ** 0.5
    mask = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
    mixed = (weights @ value).swapaxes(1, 2).reshape(batch, length, width)
    return _dense(params, f"{name}.c_proj", mixed)
