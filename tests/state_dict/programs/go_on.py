"""Go on from torch's checkpoints where torch cannot be imported, on both faces; save as .pt."""

import sys
from pathlib import Path

sys.modules["torch"] = None

import jax  # noqa: E402 (the block comes first)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import torchwise  # noqa: E402
from torchwise import checkpoint, optim  # noqa: E402


def functional(saved, steps):
    params = {name: jnp.asarray(array) for name, array in saved["model"].items()}
    transform, state = torchwise.from_state_dict(saved["optimizer"], params, names=list(params))

    @jax.jit
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for grads in steps:
        params, state = step(params, state, dict(zip(saved["model"], grads)))
    return {
        "model": {name: params[name] for name in saved["model"]},
        "optimizer": torchwise.to_state_dict(transform, state, params),
    }


def stateful(saved, steps):
    face = optim.SGD if "momentum" in saved["optimizer"]["param_groups"][0] else optim.Adagrad
    optimizer = face([jnp.asarray(array) for array in saved["model"].values()])
    optimizer.load_state_dict(saved["optimizer"])
    for grads in steps:
        for parameter, grad in zip(optimizer.param_groups[0]["params"], grads):
            parameter.grad = grad
        optimizer.step()
    params = dict(zip(saved["model"], optimizer.params))
    return {"model": params, "optimizer": optimizer.state_dict()}


for folder in sorted(Path(sys.argv[1]).iterdir()):
    saved = checkpoint.load(folder / "torch.pt")
    arrays = np.load(folder / "gradients.npz")
    count = len(saved["model"])
    grads = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
    steps = [grads[start : start + count] for start in range(0, len(grads), count)]
    checkpoint.save(folder / "functional.pt", functional(saved, steps))
    checkpoint.save(folder / "stateful.pt", stateful(saved, steps))
print("went on", len(steps))
