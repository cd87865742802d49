"""The command line: arguments are checked before anything is trained."""

import argparse
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

_PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "tqdm": "tqdm"}


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the arguments say, print the table and draw the figure.

    Args:
        argv: the arguments; by default those of the process.

    Raises:
        SystemExit: with code 2 and a line on stderr, for wrong arguments and missing packages.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    _require_packages(parser, arguments.compare_torch)

    from torchwise.demo import experiment, figure, report

    outcomes = experiment.run(
        arguments.epochs,
        arguments.seed,
        stateful=arguments.stateful,
        compare_torch=arguments.compare_torch,
    )
    figure.draw(outcomes, arguments.figure)
    print(report.text(outcomes))
    print(f"Figure: {arguments.figure}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torchwise.demo",
        description="Train a small network on scikit-learn's handwritten digits with torchwise.sgd "
        "and torchwise.adagrad; print accuracy and time per step, and draw the loss curves.",
        epilog='Needs pip install "torchwise[demo]". A progress bar goes to stderr, '
        "the table to stdout.",
    )
    parser.add_argument(
        "--epochs",
        type=_positive,
        default=30,
        metavar="N",
        help="passes over the data (default: 30)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="of initial weights and minibatches (default: 0)"
    )
    parser.add_argument(
        "--figure",
        type=_png,
        default=Path("digits.png"),
        metavar="PATH",
        help="where the PNG goes (default: digits.png)",
    )
    parser.add_argument(
        "--stateful",
        action="store_true",
        help="also train through torchwise.optim, the stateful face, from the same weights on the "
        "same batches; report how far its parameters are from those of the pure transforms",
    )
    parser.add_argument(
        "--compare-torch",
        action="store_true",
        help="also train with torch.optim, from the same weights on the same batches, on the CPU; "
        "report the speed ratio and how far the parameters differ",
    )
    return parser


def _require_packages(parser: argparse.ArgumentParser, compare_torch: bool) -> None:
    missing = [_PACKAGES[name] for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        remedy = 'pip install "torchwise[demo]"'
        parser.exit(2, f"{parser.prog}: {', '.join(missing)} not installed: {remedy}\n")
    if compare_torch and importlib.util.find_spec("torch") is None:
        parser.exit(2, f"{parser.prog}: --compare-torch needs torch: pip install torch\n")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a non-negative integer, not {text!r}")
    return int(text)


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png: {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: '{path.parent}'")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"not writable: {text!r}")
    return path


if __name__ == "__main__":
    main()
