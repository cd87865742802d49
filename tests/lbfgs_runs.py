"""Problems for L-BFGS, run in torch and here.

Dot products sum in another order here than in torch, and losses are differentiated by another
library. Each iteration multiplies these roundings by the condition of the problem, and where a
number is close to a threshold of the line search, the paths part. So paths are compared over the
first steps, relative to the largest parameter; measured were 5e-11 in float64 over two steps, and
3e-4 in float32 over one.
"""

import jax.numpy as jnp
import numpy as np
import torch

from torch_oracle import to_numpy, to_torch
from torchwise.optim.lbfgs import LBFGS

STEPS = {"float64": 2, "float32": 1}
BOUND = {"float64": 1e-9, "float32": 5e-3}
SEARCH = {"line_search_fn": "strong_wolfe"}
OPTIONS = {
    "fixed": {"lr": 0.1},
    "fixed, short history": {"lr": 0.05, "history_size": 3, "max_iter": 12},
    "search": SEARCH,
    "search, short history": {**SEARCH, "history_size": 3},
}


def rosenbrock(library, params):
    x = params[0]
    return ((1 - x[:-1]) ** 2).sum() + (100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def regression(library, params):
    weight, bias, last_weight, last_bias = params
    inputs = np.random.default_rng(1).normal(size=(40, 3))
    target = np.sin(inputs.sum(axis=1, keepdims=True))
    dtype = to_numpy(weight).dtype if library is torch else weight.dtype
    new = to_torch if library is torch else jnp.asarray
    inputs, target = new(inputs.astype(dtype)), new(target.astype(dtype))
    hidden = library.tanh(inputs @ weight + bias)
    return ((hidden @ last_weight + last_bias - target) ** 2).mean()


def network(dtype):
    rng = np.random.default_rng(0)
    return [rng.normal(size=size, scale=0.5).astype(dtype) for size in ((3, 8), 8, (8, 1), 1)]


PROBLEMS = {
    "rosenbrock": (rosenbrock, lambda dtype: [np.array([-1.2, 1.0, -0.5, 0.8], dtype)]),
    "network": (regression, network),
}


class Torch:
    """torch's optimizer, and every point at which it evaluated."""

    def __init__(self, loss, params, **options):
        self.tensors = [to_torch(param).requires_grad_() for param in params]
        self.optimizer = torch.optim.LBFGS(self.tensors, **options)
        self.path = []
        self.loss = loss

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.loss(torch, self.tensors)
        loss.backward()
        self.path.append(joined(map(to_numpy, self.tensors)))
        return loss

    def step(self):
        return self.optimizer.step(self.closure)

    @property
    def params(self):
        return joined(map(to_numpy, self.tensors))

    @property
    def state(self):
        return self.optimizer.state[self.tensors[0]]


class Ours:
    """The same with ours."""

    def __init__(self, loss, params, **options):
        self.optimizer = LBFGS([jnp.asarray(param) for param in params], **options)
        self.path = []
        self.loss = lambda params: loss(jnp, params)

    def closure(self):
        self.optimizer.zero_grad()
        self.path.append(self.params)
        return self.optimizer.backward(self.loss)

    def step(self):
        return self.optimizer.step(self.closure)

    @property
    def params(self):
        return joined(self.optimizer.params)

    @property
    def state(self):
        return self.optimizer.state[self.optimizer.param_groups[0]["params"][0]]


def joined(arrays):
    return np.concatenate([np.ravel(np.asarray(array)) for array in arrays])


def counts(state):
    return int(state["func_evals"]), int(state["n_iter"])


def apart(ours, theirs):
    """The largest distance, relative to the largest number of all."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))
