# %% [markdown]
# # Groups, hooks, freezing
#
# Do stateful optimizers do what a fine-tuning script in torch's style expects? This notebook tries
# four things on scikit-learn's digits: a slow hidden layer with a fast output layer, a log of
# gradient norms, layers that are frozen and thawed, and batches that are computed in parts.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import torchwise
from torchwise import optim

plt.rcParams.update({"figure.dpi": 80, "font.size": 9})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.35"
STEPS, BATCH = 150, 64

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
rng = np.random.default_rng(0)
BATCHES = [rng.choice(len(labels), BATCH, replace=False) for _ in range(STEPS)]


def layer(inputs, outputs):
    bound = inputs**-0.5
    return {
        "weight": rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, outputs).astype(np.float32),
    }


HIDDEN, OUTPUT = layer(64, 64), layer(64, 10)


def loss_fn(groups, x, y):
    """The parameters come as they were given: one tree per group."""
    hidden, output = groups
    scores = jnp.tanh(x @ hidden["weight"].T + hidden["bias"]) @ output["weight"].T
    scores += output["bias"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))


# %% [markdown]
# ## Groups with their own rate
#
# The output layer learns five times as fast as the hidden one, and has no decay.


# %%
def new_optimizer():
    return optim.SGD(
        [{"params": HIDDEN}, {"params": OUTPUT, "lr": 0.1, "weight_decay": 0.0}],
        lr=0.02,
        momentum=0.9,
        weight_decay=1e-3,
    )


optimizer = new_optimizer()
hidden, output = optimizer.param_groups
assert (hidden["lr"], output["lr"]) == (0.02, 0.1)
assert (hidden["weight_decay"], output["weight_decay"]) == (1e-3, 0.0)

# The first step is lr times the gradient, plus decay where there is some.
grads = jax.grad(loss_fn)(optimizer.params, images[BATCHES[0]], labels[BATCHES[0]])
before = optimizer.params
optimizer.train_step(loss_fn, images[BATCHES[0]], labels[BATCHES[0]])
for name in ("weight", "bias"):
    pairs = zip(before, optimizer.params, strict=True)
    slow, fast = (old[name] - new[name] for old, new in pairs)
    decayed = grads[0][name] + 1e-3 * before[0][name]
    np.testing.assert_allclose(slow, 0.02 * decayed, atol=1e-7)
    np.testing.assert_allclose(fast, 0.1 * grads[1][name], atol=1e-7)

# %% [markdown]
# ## Freezing, thawing, and a log in a hook
#
# A pre-hook sees the gradients that a step is going to use. This one notes the norm of each layer's
# gradients. It is registered for the `with` block only. Meanwhile the layers are frozen in turn:
#
# | steps | hidden | output |
# | --- | --- | --- |
# | 0 to 49 | learns | learns |
# | 50 to 99 | frozen | learns |
# | 100 to 149 | learns | frozen |
#
# Frozen means `requires_grad = False`. As in torch, momentum and decay must not move it either.

# %%
optimizer = new_optimizer()
hidden, output = optimizer.param_groups
norms, movement, losses, buffers = [], [], [], []


def norm(arrays):
    return float(optax.tree.norm(list(arrays))) if arrays else 0.0


def note_norms(optimizer, args, kwargs):
    norms.append(
        [
            norm([one.grad for one in group["params"] if one.grad is not None])
            for group in optimizer.param_groups
        ]
    )


def freeze(group, frozen):
    for parameter in group["params"]:
        parameter.requires_grad = not frozen


with optimizer.register_step_pre_hook(note_norms):
    for count, rows in enumerate(BATCHES):
        freeze(hidden, 50 <= count < 100)
        freeze(output, count >= 100)
        old = optimizer.params
        optimizer.zero_grad()
        losses.append(float(optimizer.backward(loss_fn, images[rows], labels[rows])))
        optimizer.step()
        moved = jax.tree.map(jnp.subtract, optimizer.params, old)
        movement.append([norm(jax.tree.leaves(tree)) for tree in moved])
        buffers.append(optimizer.state[hidden["params"][0]]["momentum_buffer"])

