"""Go on from torch's checkpoints where torch cannot be imported, in both ways; save as .pt."""

import json
import sys
from pathlib import Path

sys.modules["torch"] = None

import jax  # noqa: E402 (the block comes first)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import torchwise  # noqa: E402
from torchwise import checkpoint, optim  # noqa: E402


def functional(saved, steps):
    params = {name: jnp.asarray(array) for name, array in saved["model"].items()}
    transform, state = torchwise.from_state_dict(saved["optimizer"], params, names=list(params))

    @jax.jit
    def step(params, state, grads):
        return transform.step(grads, state, params)

    for grads in steps:
        params, state = step(params, state, dict(zip(saved["model"], grads)))
    return {
        "model": {name: params[name] for name in saved["model"]},
        "optimizer": torchwise.to_state_dict(transform, state, params),
    }


def stateful(saved, steps, name):
    optimizer = getattr(optim, name)([jnp.asarray(array) for array in saved["model"].values()])
    optimizer.load_state_dict(saved["optimizer"])
    for grads in steps:
        for parameter, grad in zip(optimizer.param_groups[0]["params"], grads, strict=True):
            parameter.grad = grad
        optimizer.step()
    params = dict(zip(saved["model"], optimizer.params))
    return {"model": params, "optimizer": optimizer.state_dict()}


root = Path(sys.argv[1])
arrays = np.load(root / "gradients.npz")
grads = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
for path in root.glob("*/torch.pt"):
    saved = checkpoint.load(path)
    name = json.loads(path.with_name("optimizer.json").read_text())
    count = len(saved["model"])
    steps = [grads[start : start + count] for start in range(0, len(grads), count)]
    checkpoint.save(path.with_name("functional.pt"), functional(saved, steps))
    checkpoint.save(path.with_name("stateful.pt"), stateful(saved, steps, name))
print("went on", len(steps))
