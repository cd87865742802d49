"""The command line: look into checkpoints and convert them, without torch."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchwise import checkpoint
from torchwise.inspection import describe

_FAILURE = 2
_SUFFIXES = {".pt", ".pth", ".safetensors"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those of the process, unless given.

    Returns:
        The exit code: 0, or 2 after an error, which is one line on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        _print(options.run(options))
    except (OSError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        print(f"torchwise: error: {text}", file=sys.stderr)
        return _FAILURE
    return 0


def _inspect(options: argparse.Namespace) -> Iterable[str]:
    return describe(checkpoint.load(options.file))


def _convert(options: argparse.Namespace) -> Iterable[str]:
    source, target = Path(options.source), Path(options.target)
    if target.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{target}: the suffix is not one of {', '.join(sorted(_SUFFIXES))}")
    if target.exists() and source.samefile(target):
        raise ValueError(f"{target}: is the input, which is not overwritten")
    value = checkpoint.load(source)
    checkpoint.save(target, value)
    return [f"{target}: {target.stat().st_size} bytes"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchwise",
        description="Look into checkpoints of torch and safetensors and convert them. torch is not "
        "needed, and no code of a file is run.",
    )
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
    convert.add_argument("source", metavar="IN", help="a .pt, .pth or .safetensors file")
    convert.add_argument("target", metavar="OUT", help="the file to write; replaced if it exists")
    convert.set_defaults(run=_convert)
    return parser


def _print(lines: Iterable[str]) -> None:
    """Print, until the reader of a pipe has seen enough."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        for line in lines:
            print(line.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not raise again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