optimizer.train_step(loss_fn, images[BATCHES[0]], labels[BATCHES[0]])
assert len(norms) == STEPS  # the hook has gone with its block

# %%
norms, movement = np.array(norms), np.array(movement)
figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
panels[0].plot(losses, color=GREY, lw=1.2)
panels[0].set(yscale="log", title="loss of the batch (nats)")
for panel, values, title in (
    (panels[1], norms, "norm of the gradients, from the hook"),
    (panels[2], movement, "length of the step"),
):
    for place, (name, color) in enumerate((("hidden", BLUE), ("output", ORANGE))):
        shown = np.where(values[:, place] > 0, values[:, place], np.nan)
        panel.plot(shown, color=color, lw=1.2, label=name)
    panel.set(yscale="log", title=title)
    panel.legend(frameon=False, loc="upper right", ncols=2)
for panel in panels:
    low, high = panel.get_ylim()
    panel.set(xlabel="step", ylim=(0.5 * low, 1.6 * high))
    across = panel.get_xaxis_transform()
    for start, color, name in (
        (50, BLUE, "hidden\nfrozen"),
        (100, ORANGE, "output\nfrozen"),
    ):
        panel.axvspan(start, start + 50, color=color, alpha=0.08, lw=0)
        panel.text(start + 25, 0.03, name, transform=across, ha="center")
plt.show()

# %% [markdown]
# A gap is an exact zero: there is no gradient and no movement, whatever momentum there was. The
# hidden layer uses its old momentum again when it is thawed, as it would in torch.

# %%
assert (movement[50:100, 0] == 0).all()
assert (movement[100:, 1] == 0).all()
assert (norms[50:100, 0] == 0).all()
assert (norms[100:, 1] == 0).all()
assert (movement[:50] > 0).all()
assert (movement[50:100, 1] > 0).all()
assert (movement[100:, 0] > 0).all()
assert jnp.array_equal(buffers[49], buffers[99])  # it waited for the thaw
assert np.mean(losses[-10:]) < 0.2 * losses[0]

# %% [markdown]
# ## Batches in parts
#
# A batch of 64 can be computed at once, in four calls of `backward`, or in one compiled program by
# `accumulate_gradients`. Is the step the same? Gradients add up, so the mean of each part is
# divided by four, as one does in torch. `accumulate_gradients(..., "mean")` does that itself.


# %%
def quarter(groups, x, y):
    return loss_fn(groups, x, y) / 4


def of_batch(groups, batch):
    return loss_fn(groups, *batch)


whole, parts = new_optimizer(), new_optimizer()
transform, params, state = new_optimizer().to_functional()
accumulated = torchwise.accumulate_gradients(jax.value_and_grad(of_batch), 4, "mean")


@jax.jit
def compiled_step(params, state, batch):
    loss, grads = accumulated(params, batch)
    params, state = transform.step(grads, state, params)
    return params, state, loss


def distance(one, other):
    gaps = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), one, other)
    return float(max(jax.tree.leaves(gaps)))


gaps = []
for rows in BATCHES[:50]:
    x, y = images[rows], labels[rows]
    whole.train_step(loss_fn, x, y)
    parts.zero_grad()
    for part in range(4):
        parts.backward(quarter, x[16 * part :][:16], y[16 * part :][:16])
    parts.step()
    params, state, _ = compiled_step(params, state, (x, y))
    gaps.append([distance(whole.params, parts.params), distance(whole.params, params)])

# %%
gaps = np.array(gaps)
figure, panel = plt.subplots(figsize=(6, 3.2), layout="constrained")
panel.plot(gaps[:, 0], color=BLUE, lw=1.5, label="four calls of backward")
panel.plot(gaps[:, 1], color=ORANGE, lw=1.5, ls="--", label="accumulate_gradients")
change = distance(whole.params, [HIDDEN, OUTPUT])
panel.axhline(change, color="0.5", ls=":", label="largest change in the whole run")
panel.set(yscale="log", xlabel="step")
panel.set(ylabel="largest difference from\nthe undivided batch")
panel.legend(frameon=False, loc="center right")
plt.show()

assert gaps.max() < 1e-5 * change

# %% [markdown]
# The three differ only by the order in which 64 examples are added up.
