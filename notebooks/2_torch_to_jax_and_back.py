# %% [markdown]
# # From torch to JAX and back
#
# Can a run begin in torch, continue in JAX, and end in torch, as if it had never left? A small
# network learns scikit-learn's digits: it takes 40 steps in torch, 40 in JAX, and 40 in torch
# again. It has momentum, and weight decay on everything except the biases. A second run stays in
# torch throughout, with the same batches.

# %%
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import torch
from sklearn.datasets import load_digits

import torchwise

plt.rcParams.update({"figure.dpi": 80, "font.size": 9})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE = "#0072b2", "#d55e00"
STEPS, BATCH = 40, 64

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
rng = np.random.default_rng(0)
BATCHES = [rng.choice(len(labels), BATCH, replace=False) for _ in range(3 * STEPS)]


# %%
def new_run():
    """The same network and a new optimizer at every call."""
    torch.manual_seed(0)
    hidden, output = torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)
    model = torch.nn.Sequential(hidden, torch.nn.Tanh(), output)
    groups = [
        {"params": [model[0].weight, model[2].weight]},
        {"params": [model[0].bias, model[2].bias], "weight_decay": 0.0},
    ]
    return model, torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-3)


def train_in_torch(model, optimizer, batches):
    losses, history = [], []
    for rows in batches:
        optimizer.zero_grad()
        scores = model(torch.from_numpy(images[rows]))
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels[rows]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        values = model.state_dict().items()
        history.append({name: value.numpy().copy() for name, value in values})
    return losses, history


stayed_model, stayed_optimizer = new_run()
stayed_losses, stayed = train_in_torch(stayed_model, stayed_optimizer, BATCHES)

# %% [markdown]
# ## 1. In torch
#
# Until the first move, both runs are the same.

# %%
folder = tempfile.TemporaryDirectory()
there, back = Path(folder.name, "there.pt"), Path(folder.name, "back.pt")

model, optimizer = new_run()
losses, moved = train_in_torch(model, optimizer, BATCHES[:STEPS])
assert losses == stayed_losses[:STEPS]
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, there)

# %% [markdown]
# ## 2. Into JAX
#
# `checkpoint.load` needs no torch. torch's optimizer numbers its parameters in the order of its
# groups; therefore `from_state_dict` is told their names. Does every bit arrive?

# %%
saved = torchwise.checkpoint.load(there)
names = ["0.weight", "2.weight", "0.bias", "2.bias"]
params = torchwise.params_from_state_dict(
    saved["model"], {name: jnp.asarray(saved["model"][name]) for name in names}
)
transform, state = torchwise.from_state_dict(saved["optimizer"], params, names=names)

for name, value in model.state_dict().items():
    assert np.array_equal(params[name], value.numpy()), name
again = torchwise.to_state_dict(transform, state, params, names=names)
theirs = optimizer.state_dict()
assert [group["weight_decay"] for group in again["param_groups"]] == [1e-3, 0.0]
for index, entry in theirs["state"].items():
    buffer = again["state"][index]["momentum_buffer"]
    assert np.array_equal(buffer, entry["momentum_buffer"].numpy()), names[index]

# %% [markdown]
# ## 3. In JAX
#
# `transform` has the hyperparameters of the groups, and `state` has the momentum. The whole step is
# compiled.


# %%
@jax.jit
def train_step(params, state, x, y):
    def loss_fn(params):
        hidden = jnp.tanh(x @ params["0.weight"].T + params["0.bias"])
        scores = hidden @ params["2.weight"].T + params["2.bias"]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))

    loss, grads = jax.value_and_grad(loss_fn)(params)
    params, state = transform.step(grads, state, params)
    return params, state, loss


for rows in BATCHES[STEPS : 2 * STEPS]:
    params, state, loss = train_step(params, state, images[rows], labels[rows])
    losses.append(float(loss))
    moved.append(jax.device_get(params))

