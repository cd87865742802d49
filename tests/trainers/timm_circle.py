"""timm's checkpoint saver, 20 steps in JAX, `--resume`; and how far that is from torch alone.

Run `python tests/trainers/timm_circle.py` where timm is installed. timm imports torchvision, whose
wheels need the operators of a certain torch: where they are missing, empty ones stand in for them.
`train.py` is in no package; this calls what it calls to save and to resume.
"""

import pathlib
import tempfile

import distances
import plain
import torch

from torchwise import checkpoint

OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
try:
    import torchvision  # noqa: F401
except RuntimeError:
    for operator in ("nms", "qnms"):
        OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm.models  # noqa: E402
import timm.optim  # noqa: E402
import timm.utils  # noqa: E402


class Run:
    def __init__(self):
        self.model = plain.model()
        # Without decay for biases and norms: timm puts those first.
        self.optimizer = timm.optim.create_optimizer_v2(
            self.model, "adamw", lr=1e-2, weight_decay=0.1
        )

    def train(self, start, stop):
        x, y = plain.batches()
        for step in range(start, stop):
            self.optimizer.zero_grad()
            torch.nn.functional.mse_loss(self.model(x[step]), y[step]).backward()
            self.optimizer.step()

    def arrays(self):
        return {name: p.detach().numpy().copy() for name, p in self.model.named_parameters()}


def meanwhile(source, target):
    saved = checkpoint.load(source)
    names = list(saved["state_dict"])
    kept = [name for name in names if saved["state_dict"][name].ndim <= 1]
    groups = [kept, [name for name in names if name not in kept]]
    saved["state_dict"], saved["optimizer"], _ = plain.train_in_jax(
        saved["state_dict"], groups, saved["optimizer"]
    )
    saved["epoch"] += 2
    checkpoint.save(target, saved)


def main():
    torch.set_num_threads(1)
    alone = Run()
    alone.train(0, plain.BEFORE)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        saver = timm.utils.CheckpointSaver(
            alone.model, alone.optimizer, checkpoint_dir=str(folder), recovery_dir=str(folder)
        )
        saver.save_checkpoint(0, metric=1.0)
        alone.train(plain.BEFORE, plain.STEPS)
        meanwhile(folder / "last.pth.tar", folder / "meanwhile.pth.tar")
        resumed = Run()
        epoch = timm.models.resume_checkpoint(
            resumed.model, str(folder / "meanwhile.pth.tar"), resumed.optimizer
        )
    assert epoch == 3
    resumed.train(plain.BEFORE + plain.MEANWHILE, plain.STEPS)
    total, worst, where = distances.relative(resumed.arrays(), alone.arrays())
    print(f"adamw float32 parameters: {total:.1e}, worst {worst:.1e} ({where})")


if __name__ == "__main__":
    main()
