"""Write the checkpoints beside this file; run it with torch 2.13.0 and no arguments."""

from pathlib import Path

import torch

FOLDER = Path(__file__).parent


def model(dtype=torch.float32):
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2, bias=False)
    ).to(dtype)


def train(network, optimizer, scheduler, steps=3):
    inputs = torch.randn(5, 3).to(network[0].weight.dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()
        scheduler.step()


def checkpoint(make_optimizer, make_scheduler, dtype=torch.float32):
    torch.manual_seed(0)
    network = model(dtype)
    optimizer = make_optimizer(network.parameters())
    scheduler = make_scheduler(optimizer)
    train(network, optimizer, scheduler)
    return {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": 3,
    }


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)


def milestones(optimizer):
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 1, 2])


def halving(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=1e-2)


def adagrad(parameters):
    return torch.optim.Adagrad(parameters, lr=0.1, lr_decay=1e-3)


def adamw(parameters):
    return torch.optim.AdamW(parameters, amsgrad=True)


CHECKPOINTS = {
    "sgd": lambda: checkpoint(sgd, cosine)["optimizer"],
    "adagrad": lambda: checkpoint(adagrad, cosine)["optimizer"],
    "training_sgd": lambda: checkpoint(sgd, cosine),
    "training_adagrad": lambda: checkpoint(adagrad, halving),
    "training_adamw_bfloat16": lambda: checkpoint(adamw, milestones, torch.bfloat16),
}

if __name__ == "__main__":
    for name, make in CHECKPOINTS.items():
        torch.save(make(), FOLDER / f"{name}.pt")
