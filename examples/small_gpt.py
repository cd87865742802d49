"""A small GPT that learns Python's manual letter by letter, and can be stopped and resumed.

The text is in Python itself (`pydoc_data.topics`). The model is plain JAX. It is trained with
AdamW, whose decay leaves out biases, norms and embeddings; with warm-up and cosine, a bound on the
norm of the gradients, gradients added up over micro batches, and an average of the parameters.

Start it with `python examples/small_gpt.py --checkpoint run.pt`. With `--stop 150` it ends early,
and with `--resume` it goes on from the file, to the same bits as a run that did not stop.
"""

import argparse
import functools
import pydoc_data.topics

import jax
import jax.numpy as jnp
import numpy as np
import optax

import torchwise
from torchwise import averages, checkpoint, schedules

LETTERS, HEADS, MICRO_BATCHES = 128, 4, 2


def load_text():
    """Return the letters of the manual in ASCII, for training and for validation."""
    text = "".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
    codes = np.frombuffer(text.encode("ascii", "ignore"), np.uint8).astype(np.int32)
    return np.split(codes, [len(codes) * 9 // 10])


def batch(codes, seed, size, context):
    """Return `size` pieces of the text (size, context + 1), drawn from the seed alone."""
    starts = np.random.default_rng(seed).integers(len(codes) - context, size=size)
    return codes[starts[:, None] + np.arange(context + 1)]


def initialize(key, width, layers, context):
    """Return the parameters; a weight is (inputs, outputs)."""
    keys = iter(jax.random.split(key, 2 + 4 * layers))

    def linear(inputs, outputs, scale=1.0):
        weight = 0.02 * scale * jax.random.normal(next(keys), (inputs, outputs))
        return {"weight": weight, "bias": jnp.zeros(outputs)}

    def norm():
        return {"weight": jnp.ones(width), "bias": jnp.zeros(width)}

    def block():
        small = (2 * layers) ** -0.5  # as in GPT-2, for what is added to the residual stream
        return {
            "norm1": norm(),
            "attention": linear(width, 3 * width),
            "mixed": linear(width, width, small),
            "norm2": norm(),
            "hidden": linear(width, 4 * width),
            "output": linear(4 * width, width, small),
        }

    return {
        "embedding": {
            "letter": 0.02 * jax.random.normal(next(keys), (LETTERS, width)),
            "position": 0.02 * jax.random.normal(next(keys), (context, width)),
        },
        "blocks": [block() for _ in range(layers)],
        "norm": norm(),
    }


def normalized(layer, x):
    """Return a layer norm."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * layer["weight"] + layer["bias"]


def linear(layer, x):
    """Return an affine map."""
    return x @ layer["weight"] + layer["bias"]


def logits(params, letters):
    """Return the scores (batch, context, 128) of the letter after each letter (batch, context)."""
    count, length = letters.shape
    x = params["embedding"]["letter"][letters] + params["embedding"]["position"][:length]
    for layer in params["blocks"]:
        mixed = linear(layer["attention"], normalized(layer["norm1"], x))
        query, key, value = jnp.moveaxis(mixed.reshape(count, length, 3, HEADS, -1), 2, 0)
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + linear(layer["mixed"], mixed.reshape(x.shape))
        hidden = jax.nn.gelu(linear(layer["hidden"], normalized(layer["norm2"], x)))
        x = x + linear(layer["output"], hidden)
    return normalized(params["norm"], x) @ params["embedding"]["letter"].T


def loss(params, pieces):
    """Return the mean cross entropy per letter, in nats, of pieces (batch, context + 1)."""
    scores = logits(params, pieces[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(scores, pieces[:, 1:]).mean()


def optimizer(params, lr, steps):
    """Return AdamW behind clipping, with a schedule for so many steps."""
    first = steps // 10 + 1
    warm_up = schedules.linear(lr, start_factor=0.1, total_iters=first)
    down = schedules.cosine_annealing(lr, T_max=max(1, steps - first), eta_min=lr / 10)
    rate = schedules.sequential([warm_up, down], milestones=[first])
    no_decay = [{"match": ["*bias", "*norm*", "embedding.*"], "weight_decay": 0.0}]
    groups = {"lr": rate, "betas": (0.9, 0.95), "weight_decay": 0.1}
    adamw = torchwise.grouped(torchwise.adamw, params, no_decay, **groups)
    return torchwise.chain(torchwise.clip_grad_norm(1.0), adamw)


def save(path, step, transform, params, state, averaged):
    """Write a file that torch.load reads, too; the optimizer's part is a dict of torch's AdamW."""
    model = torchwise.params_to_state_dict(params)
    average = {"n": averaged.n_averaged, "model": torchwise.params_to_state_dict(averaged.params)}
    written = torchwise.to_state_dict(transform, state, params)
    checkpoint.save(path, {"step": step, "model": model, "optimizer": written, "average": average})


def load(path, params):
    """Return what `save` was given but for the transform, for parameters of the same shapes."""
    saved = checkpoint.load(path)
    params = torchwise.params_from_state_dict(saved["model"], params)
    _, state = torchwise.from_state_dict(saved["optimizer"], params)
    average = torchwise.params_from_state_dict(saved["average"]["model"], params)
    return saved["step"], params, state, averages.AverageState(saved["average"]["n"], average)


def main(argv=None):
    """Train; return the loss of the averaged parameters on text that was not trained on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="that the schedule is made for")
    parser.add_argument("--stop", type=int, help="after this step; default: the last")
    parser.add_argument("--checkpoint", help="file to write at the end")
    parser.add_argument("--resume", action="store_true", help="begin with what the file has")
    for name, number in {"width": 64, "layers": 2, "context": 64, "batch": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    args = parser.parse_args(argv)
    if args.resume and not args.checkpoint:
        parser.error("--resume needs --checkpoint")

    training, validation = load_text()
    params = initialize(jax.random.key(0), args.width, args.layers, args.context)
    transform, ema = optimizer(params, 3e-3, args.steps), averages.ema(0.98)
    begin, state, averaged = 0, transform.init(params), ema.init(params)
    if args.resume:
        begin, params, state, averaged = load(args.checkpoint, params)
    gradients = torchwise.accumulate_gradients(jax.value_and_grad(loss), MICRO_BATCHES, "mean")

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def train_step(params, state, averaged, pieces):
        value, grads = gradients(params, pieces)
        params, state = transform.step(grads, state, params)
        return params, state, ema.update(averaged, params), value

    stop = args.steps if args.stop is None else args.stop
    for step in range(begin, stop):
        pieces = batch(training, [0, step], args.batch, args.context)
        params, state, averaged, value = train_step(params, state, averaged, pieces)
        if step % 50 == 0 or step == stop - 1:
            print(f"step {step}: loss {value:.4f}")
    if args.checkpoint:
        save(args.checkpoint, stop, transform, params, state, averaged)
    return float(jax.jit(loss)(averaged.params, batch(validation, 1, 64, args.context)))


if __name__ == "__main__":
    print("validation:", main())
