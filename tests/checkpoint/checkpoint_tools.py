"""What the tests of this folder share."""

import io
import pickle
import re
import runpy
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from torchwise.checkpoint import CheckpointError, load

FOLDER = Path(__file__).parent
PROGRAMS = FOLDER / "programs"
SOURCE = FOLDER.parents[1] / "src"

CHECKPOINTS = runpy.run_path(str(FOLDER / "data" / "make.py"))["CHECKPOINTS"]
FLOATS = np.arange(4, dtype=np.float32).tobytes()

DTYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "complex128",
    "complex64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]


def elements(dtype):
    """A tensor of six elements with random bytes."""
    generator = torch.Generator().manual_seed(0)
    size = torch.empty((), dtype=getattr(torch, dtype)).element_size()
    limit = 2 if dtype == "bool" else 256
    raw = torch.randint(0, limit, (6 * size,), generator=generator, dtype=torch.uint8)
    return raw.view(getattr(torch, dtype)).reshape(2, 3)


def assert_same(ours, theirs):
    """Compare what we read with what torch has, element bytes included."""
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, np.ndarray)
        assert str(theirs.dtype) == f"torch.{ours.dtype.name}"
        assert ours.shape == tuple(theirs.shape)
        assert not ours.flags.writeable
        assert ours.flags.aligned
        flat = theirs.detach().contiguous().reshape(-1)
        assert ours.tobytes() == bytes(flat.view(torch.uint8).tolist())
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict)
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, list | tuple):
        assert isinstance(ours, type(theirs)) or type(ours) is tuple
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    else:
        assert type(ours) is type(theirs)
        assert repr(ours) == repr(theirs)


def assert_equal(left, right):
    """Compare two of our values: types, order of keys, bits of floats and elements."""
    if isinstance(right, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()
        return
    assert type(left) is type(right)
    if isinstance(right, dict):
        assert_equal(list(left), list(right))
        assert_equal(list(left.values()), list(right.values()))
    elif isinstance(right, list | tuple):
        assert len(left) == len(right)
        for x, y in zip(left, right, strict=True):
            assert_equal(x, y)
    else:
        assert repr(left) == repr(right)


def torch_bytes(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def zip_bytes(members, compression=zipfile.ZIP_STORED):
    """Zip of (name, bytes) pairs; a name may occur twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compression
            with archive.open(entry, "w") as member:
                member.write(data)
    return file.getvalue()


def pt_bytes(program, storages=(), top="archive"):
    """Checkpoint around a hand-made pickle, which gets its protocol and its end."""
    members = [("data.pkl", pickle.PROTO + b"\x02" + program + pickle.STOP)]
    members += [(f"data/{index}", data) for index, data in enumerate(storages)]
    return zip_bytes([(f"{top}/{name}", data) for name, data in members])


def safetensors_bytes(header, data=b""):
    """Safetensors file around a header in JSON text."""
    encoded = header.encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    if 0 <= value < 256:
        return pickle.BININT1 + bytes([value])
    length = value.bit_length() // 8 + 1
    return pickle.LONG1 + bytes([length]) + value.to_bytes(length, "little", signed=True)


def sequence(*items):
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def storage(kind="FloatStorage", key="0", count=4, module="torch", device="cpu"):
    device = text(device) if isinstance(device, str) else device
    parts = (text("storage"), name(module, kind), text(key), device, integer(count))
    return sequence(*parts) + pickle.BINPERSID


def tensor(stored=None, offset=0, shape=(4,), strides=(1,)):
    stored = storage() if stored is None else stored
    sizes, steps = (sequence(*map(integer, values)) for values in (shape, strides))
    arguments = sequence(
        stored,
        integer(offset),
        sizes,
        steps,
        pickle.NEWFALSE,
        name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def run_program(program, *arguments, timeout=120):
    """Run one of the programs beside the tests in a fresh interpreter; return what it prints."""
    finished = subprocess.run(
        [sys.executable, str(PROGRAMS / program), *map(str, arguments)],
        env={"PYTHONPATH": str(SOURCE), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def assert_refused(path, content, words):
    """Loading raises the one error, with the name of the file and a bounded text."""
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as refusal:
        load(path)
    named, _, reason = str(refusal.value).partition(": ")
    assert named == str(path)
    assert re.search(words, reason), reason
    assert len(reason) < 500
