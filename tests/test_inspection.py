"""What `torchwise inspect` folds, which optimizers it names, and what it says to programs."""

import json

import numpy as np
import pytest
import torch

from torchwise import cli
from torchwise.checkpoint import Name, Record
from torchwise.inspection import describe, describe_as_json, json_form
from torchwise.inspection.optimizer_names import optimizer_name
from torchwise.inspection.values import shown

TORCHS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and kind is not torch.optim.Optimizer
}


def saved(kind, options=None, **added):
    """The group and the keys of the state that a torch optimizer writes."""
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = kind([weight], lr=0.1, **(options or {}))
    weight.grad = torch.ones(3, 2)
    if kind is torch.optim.SparseAdam:
        weight.grad = weight.grad.to_sparse()
    if kind is torch.optim.LBFGS:
        optimizer.step(weight.sum)
    else:
        optimizer.step()
    written = optimizer.state_dict()
    return {**written["param_groups"][0], **added}, {*written["state"].get(0, ())}


@pytest.mark.parametrize("name", TORCHS)
def test_every_optimizer_of_torch_has_its_name(name):
    group, keys = saved(TORCHS[name])
    assert optimizer_name(group, keys) == name
    assert optimizer_name(group, ()) == name
    assert optimizer_name({**group, "initial_lr": 0.1, "max_lr": 1.0}, keys) == name
    assert optimizer_name({**group, "lr_scale": 0.5}, keys) in (name, None)


def test_others_are_unknown_or_several():
    old = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "params": [0]}
    assert optimizer_name({**old, "amsgrad": False}, ()) == "Adam or AdamW"
    assert optimizer_name({**old, "amsgrad": False, "trust": 1}, ()) is None
    assert optimizer_name(old, {"exp_avg", "exp_avg_var"}) is None
    assert optimizer_name({"params": [0], "lr": 0.1, "rho": 1}, ()) is None


def loops():
    """As Lightning writes them."""
    counts = {"ready": 1, "completed": 1, "started": 1, "processed": 1}
    progress = {"total": counts.copy(), "current": counts.copy()}
    return {
        f"{name}_loop": {
            "state_dict": {},
            "epoch_loop.batch_progress": {**json.loads(json.dumps(progress)), "is_last": True},
            "epoch_progress": json.loads(json.dumps(progress)),
        }
        for name in ("fit", "validate", "test", "predict")
    }


def test_long_parts_without_tensors_are_folded():
    config = {"model": {"layers": {"width": 3, "heads": 4}}, "lr": 0.1}
    value = {"w": np.ones(2), "loops": loops(), "config": config, "vocabulary": {}}
    value["vocabulary"] = {f"t{i}": i for i in range(100)}
    value["history"] = [{"loss": float(i)} for i in range(100)]
    lines = list(describe(value))
    assert lines[2:6] == [
        "  w     (2,)   float64  1.41421",
        "loops: 72 values, folded (--all shows them): fit_loop, validate_loop, test_loop, "
        "predict_loop",
        "config.model.layers.width: 3",
        "config.model.layers.heads: 4",
    ]
    assert lines[7:9] == ["vocabulary.t0: 0", "vocabulary.t1: 1"]
    assert "vocabulary.t19: 19" in lines
    assert "vocabulary.t20: 20" not in lines
    assert "vocabulary: and 80 more values (--all shows them)" in lines
    assert lines[-1] == "history: and 80 more values (--all shows them)"
    everything = list(describe(value, fold=False))
    assert "loops.predict_loop.epoch_progress.current.processed: 1" in everything
    assert len(everything) == 3 + 72 + 3 + 100 + 100


def test_what_holds_a_tensor_is_not_folded():
    deep = loops()
    deep["test_loop"]["epoch_progress"]["total"]["best"] = np.ones((2, 2))
    lines = list(describe({"loops": deep}))
    assert any(line.split()[:1] == ["best"] for line in lines)
    states = [{"w": np.ones(2) * i} for i in range(60)]
    assert sum(line.endswith("1 tensor") for line in describe(states)) == 60


def test_long_lists_of_numbers_are_shown_by_their_ends():
    assert shown(list(range(1000))) == "1000 numbers, 0, 1, ..., 999"
    assert shown([0.5, 1]) == "[0.5, 1]"
    assert shown([True] * 30).startswith("[True, True")
    assert len(shown([10**600] * 30)) < 200


