"""A small network in torch and in JAX, for trainers that leave the loop to the user."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from torchwise import optim

STEPS, BATCH = 40, 8
BEFORE, MEANWHILE = 10, 20


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.LayerNorm(16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
    )


def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, BATCH, 6, generator=generator)
    return x, torch.stack([x.sin().sum(2), (x[..., 0] * x[..., 1])], 2)


def loss(params, x, y):
    """Mean squared error of the same network, over a dict under torch's names."""
    x = x @ params["0.weight"].T + params["0.bias"]
    x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    x = jnp.tanh(x * params["1.weight"] + params["1.bias"])
    return jnp.mean((x @ params["3.weight"].T + params["3.bias"] - y) ** 2)


def train_in_jax(arrays, groups, optimizer_dict, scheduler_dict=None, gamma=1.0):
    """Train AdamW for the steps in the middle of the run.

    Args:
        arrays: the model's parameters, by name.
        groups: names of the parameters of each group, in the optimizer's order.
        optimizer_dict: torch's.
        scheduler_dict: of an ExponentialLR, or None.
        gamma: of the scheduler.

    Returns:
        The parameters, the optimizer's dict and the scheduler's.
    """
    optimizer = optim.AdamW([{"params": [(n, arrays[n]) for n in group]} for group in groups])
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma) if scheduler_dict else None
    optimizer.load_state_dict(optimizer_dict)
    if scheduler:
        scheduler.load_state_dict(scheduler_dict)

    def joined(params):
        parts = params if isinstance(params, list) else [params]
        return {name: array for part in parts for name, array in part.items()}

    def step_loss(params, x, y):
        return loss(joined(params), x, y)

    x, y = (np.asarray(value) for value in batches())
    for step in range(BEFORE, BEFORE + MEANWHILE):
        optimizer.train_step(step_loss, x[step], y[step])
        if scheduler:
            scheduler.step()
    return joined(optimizer.params), optimizer.state_dict(), scheduler and scheduler.state_dict()
