import io
import os
import socket
import stat

import numpy as np
import pytest
from checkpoint_tools import assert_equal, run_program

from torchwise.checkpoint import CheckpointError, atomic, load, save, temporary

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
    old, new, left = map(
        int, run_program("kill_while_saving.py", tmp_path, suffix, 50, SEED).split()
    )
    assert old + new == 50
    assert new > 0
    assert left <= 1  # that of the last


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_in_the_value_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    save(path, OLD)
    with pytest.raises(TypeError):
        save(path, {"a": np.ones(3), "b": range(1)})
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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file.pt"
    save(path, OLD)
    path.chmod(mode)
    save(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_secret_is_never_readable_under_the_other_name(tmp_path, monkeypatch):
    path, modes = tmp_path / "file.pt", []
    save(path, OLD)
    path.chmod(0o600)
    sync = os.fsync

    def fsync(descriptor):
        modes.extend(stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    save(path, NEW)
    assert set(modes) == {0o600}


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_keeps_its_owner_and_group(tmp_path):
    path = tmp_path / "file.pt"
    save(path, OLD)
    os.chown(path, 12, 34)
    path.chmod(0o640)
    save(path, NEW)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, 0o640)


def test_a_group_that_cannot_be_kept_loses_its_permissions(tmp_path, monkeypatch):
    path = tmp_path / "file.pt"
    save(path, OLD)
    path.chmod(0o664)
    real = os.fstat

    def fstat(descriptor):  # as if the new file had another group than the old
        fields = list(real(descriptor))
        fields[stat.ST_GID] += 1
        return os.stat_result(fields)

    def fchown(descriptor, owner, group):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(os, "fstat", fstat)
    save(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def not_files(folder):
    os.mkfifo(folder / "pipe.pt")
    (folder / "folder.pt").mkdir()
    (folder / "null.pt").symlink_to("/dev/null")
    (folder / "to_pipe.pt").symlink_to(folder / "pipe.pt")
    (folder / "loop.pt").symlink_to(folder / "loop.pt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.pt"))
    return {
        "pipe.pt": (CheckpointError, "is not a file, and is not replaced"),
        "null.pt": (CheckpointError, "null.pt: is not a file"),
        "to_pipe.pt": (CheckpointError, "to_pipe.pt: is not a file"),
        "socket.pt": (CheckpointError, "is not a file"),
        "loop.pt": (CheckpointError, "is a symbolic link to no file"),
        "folder.pt": (IsADirectoryError, "folder.pt"),
    }


def test_what_is_no_file_is_not_replaced(tmp_path):
    cases = not_files(tmp_path)
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    assert before.keys() == cases.keys()
    for name, (error, words) in cases.items():
        with pytest.raises(error, match=words):
            save(tmp_path / name, NEW)
    assert {path.name: path.lstat().st_mode for path in tmp_path.iterdir()} == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_to_a_file_that_is_not_there_yet_makes_it(tmp_path):
    (tmp_path / "link.pt").symlink_to(tmp_path / "new.pt")
    save(tmp_path / "link.pt", NEW)
    assert (tmp_path / "link.pt").is_symlink()
    assert_equal(load(tmp_path / "new.pt"), NEW)


def test_what_killed_processes_left_of_this_file_is_removed(tmp_path):
    path, other = tmp_path / "file.pt", tmp_path / "other.pt"
    left = [temporary.Temporary(str(path)) for _ in range(3)]
    of_other = temporary.Temporary(str(other))
    for one in (*left, of_other):
        os.close(one.open(0o600))
        one.release()  # as the system does for a process that was killed
    alive = temporary.Temporary(str(path))
    os.close(alive.open(0o600))
    strange = tmp_path / f".torchwise-{'0' * 16}.tmp"
    strange.touch()
    save(path, NEW)
    kept = {str(strange), of_other.path, alive.path, str(path)}
    assert set(map(str, tmp_path.iterdir())) == kept
    alive.release()


def test_a_writer_whose_new_file_was_taken_for_a_stale_one_makes_another(tmp_path, monkeypatch):
    path, taken = tmp_path / "file.pt", []
    flock = temporary.fcntl.flock

    def late(descriptor, operation):
        if not taken:  # somebody else is faster
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(temporary.fcntl, "flock", late)
    save(path, NEW)
    assert len(taken) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_the_disk_name_the_file_that_the_user_named(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.pt"
    link.symlink_to(tmp_path / "folder" / "real.pt")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(link, NEW)
    assert caught.value.filename == str(link)
    assert list((tmp_path / "folder").iterdir()) == []


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