def test_parameters_have_names_and_shapes_where_the_file_has_them():
    names = {"state": {}, "param_groups": [{"lr": 0.1, "params": ["a.w", "b"], "rest": 1}]}
    lines = list(describe({"model": {"a.w": np.ones((2, 3), np.float16)}, "optimizer": names}))
    assert lines[-3:] == [
        "  id   name  shape   dtype",
        "  a.w  a.w   (2, 3)  float16",
        "  b    b     -       -",
    ]
    # Two models have a tensor of this name.
    value = {"one": {"a.w": np.ones(2)}, "two": {"a.w": np.ones(3)}, "optimizer": names}
    assert list(describe(value))[-2].split() == ["a.w", "a.w", "-", "-"]
    value = {"state": {7: {"x": 1}, 0: {}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    assert list(describe(value))[-1] == "state of 1 id in no group: 7"


def test_groups_that_are_alike_are_told_once():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, (0.1, 0.1, 0.5))]
    written = torch.optim.SGD(groups, lr=1.0).state_dict()
    lines = list(describe(written))
    assert lines.count("  as in group 0") == 1
    start = lines.index("group 2: SGD, 1 parameter")
    assert lines[start + 1 : start + 3] == ["  lr = 0.5", "  the rest as in group 0"]


@pytest.fixture
def trained(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.25)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    value = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "loops": loops(),
        "best": float("inf"),
        "history": [1, (None, "x")],
        0: torch.tensor(2.0),
    }
    torch.save(value, tmp_path / "run.pt")
    return tmp_path / "run.pt", value


def test_json_says_everything(trained, capsys):
    path, value = trained
    assert cli.main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["file"], found["complete"]) == (1, str(path), True)
    by_kind = {}
    for entry in found["entries"]:
        by_kind.setdefault(entry["kind"], []).append(entry)
    (top, model), (optimizer,), (group,) = (
        by_kind[kind] for kind in ("tensors", "optimizer", "group")
    )
    assert top == {
        "kind": "tensors",
        "path": [],
        "tensors": [{"name": 0, "shape": [], "dtype": "float32", "value": 2.0, "norm": 2.0}],
    }
    weight = model["tensors"][0]
    assert (model["path"], weight["name"], weight["shape"]) == (["model"], "weight", [2, 3])
    assert weight["norm"] == pytest.approx(float(value["model"]["weight"].norm()))
    assert optimizer == {
        "kind": "optimizer",
        "path": ["optimizer"],
        "groups": 1,
        "ids_in_no_group": [],
    }
    assert (group["optimizer"], group["index"]) == ("AdamW", 0)
    assert group["options"]["betas"] == [0.9, 0.999]
    first = group["parameters"][0]
    assert (first["id"], first["name"], first["shape"]) == (0, "weight", [2, 3])
    assert first["state"]["step"]["value"] == 1.0
    assert first["state"]["exp_avg"]["shape"] == [2, 3]
    values = {tuple(entry["path"]): entry for entry in by_kind["value"]}
    assert values["best",]["value"] == "inf"
    assert values["history", 1]["value"] == [None, "x"]
    assert len(values) == 72 + 1 + 2


def test_json_ends_where_a_file_says_too_much(monkeypatch):
    monkeypatch.setattr(json_form, "_MAX_CHARACTERS", 1000)
    text = "".join(describe_as_json({f"k{i}": i for i in range(100)}, "a.pt"))
    found = json.loads(text)
    assert not found["complete"]
    assert 5 < len(found["entries"]) < 20


def test_json_of_what_is_shared_stays_small():
    shared = ["x" * 100] * 100
    entry = {f"key{i}": shared for i in range(100)}
    ids = list(range(1000))
    group = {"params": ids, "lr": 0.1, "long": ["x" * 100] * 100}
    value = {"state": dict.fromkeys(ids, entry), "param_groups": [group] * 100}
    text = "".join(describe_as_json(value, "a.pt"))
    assert len(text) < 400_000
    groups = [one for one in json.loads(text)["entries"] if one["kind"] == "group"]
    assert groups[1] == {"kind": "group", "path": [], "index": 1, "as": 0}
    assert groups[0]["options"]["long"]["length"] == 100
    assert groups[0]["parameters"][1]["state"] == {"as": 0}


def test_all_and_json_are_options(trained, capsys):
    path, _ = trained
    assert cli.main(["inspect", str(path)]) == 0
    assert "loops: 72 values, folded" in capsys.readouterr().out
    assert cli.main(["inspect", str(path), "--all"]) == 0
    assert "loops.test_loop.epoch_progress.total.ready: 1" in capsys.readouterr().out


def test_records_and_modules_in_json():
    args = Record(Name("argparse", "Namespace"), (), "new", state={"lr": 0.1})
    path = Record(Name("pathlib", "PosixPath"), ("runs", "one"))
    document = json.loads("".join(describe_as_json({"args": args, "path": path}, "x")))
    assert document["entries"] == [
        {"kind": "record", "path": ["args"], "class": "argparse.Namespace", "parts": 1},
        {"kind": "value", "path": ["args", "lr"], "type": "float", "value": 0.1},
        {
            "kind": "value",
            "path": ["path"],
            "type": "pathlib.PosixPath",
            "value": "pathlib.PosixPath('runs', 'one')",
        },
    ]