# %% [markdown]
# ## 4. Back into torch
#
# torch loads the file in its safe mode (`weights_only=True`), into a new network and a new
# optimizer. Again everything must arrive, the hyperparameters included.

# %%
torchwise.checkpoint.save(
    back,
    {
        "model": torchwise.params_to_state_dict(params),
        "optimizer": torchwise.to_state_dict(transform, state, params, names=names),
    },
)
loaded = torch.load(back, weights_only=True)
model, optimizer = new_run()
model.load_state_dict(loaded["model"])
optimizer.load_state_dict(loaded["optimizer"])

for name, value in model.state_dict().items():
    assert np.array_equal(value.numpy(), params[name]), name
assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-3, 0.0]
assert all(group["momentum"] == 0.9 for group in optimizer.param_groups)
folder.cleanup()

# %%
last_losses, last = train_in_torch(model, optimizer, BATCHES[2 * STEPS :])
losses += last_losses
moved += last

# %% [markdown]
# ## Was it as if it had never left?
#
# In the first third the difference is zero. In JAX the update is equal to torch's in every bit, but
# the gradients are not: matrix products add in another order. This rounding, and nothing else, is
# what the curve on the right shows. To see how little it is, a third run makes the same moves but
# forgets its momentum at the first. That is what happens if only the weights are loaded.

# %%
weights = {name: jnp.asarray(value) for name, value in stayed[STEPS - 1].items()}
fresh = transform.init(weights)
forgetful = []
for rows in BATCHES[STEPS : 2 * STEPS]:
    weights, fresh, _ = train_step(weights, fresh, images[rows], labels[rows])
    forgetful.append(jax.device_get(weights))


def distance(ones, others):
    """The largest difference of any parameter, step by step."""
    return np.array(
        [
            max(np.abs(one[name] - other[name]).max() for name in names)
            for one, other in zip(ones, others, strict=True)
        ]
    )


away = distance(moved, stayed)
lost = distance(forgetful, stayed[STEPS : 2 * STEPS])
way = distance([stayed[0]], [stayed[-1]])[0]

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(stayed_losses, color="black", lw=4, alpha=0.25, label="torch throughout")
left.plot(losses, color=BLUE, lw=1.2, label="torch, JAX, torch")
left.set(yscale="log", ylim=(0.07, 4), title="loss")
left.set(xlabel="step", ylabel="loss of the batch (nats)")
left.legend(frameon=False, loc="lower left")
in_jax, shown = np.arange(STEPS, 2 * STEPS), np.where(away > 0, away, np.nan)
right.plot(in_jax, lost, color=ORANGE, lw=1.5, label="momentum forgotten")
right.plot(shown, color=BLUE, lw=1.5, label="torch, JAX, torch")
right.axhline(way, color="0.5", lw=1, ls=":", label="largest change in the whole run")
right.text(STEPS / 2, 1e-7, "equal\nto the bit", color=BLUE, ha="center", va="bottom")
right.set(yscale="log", xlabel="step", xlim=left.get_xlim(), ylim=(5e-9, 50))
right.set_title("largest difference from torch throughout")
right.legend(frameon=False, loc="center right", fontsize=8)
for panel in (left, right):
    for place, name in enumerate(("torch", "JAX", "torch")):
        start, middle, end = place * STEPS, (place + 0.5) * STEPS, (place + 1) * STEPS
        panel.axvspan(start, end, color="0.5", alpha=0.12 * (place == 1))
        across = panel.get_xaxis_transform()
        panel.text(middle, 0.97, name, transform=across, ha="center", va="top")
plt.show()
print(f"largest change in the whole run {way:.2f}")
print(f"difference {away.max():.0e}, momentum forgotten {lost.max():.0e}")

# %%
assert (away[:STEPS] == 0).all()
assert 0 < away.max() < 1e-5 * way
assert lost.max() > 1000 * away.max()
np.testing.assert_allclose(losses, stayed_losses, rtol=1e-4)
