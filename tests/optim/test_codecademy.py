"""A beginner's example, line by line: a network of 10, 5 and 1 units under SGD with momentum."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from torch_oracle import to_numpy
from torchwise import optim


def torchs_run(x, y, epochs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1))
    start = {name: to_numpy(value) for name, value in model.named_parameters()}
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = criterion(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return start, {name: to_numpy(value) for name, value in model.named_parameters()}, losses


def our_run(start, x, y, epochs):
    def criterion(params, x, y):
        hidden = jax.nn.relu(x @ params["0.weight"].T + params["0.bias"])
        return jnp.mean((hidden @ params["2.weight"].T + params["2.bias"] - y) ** 2)

    optimizer = optim.SGD(start.items(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = optimizer.backward(criterion, x, y)
        optimizer.step()
        losses.append(float(loss))
    return optimizer.params, losses


def test_same_parameters_and_losses():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 10)).astype("f4"), rng.normal(size=(100, 1)).astype("f4")
    start, theirs, their_losses = torchs_run(x, y, 100)
    ours, our_losses = our_run(start, x, y, 100)
    # Matrix products add in another order; the optimizers themselves are equal to the bit.
    np.testing.assert_allclose(our_losses, their_losses, rtol=2e-6)
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-6)
    assert our_losses[-1] < 0.9 * our_losses[0]
