"""The commands and their options."""

import argparse

from torchwise import __version__
from torchwise.cli import commands

_FILE = "a .pt, .ckpt, .safetensors, ... file, a checkpoint folder, or an index of shards"


def parser() -> argparse.ArgumentParser:
    """Return the parser; what it returns has the command's function under `run`."""
    made = argparse.ArgumentParser(
        prog="torchwise",
        description="Look into checkpoints of torch and safetensors, compare and convert them. "
        "torch is not needed, and no code of a file is run.",
    )
    made.add_argument("--version", action="version", version=f"torchwise {__version__}")
    added = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for one in (_inspect(added), _diff(added), _convert(added)):
        one.add_argument(
            "--mmap",
            action="store_true",
            help="map the file in place of reading it: for one that is larger than memory, and "
            "into which nobody writes meanwhile",
        )
    return made


def _inspect(added: argparse._SubParsersAction) -> argparse.ArgumentParser:
    one = added.add_parser(
        "inspect",
        help="print what a checkpoint holds",
        description="Print the groups, hyperparameters and parameters of optimizers, and names, "
        "shapes, types and L2 norms of tensors. Optimizers and models are found at any depth.",
    )
    one.add_argument("file", metavar="FILE", help=_FILE)
    one.add_argument("--all", action="store_true", help="fold nothing")
    one.add_argument("--json", action="store_true", help="print JSON, which folds nothing")
    one.set_defaults(run=commands.inspect)
    return one


def _diff(added: argparse._SubParsersAction) -> argparse.ArgumentParser:
    one = added.add_parser(
        "diff",
        help="compare two checkpoints",
        description="Compare two checkpoints by the names of their tensors, in any two formats: "
        "what is missing, what has another shape or type, and how far the elements are apart, the "
        "furthest first. An element is within the limits if it is within one of them; integers, "
        "booleans and texts have to be equal.",
        epilog="The exit code is 0 if all is within the limits, 1 if not, 2 in case of trouble.",
    )
    one.add_argument("file", metavar="A", help=_FILE)
    one.add_argument("other", metavar="B", help=_FILE)
    one.add_argument(
        "--ulps", type=int, default=0, metavar="N", help="steps from float to float, of their type"
    )
    one.add_argument(
        "--rtol", type=float, default=0.0, metavar="R", help="a distance relative to the larger one"
    )
    one.add_argument("--atol", type=float, default=0.0, metavar="D", help="a distance")
    one.add_argument(
        "--ignore-types",
        action="store_true",
        help="compare floats of two types, the finer rounded to the coarser; and integers of two",
    )
    one.add_argument("--under", default="", metavar="KEY", help="compare this part of A")
    one.add_argument(
        "--other-under", default="", metavar="KEY", help="compare it with this part of B"
    )
    one.add_argument("--rows", type=int, default=20, metavar="N", help="of a table (default: 20)")
    one.add_argument(
        "--histogram", action="store_true", help="show it even if the output is no terminal"
    )
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(run=commands.diff)
    return one


def _convert(added: argparse._SubParsersAction) -> argparse.ArgumentParser:
    one = added.add_parser(
        "convert",
        help="write a checkpoint in another format",
        description="Write a checkpoint in the format of the new file's suffix. Nothing is lost: "
        "a .safetensors file keeps the structure, numbers and strings in its metadata.",
    )
    one.add_argument("file", metavar="IN", help=_FILE)
    one.add_argument("target", metavar="OUT", help="the file to write; replaced if it exists")
    one.set_defaults(run=commands.convert)
    return one
