"""The command line: look into checkpoints and convert them, without torch."""

import argparse
import contextlib
import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torchwise import checkpoint
from torchwise.inspection import describe

_FAILURE = 2
_SUFFIXES = {".pt", ".pth", ".safetensors"}
_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # by name: not every system has all


class _Stopped(BaseException):
    """A signal asked the process to end: what is on the way up cleans up behind itself."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those of the process, unless given.

    Returns:
        The exit code: 0; 2 after an error, which is one line on standard error; or 128 plus the
        number of the signal that ended the command, as shells have it.
    """
    options = _parser().parse_args(arguments)
    try:
        with _raising_at_signals():
            _print(options.run(options))
    except (OSError, ValueError, TypeError) as error:
        return _fail(" ".join(str(error).split()))
    except MemoryError:
        return _fail(f"{options.file}: needs more memory than there is")
    except _Stopped as stopped:
        print(f"torchwise: stopped by {signal.Signals(stopped.number).name}", file=sys.stderr)
        return 128 + stopped.number
    return 0


def _fail(text: str) -> int:
    print(f"torchwise: error: {text}", file=sys.stderr)
    return _FAILURE


@contextlib.contextmanager
def _raising_at_signals() -> Iterator[None]:
    """Turn the signals that end a process into an exception, once; ignored ones stay ignored."""
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, _: Any) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)  # a second one must not disturb the cleaning up
        raise _Stopped(number)

    if threading.current_thread() is threading.main_thread():  # others may not set handlers
        for name in _STOPPING:
            one = getattr(signal, name, None)
            if one is not None and signal.getsignal(one) is not signal.SIG_IGN:
                before[one] = signal.getsignal(one)
    try:
        for one in before:
            signal.signal(one, stop)
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _inspect(options: argparse.Namespace) -> Iterable[str]:
    return describe(checkpoint.load(options.file, mmap=options.mmap))


def _convert(options: argparse.Namespace) -> Iterable[str]:
    source, target = Path(options.file), Path(options.target)
    if target.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{target}: the suffix is not one of {', '.join(sorted(_SUFFIXES))}")
    if target.exists() and source.samefile(target):
        raise ValueError(f"{target}: is the input, which is not overwritten")
    value = checkpoint.load(source, mmap=options.mmap)
    try:
        checkpoint.save(target, value)
    except (TypeError, ValueError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(f"{target}: ") else f"{target}: {text}") from None
    return [f"{target}: {target.stat().st_size} bytes"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchwise",
        description="Look into checkpoints of torch and safetensors and convert them. torch is not "
        "needed, and no code of a file is run.",
    )
    parser.add_argument("--version", action="version", version=f"torchwise {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    inspect = commands.add_parser(
        "inspect",
        help="print what a checkpoint holds",
        description="Print the groups, hyperparameters and parameters of optimizers, and names, "
        "shapes, types and L2 norms of tensors. Optimizers and models are found at any depth.",
    )
    inspect.add_argument("file", metavar="FILE", help="a .pt, .pth or .safetensors file")
    inspect.set_defaults(run=_inspect)
    convert = commands.add_parser(
        "convert",
        help="write a checkpoint in another format",
        description="Write a checkpoint in the format of the new file's suffix. Nothing is lost: "
        "a .safetensors file keeps the structure, numbers and strings in its metadata.",
    )
    convert.add_argument("file", metavar="IN", help="a .pt, .pth or .safetensors file")
    convert.add_argument("target", metavar="OUT", help="the file to write; replaced if it exists")
    convert.set_defaults(run=_convert)
    for command in (inspect, convert):
        command.add_argument(
            "--mmap",
            action="store_true",
            help="map the file in place of reading it: for one that is larger than memory, and "
            "into which nobody writes meanwhile",
        )
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("torchwise")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _print(lines: Iterable[str]) -> None:
    """Print, until the reader of a pipe has seen enough.

    Raises:
        OSError: standard output cannot be written.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        for line in lines:
            print(line.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered must not raise again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


if __name__ == "__main__":
    sys.exit(main())
