import io
import os
import stat

import numpy as np
import pytest
from checkpoint_tools import assert_equal, run_program

from torchwise.checkpoint import atomic, load, save

OLD = {"a": np.zeros(3), "b": [1, 2]}
NEW = {"a": np.ones((2, 50)), "b": {"c": np.ones(7, np.int8)}}
SUFFIXES = [".pt", ".safetensors"]
SEED = 20_260_922


class Disk:
    """Counts the calls that change a disk, and fails one of them."""

    def __init__(self, monkeypatch, failing):
        self.remaining = failing
        disk = self

        class File(io.BufferedRandom):
            def write(self, data):
                disk.count()
                return super().write(data)

        monkeypatch.setattr(atomic, "open", lambda fd, _: File(io.FileIO(fd, "w+")), raising=False)
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def count(self):
        self.remaining -= 1
        if self.remaining == -1:
            raise OSError(28, "No space left on device")

    def counted(self, function):
        def call(*arguments):
            self.count()
            return function(*arguments)

        return call


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_at_any_call_leaves_the_old_or_the_new_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"file{suffix}"
    found = []
    for failing in range(1000):
        save(path, OLD)
        with monkeypatch.context() as patch:
            disk = Disk(patch, failing)
            try:
                save(path, NEW)
            except OSError as error:
                failed = error.errno == 28
            else:
                failed = False
        assert list(tmp_path.iterdir()) == [path]
        content = load(path)
        found.append("a" in content and content["a"].ndim == 2)
        assert_equal(content, NEW if found[-1] else OLD)
        if disk.remaining >= 0:
            break
        assert failed
    # Only a failure to sync the folder comes after the new file has its name.
    assert found == [False] * (len(found) - 2) + [True, True]
    assert len(found) > 4


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    calls = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *x, n=name, f=function: (calls.append(n), f(*x)))
    save(tmp_path / "file.pt", OLD)
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file(tmp_path, suffix):
    print(f"seed {SEED}")
    old, new, _ = map(int, run_program("kill_while_saving.py", tmp_path, suffix, 50, SEED).split())
    assert old + new == 50
    assert new > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_in_the_value_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    save(path, OLD)
    with pytest.raises(TypeError):
        save(path, {"a": np.ones(3), "b": {1}})
    assert_equal(load(path), OLD)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save(tmp_path / "file.pt", OLD)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.pt").stat().st_mode) == mode


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "real.pt", tmp_path / "latest.pt"
    save(target, OLD)
    link.symlink_to(target)
    save(link, NEW)
    assert link.is_symlink()
    assert_equal(load(target), NEW)


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "a" * 252 + ".pt"
    save(path, OLD)
    assert_equal(load(path), OLD)
