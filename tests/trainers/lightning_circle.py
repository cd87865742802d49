"""Lightning, two epochs in JAX, Lightning again; and how far that is from Lightning alone.

Run `python tests/trainers/lightning_circle.py` in an environment with the `trainers` extra.
For each optimizer it prints the distance after 40 steps: one epoch of ten, two in JAX, one more.
"""

import argparse
import logging
import pathlib
import tempfile
import warnings

import distances
import jax
import jax.numpy as jnp
import lightning
import numpy as np
import torch
from flax import nnx

import torchwise

STEPS, BATCH = 10, 8  # steps of an epoch
EPOCHS, GAMMA = 4, 0.9
OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2),
}
LABELS = ("parameters", "state", "torch, batches turned round")


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS * BATCH, 6, generator=generator)
    return x, torch.stack([x.sin().sum(1), (x[:, 0] * x[:, 1])], 1)


class Module(lightning.LightningModule):
    def __init__(self, optimizer="sgd", turned=False):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
        )

    def training_step(self, batch, _):
        x, y = (value.flip(0) for value in batch) if self.hparams["turned"] else batch
        return torch.nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self):
        optimizer = OPTIMIZERS[self.hparams["optimizer"]](self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, GAMMA)]


def fit(folder, name, epochs, ckpt_path=None, turned=False):
    torch.manual_seed(0)
    module = Module(name, turned)
    trainer = lightning.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(folder, save_last=True)],
    )
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), BATCH)
    trainer.fit(module, batches, ckpt_path=ckpt_path, weights_only=True)
    assert trainer.global_step == epochs * STEPS
    return module, trainer


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.net = nnx.Sequential(
            nnx.Linear(6, 16, rngs=rngs), jnp.tanh, nnx.Linear(16, 2, rngs=rngs)
        )

    def __call__(self, x):
        return self.net(x)


def epoch(graph, transform):
    """Return a compiled epoch.

    The transform is no argument of it: as an argument its numbers would be float32, and `1 - beta2`
    of Adam would be off by 1e-5 of itself.
    """

    @jax.jit
    def run(params, state, x, y):
        def step(carry, batch):
            def loss(params):
                return jnp.mean((nnx.merge(graph, params)(batch[0]) - batch[1]) ** 2)

            params, state = carry
            return transform.step(jax.grad(loss)(params), state, params), None

        return jax.lax.scan(step, (params, state), (x, y))[0]

    return run


def meanwhile(source, target, epochs):
    """Take a checkpoint of Lightning some epochs further in Flax NNX, and write it as one."""
    saved = torchwise.checkpoint.load(source)
    net = Net()
    graph, params = nnx.split(net, nnx.Param)
    layout = torchwise.layouts.flax_nnx(net)
    names = list(saved["state_dict"])  # of torch's zip: in the module's order, as the optimizer's
    params = torchwise.params_from_state_dict(saved["state_dict"], params, layout=layout)
    (optimizer,), (scheduler,) = saved["optimizer_states"], saved["lr_schedulers"]
    x, y = (value.numpy().reshape(STEPS, BATCH, -1) for value in data())

    for _ in range(epochs):
        transform, state = torchwise.from_state_dict(optimizer, params, names=names, layout=layout)
        params, state = epoch(graph, transform)(params, state, x, y)
        optimizer = torchwise.to_state_dict(transform, state, params, names=names, layout=layout)
        for group in optimizer["param_groups"]:
            group["lr"] *= GAMMA
        scheduler["last_epoch"] += 1
        scheduler["_step_count"] += 1
        scheduler["_last_lr"] = [group["lr"] for group in optimizer["param_groups"]]

    saved["state_dict"] = torchwise.params_to_state_dict(params, layout=layout)
    saved["optimizer_states"] = [optimizer]
    advance(saved, epochs)
    torchwise.checkpoint.save(target, saved)


def advance(saved, epochs):
    """Write into a checkpoint of Lightning that more epochs are over: its loops count them."""
    saved["epoch"] += epochs
    saved["global_step"] += epochs * STEPS
    loop = saved["loops"]["fit_loop"]
    for counts in loop["epoch_progress"].values():
        for key in counts:
            counts[key] += epochs
    for key in loop["epoch_loop.batch_progress"]["total"]:
        loop["epoch_loop.batch_progress"]["total"][key] += epochs * STEPS
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] += epochs * STEPS
    steps = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for progress in steps.values():
        for key in progress["total"]:
            progress["total"][key] += epochs * STEPS


def results(module, trainer):
    """Arrays of the module and of the optimizer, by name, and the rates of the groups."""
    (optimizer,) = trainer.optimizers
    names = {p: name for name, p in module.named_parameters()}
    states = {
        f"{names[p]}.{key}": value.numpy()
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if key != "step"
    }
    arrays = {name: p.detach().numpy() for p, name in names.items()}
    return arrays, states, [group["lr"] for group in optimizer.param_groups]


def circle(folder, name):
    """Return how far parameters and state are off, and how far torch is with sums turned round."""
    theirs = results(*fit(folder / "alone", name, EPOCHS))
    fit(folder / "first", name, 1)
    back = folder / "meanwhile.ckpt"
    meanwhile(folder / "first" / "last.ckpt", back, EPOCHS - 2)
    ours = results(*fit(folder / "resumed", name, EPOCHS, back))
    assert Module.load_from_checkpoint(back, weights_only=True).hparams["optimizer"] == name
    assert np.allclose(ours[2], theirs[2], rtol=1e-12), (ours[2], theirs[2])
    turned = results(*fit(folder / "turned", name, EPOCHS, turned=True))
    return [
        distances.relative(ours[0], theirs[0]),
        distances.relative(ours[1], theirs[1]),
        distances.relative(turned[0], theirs[0]),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    for name in options.optimizers:
        with tempfile.TemporaryDirectory() as folder:
            found = circle(pathlib.Path(folder), name)
        for label, (total, worst, where) in zip(LABELS, found):
            print(f"{name} float32 {label}: {total:.1e}, worst {worst:.1e} ({where})")


if __name__ == "__main__":
    main()
