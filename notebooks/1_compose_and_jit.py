# %% [markdown]
# # Compose, compile, differentiate
#
# An optimizer of torchwise is a value: it can be put together from blocks, scanned over and
# differentiated. Is it still equal to torch in every bit? And where do torch, optax and torchwise
# differ?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import torch

import torchwise

plt.rcParams.update({"figure.dpi": 80, "font.size": 9})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.35"

# %% [markdown]
# ## A valley with noise
#
# The loss is $\frac12(x^2 + 16 y^2)$, sixteen times steeper in $y$ than in $x$. Its gradient is
# exact in float32, as 16 is a power of two. Some noise is added to the gradient, which is the same
# for all optimizers. So whatever differs below comes from the optimizer.

# %%
STEPS = 120
CURVATURE = np.array([1, 16], np.float32)
START = np.array([3, 1], np.float32)
NOISE = np.random.default_rng(0).normal(0, 0.5, (STEPS, 2)).astype(np.float32)


def run_jax(transform):
    """All steps in one compiled program."""

    def step(carry, noise):
        param, state = carry
        updates, state = transform.update(CURVATURE * param + noise, state, param)
        param = optax.apply_updates(param, updates)
        return (param, state), param

    def walk(start, noise):
        return jax.lax.scan(step, (start, transform.init(start)), noise)[1]

    return np.asarray(jax.jit(walk)(jnp.asarray(START), jnp.asarray(NOISE)))


def run_torch(make, make_scheduler=None):
    param = torch.from_numpy(START.copy())
    optimizer = make([param])
    scheduler = make_scheduler(optimizer) if make_scheduler else None
    path = []
    for noise in NOISE:
        param.grad = torch.from_numpy(CURVATURE) * param + torch.from_numpy(noise)
        optimizer.step()
        if scheduler:
            scheduler.step()
        path.append(param.numpy().copy())
    return np.stack(path)


# %% [markdown]
# ## Is a chain of blocks the optimizer?
#
# `torchwise.sgd` is a chain of two blocks and a rule. If the chain is written out, it takes the
# same 120 steps, and both take the same steps as torch.

# %%
whole = torchwise.sgd(lr=0.02, momentum=0.9, dampening=0.5, weight_decay=0.01)
composed = torchwise.chain(
    torchwise.add_decayed_weights(0.01),
    torchwise.trace(momentum=0.9, dampening=0.5),
    torchwise.scale_by_learning_rate(0.02),
)
options = {"lr": 0.02, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}
theirs = run_torch(lambda params: torch.optim.SGD(params, **options))
assert np.array_equal(run_jax(whole), theirs)
assert np.array_equal(run_jax(composed), theirs)

# %% [markdown]
# ## Does a schedule follow torch's scheduler?
#
# A schedule is a function of the number of gradients seen so far. torch's `StepLR` writes
# `group["lr"]` instead. `torchwise.schedules` has torch's schedulers as such functions. Here both
# halve the rate every 40 steps.

# %%
halving = torchwise.schedules.step(0.05, step_size=40, gamma=0.5)
scheduled = torchwise.sgd(lr=halving, momentum=0.9)
theirs = run_torch(
    lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
    lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 40, gamma=0.5),
)
assert np.array_equal(run_jax(scheduled), theirs)

# %% [markdown]
# ## Where do the three differ, and by how much?
#
# For dampening, `optax.ema` looks like the counterpart of torch's option, but it is not: a schedule
# in front of `optax.trace` would be. Adagrad exists in optax, too, but it has other defaults, and
# eps is inside the root. Distances below 1e-9, and zeros, are drawn at 1e-9.

# %%
cases = {
    "SGD, momentum 0.9, dampening 0.9": (
        run_torch(lambda params: torch.optim.SGD(params, 0.04, 0.9, dampening=0.9)),
        {
            "torchwise.sgd": torchwise.sgd(lr=0.04, momentum=0.9, dampening=0.9),
            "optax.ema": optax.chain(optax.ema(0.9, debias=False), optax.sgd(0.04)),
            "optax.ema, debiased": optax.chain(optax.ema(0.9), optax.sgd(0.04)),
        },
    ),
    "Adagrad, lr 0.3": (
        run_torch(lambda params: torch.optim.Adagrad(params, lr=0.3)),
        {
            "torchwise.adagrad": torchwise.adagrad(lr=0.3),
            "optax.adagrad": optax.adagrad(0.3),
            "optax.adagrad, torch's defaults": optax.adagrad(0.3, 0.0, 1e-10),
        },
    ),
}
distances = {}
figure, panels = plt.subplots(2, 2, figsize=(9, 6.6), layout="constrained")
x, y = np.meshgrid(np.linspace(-1.8, 3.3, 80), np.linspace(-2.6, 2.1, 80))
floor = 1e-9
loss = 0.5 * (x**2 + 16 * y**2)
wide = {"color": "black", "lw": 4, "alpha": 0.3}
small = {"color": "0.4", "fontsize": 8}
for (plane, log), (title, case) in zip(panels, cases.items(), strict=True):
    theirs, transforms = case
    plane.contour(x, y, loss, levels=12, colors="0.88", linewidths=0.8)
    plane.plot(*np.vstack([START, theirs]).T, label="torch", **wide)
    for (name, transform), (color, style) in zip(
        transforms.items(), ((BLUE, "-"), (ORANGE, "-"), (GREY, "--")), strict=True
    ):
        path = run_jax(transform)
        distances[name] = np.abs(path - theirs).max(axis=1)
        plane.plot(*np.vstack([START, path]).T, style, color=color, lw=1.2, label=name)
        drawn = np.maximum(distances[name], floor)
        log.plot(drawn, style, color=color, lw=1.5, label=name)
    plane.set(title=title, xlabel="x", ylabel="y", xlim=(-1.8, 3.3), ylim=(-2.6, 2.1))
    plane.legend(frameon=False, loc="lower left", fontsize=8)
    log.set(yscale="log", ylim=(floor / 2, 5))
    log.set(xlabel="step", title="distance from torch")
    log.axhline(2.0**-24, color="0.6", lw=1, ls=":")
    log.text(STEPS, 2.0**-24, "rounding at 1", va="bottom", ha="right", **small)
    log.legend(frameon=False, loc="center right", fontsize=8)
