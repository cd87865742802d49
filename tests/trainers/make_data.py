"""Write the small checkpoints of trainers that the tests read, beside those of torch.

Run `python tests/trainers/make_data.py` in an environment with the `trainers` extra. What torch and
safetensors read of them is compared with what is read here, by
`tests/checkpoint/test_trainer_files.py`.
"""

import os
import pathlib
import shutil
import tempfile

import accelerate
import lightning
import plain
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import transformers
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

TARGET = pathlib.Path(__file__).parents[1] / "checkpoint" / "data" / "trainers"


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=8, n_positions=4, n_embd=4, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def hf_trainer(folder):
    """A folder of HF's Trainer; what is no plain data stays out, it is large."""
    rows = torch.randint(0, 8, (4, 4), generator=torch.Generator().manual_seed(1))
    arguments = transformers.TrainingArguments(
        str(folder / "run"),
        max_steps=2,
        save_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    data = [{"input_ids": row, "labels": row} for row in rows]
    transformers.Trainer(gpt2(), arguments, train_dataset=data).train()
    ignored = shutil.ignore_patterns("rng_state.pth", "training_args.bin")
    shutil.copytree(folder / "run" / "checkpoint-2", TARGET / "hf_trainer", ignore=ignored)


def hf_shards():
    """What `save_pretrained` writes of a model that is larger than a shard."""
    gpt2().save_pretrained(TARGET / "hf_shards", max_shard_size="0.6KB")


def accelerate_folder(folder):
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    for _ in range(3):
        optimizer.zero_grad()
        accelerator.backward(model(torch.randn(5, 3)).square().sum())
        optimizer.step()
        scheduler.step()
    accelerator.save_state(str(folder / "state"))
    ignored = shutil.ignore_patterns("random_states_0.pkl")
    shutil.copytree(folder / "state", TARGET / "accelerate", ignore=ignored)


class Module(lightning.LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(6, 2)

    def training_step(self, batch, _):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def lightning_file(folder):
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(folder, save_last=True)],
    )
    x, y = (value.reshape(-1, value.shape[-1])[:16] for value in plain.batches())
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 8))
    shutil.copy(folder / "last.ckpt", TARGET / "lightning.ckpt")


def shard(rank, target):
    """Save a model that FSDP2 has divided among two processes."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29555")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    biases, weights = ([p for p in model.parameters() if p.ndim == n] for n in (1, 2))
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    states, optimizer_states = get_state_dict(model, optimizer)
    history = [torch.arange(3.0), {"note": "text"}]
    value = {"model": states, "optim": optimizer_states, "epoch": 3, "history": history}
    dcp.save(value, checkpoint_id=target)
    dist.destroy_process_group()


def main():
    for name in ("hf_trainer", "hf_shards", "accelerate", "dcp"):
        shutil.rmtree(TARGET / name, ignore_errors=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    hf_shards()
    for make in (hf_trainer, accelerate_folder, lightning_file):
        with tempfile.TemporaryDirectory() as folder:
            make(pathlib.Path(folder))
    torch.multiprocessing.spawn(shard, (str(TARGET / "dcp"),), nprocs=2)


if __name__ == "__main__":
    main()
