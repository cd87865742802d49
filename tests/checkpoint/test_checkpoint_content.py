"""What was loaded does not change with the file, and cannot kill the process."""

import os
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
from checkpoint_tools import assert_equal

from torchwise.checkpoint import CheckpointError, content, load, save

SUFFIXES = [".pt", ".safetensors"]
VALUE = {"a": np.arange(50_000.0), "b": [np.ones(3, np.int8), np.zeros((0, 2))], "c": 1}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_written_into_does_not_change_what_was_loaded(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    save(path, VALUE)
    loaded = load(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert_equal(loaded, VALUE)
    path.write_bytes(b"")  # a mapped file would end the process here
    assert_equal(loaded, VALUE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mapped_file_is_not_read(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    save(path, VALUE)
    loaded = load(path, mmap=True)
    assert_equal(loaded, VALUE)
    position = path.read_bytes().index(np.arange(50_000.0)[1:9].tobytes())
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(np.full(1, 7.0).tobytes())
    assert loaded["a"][1] == 7


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays_are_read_only(tmp_path, suffix, mmap):
    path = tmp_path / f"file{suffix}"
    save(path, VALUE)
    array = load(path, mmap=mmap)["a"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_file_stays_open(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    save(path, VALUE)

    def kept_by(count, **options):
        before = set(os.listdir("/proc/self/fd"))
        kept = [load(path, **options) for _ in range(count)]
        return len(kept) and len(set(os.listdir("/proc/self/fd")) - before)

    assert kept_by(5) == 0
    assert kept_by(5, mmap=True) == (0 if sys.version_info >= (3, 13) else 5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [3, None])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, suffix, size):
    path = tmp_path / f"file{suffix}"
    save(path, VALUE)
    old = path.read_bytes()
    read = content.ReadContent.storage

    def storage(self, *arguments):
        path.write_bytes(old[:size])
        os.utime(path, ns=(0, 12345))  # clocks of file systems tick slowly
        return read(self, *arguments)

    monkeypatch.setattr(content.ReadContent, "storage", storage)
    with pytest.raises(CheckpointError, match=r"file\.\w+: was changed while it was being read"):
        load(path)


def test_a_reader_beside_a_writer_sees_whole_files(tmp_path):
    path = tmp_path / "file.pt"
    torch.save([torch.full((20_000,), 0.0)] * 2, path)
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            torch.save(
                [torch.full((20_000,), float(number)), torch.full((9,), float(number))], path
            )

    writer = threading.Thread(target=write)
    writer.start()
    outcomes = {"whole": 0, "refused": 0}
    try:
        for _ in range(300):
            try:
                arrays = load(path)
            except CheckpointError:
                outcomes["refused"] += 1
            else:
                assert {float(x) for array in arrays for x in (array.min(), array.max())} == {
                    float(arrays[0][0])
                }
                outcomes["whole"] += 1
    finally:
        stop.set()
        writer.join()
    print(outcomes)
    assert sum(outcomes.values()) == 300


def test_checksums_of_storages_are_compared_where_they_are_read(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"weight": torch.arange(4.0)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(np.arange(4, dtype="f4").tobytes(), b"\1" * 16))
    with pytest.raises(CheckpointError, match=r"at \['weight'\]: is damaged: .* data/0 differs"):
        load(path)
    assert load(path, mmap=True)["weight"][0] != 0
    with torch.serialization.skip_data():  # without checksums, since the data comes later
        torch.save({"weight": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("file/data/0").CRC == 0
    assert load(path)["weight"].shape == (4,)
