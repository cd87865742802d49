"""accelerate's `save_state`, 20 steps in JAX, `load_state`; and how far that is from torch alone.

Run `python tests/trainers/accelerate_circle.py` in an environment with the `trainers` extra.
"""

import pathlib
import shutil
import tempfile

import accelerate
import distances
import plain
import torch

from torchwise import checkpoint

GAMMA = 0.98


class Run:
    def __init__(self):
        self.accelerator = accelerate.Accelerator(cpu=True)
        model = plain.model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, GAMMA)
        prepared = self.accelerator.prepare(model, optimizer, scheduler)
        self.model, self.optimizer, self.scheduler = prepared

    def train(self, start, stop):
        x, y = plain.batches()
        for step in range(start, stop):
            self.optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(self.model(x[step]), y[step])
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.scheduler.step()

    def arrays(self):
        return {name: p.detach().numpy().copy() for name, p in self.model.named_parameters()}


def meanwhile(source, target):
    saved = checkpoint.load(source)
    names = [name for name, _ in plain.model().named_parameters()]  # safetensors sorts them
    params, optimizer, scheduler = plain.train_in_jax(
        saved["model"], [names], saved["optimizer"], saved["scheduler"], GAMMA
    )
    shutil.copytree(source, target)
    checkpoint.save(target / "model.safetensors", params)
    checkpoint.save(target / "optimizer.bin", optimizer)
    checkpoint.save(target / "scheduler.bin", scheduler)


def main():
    torch.set_num_threads(1)
    alone = Run()
    alone.train(0, plain.BEFORE)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        alone.accelerator.save_state(str(folder / "before"))
        alone.train(plain.BEFORE, plain.STEPS)
        theirs = alone.arrays()
        meanwhile(folder / "before", folder / "meanwhile")
        resumed = Run()
        resumed.accelerator.load_state(str(folder / "meanwhile"))
    resumed.train(plain.BEFORE + plain.MEANWHILE, plain.STEPS)
    assert resumed.scheduler.get_last_lr() == alone.scheduler.get_last_lr()
    total, worst, where = distances.relative(resumed.arrays(), theirs)
    print(f"adamw float32 parameters: {total:.1e}, worst {worst:.1e} ({where})")


if __name__ == "__main__":
    main()
