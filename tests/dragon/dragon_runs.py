"""One start, the same gradients and rates for every test, and runs of 100 steps."""

import jax
import numpy as np
import optax
import torch
from dragon_oracle import ulps

from torchwise import dragon

SIZE, STEPS = 67, 100
DTYPES = {"float32": np.float32, "float64": np.float64}
MOMENTA = [(0.9, False), (0.9, True)]


@jax.jit
def advance(transform, grads, state, params):
    updates, state = transform.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def start(size=SIZE):
    values = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    return {name: values.astype(dtype) for name, dtype in DTYPES.items()}


def gradients(seed, size=SIZE, coarse=False):
    """Gradients for every step; coarse ones have sums of squares that are exact in any order."""
    values = np.random.default_rng(seed).standard_normal((STEPS, size)).astype(np.float32)
    return np.clip(np.round(16 * values), -64, 64) / 16 if coarse else values


def rates(seed):
    return np.random.default_rng(seed).uniform(0.01, 0.2, STEPS).tolist()


def torch_run(values, lrs, dtype, **kwargs):
    """Return parameters and momentum buffers before and after every step of torch's for-loop."""
    first = start(values.shape[1])[dtype]
    parameter = torch.nn.Parameter(torch.tensor(first))
    optimizer = torch.optim.SGD([parameter], lr=lrs[0], foreach=False, **kwargs)
    params, buffers = [first], [np.zeros_like(first)]
    for lr, grad in zip(lrs, values):
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = torch.tensor(grad.astype(DTYPES[dtype]))
        optimizer.step()
        buffer = optimizer.state[parameter].get("momentum_buffer")
        params.append(parameter.detach().numpy().copy())
        buffers.append(buffers[0] if buffer is None else buffer.numpy().copy())
    return np.stack(params), np.stack(buffers)


def our_run(values, lrs, dtype, **kwargs):
    """Return the parameters before and after every step, and the last state."""
    params = start(values.shape[1])[dtype]
    state, trajectory = dragon.sgd(lrs[0], **kwargs).init(params), [params]
    for lr, grad in zip(lrs, values):
        transform = dragon.sgd(lr, **kwargs)
        params, state = advance(transform, grad.astype(DTYPES[dtype]), state, params)
        trajectory.append(np.asarray(params))
    return np.stack(trajectory), state


def distance(ours, theirs):
    """In ulps of the largest magnitude that the element has had so far."""
    return ulps(ours, theirs, np.maximum.accumulate(np.maximum(np.abs(ours), np.abs(theirs))))


def parameters(optimizer):
    return [one for group in optimizer.param_groups for one in group["params"]]