panels[0, 1].text(0, 1.3 * floor, "equal to the bit", color=BLUE)
plt.show()

for name, distance in distances.items():
    print(f"{name:32s} farthest from torch: {distance.max():.1e}")

# %% [markdown]
# torch's momentum starts from the *whole* first gradient and damps only the later ones. An `ema`
# damps the first one as well, and differs from the first step on. A debiased one starts alike, and
# differs from the second step on. Adagrad's defaults differ from the first step on, too. With
# torch's values, optax stays within a few roundings here, where gradients are large. What remains
# comes from `rsqrt` and from the place of eps.

# %%
assert (distances["torchwise.sgd"] == 0).all()
assert distances["optax.ema"][0] > 0.5
assert distances["optax.ema, debiased"][0] < 1e-6
assert distances["optax.ema, debiased"][1] > 0.1
assert distances["torchwise.adagrad"].max() < 1e-6
assert distances["optax.adagrad"][0] > 1e-4
assert distances["optax.adagrad, torch's defaults"].max() < 1e-5

# %% [markdown]
# ## Can gradient descent find the learning rate?
#
# Here a whole run is a function of its learning rate: it takes 40 steps of `torchwise.sgd` inside
# a `scan`, and `jax.grad` differentiates all of them. A second torchwise optimizer moves the
# logarithm of the first one's rate.


# %%
@jax.jit
def mean_loss(log_lr):
    """The logarithm of the mean loss of 40 steps without noise."""
    transform = torchwise.sgd(lr=jnp.exp(log_lr), momentum=0.5)

    def step(carry, _):
        param, state = carry
        param, state = transform.step(CURVATURE * param, state, param)
        return (param, state), 0.5 * jnp.sum(CURVATURE * param**2)

    start = jnp.asarray(START)
    _, losses = jax.lax.scan(step, (start, transform.init(start)), length=40)
    return jnp.log(jnp.mean(losses))


log_lr = jnp.log(0.005)
slope = jax.grad(mean_loss)(log_lr)
nearby = (mean_loss(log_lr + 0.01) - mean_loss(log_lr - 0.01)) / 0.02
np.testing.assert_allclose(slope, nearby, rtol=1e-2)

outer = torchwise.sgd(lr=0.2, momentum=0.5)
outer_state = outer.init(log_lr)


@jax.jit
def outer_step(log_lr, state):
    loss, slope = jax.value_and_grad(mean_loss)(log_lr)
    log_lr, state = outer.step(slope, state, log_lr)
    return log_lr, state, loss


visited, losses = [], []
for _ in range(40):
    visited.append(float(log_lr))
    log_lr, outer_state, loss = outer_step(log_lr, outer_state)
    losses.append(float(loss))

# %%
grid = np.linspace(np.log(0.003), np.log(0.18), 200).astype(np.float32)
curve = np.asarray(jax.vmap(mean_loss)(grid))
figure, panel = plt.subplots(figsize=(6, 3.6), layout="constrained")
panel.plot(np.exp(grid), np.exp(curve), color=GREY, lw=1.5, label="every rate, by vmap")
style = {"ms": 4, "lw": 0.8, "color": ORANGE}
panel.plot(np.exp(visited), np.exp(losses), "o-", label="learned", **style)
panel.set(xscale="log", yscale="log")
panel.set(xlabel="learning rate", ylabel="mean loss of 40 steps")
panel.legend(frameon=False)
plt.show()

best = np.exp(grid[curve.argmin()])
print(f"learned rate {np.exp(visited[-1]):.3f}, best of the grid {best:.3f}")
assert np.isclose(np.exp(visited[-1]), best, rtol=0.05)
assert losses[-1] < curve.min() + 1e-3
