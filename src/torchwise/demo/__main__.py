"""The command line: what is trained, the table and the figure. `training.py` is the code to copy.

Arguments and packages are checked before anything is imported that needs them.
"""

import argparse
import contextlib
import importlib.util
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torchwise.demo.training import History, ParamsOnHost, Trainer

TORCHWISE = "torchwise"
STATEFUL = "torchwise.optim"
TORCH = "torch"
TRANSPLANTED = "torchwise on torch's gradients"
_PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "tqdm": "tqdm"}
_WARM_UP_EPOCHS = 1  # it compiles
_COLORS = {"sgd": "#0072b2", "adagrad": "#d55e00"}  # told apart by colour-blind readers as well
_LINES: dict[str, dict[str, Any]] = {
    # Curves of one optimizer may coincide: each line leaves the one below visible.
    TORCHWISE: {"linewidth": 2, "marker": "o", "markersize": 4},
    STATEFUL: {"linewidth": 1.5, "linestyle": "--", "color": "#f0e442", "zorder": 3},
    TORCH: {"linewidth": 2, "linestyle": ":", "color": "black", "zorder": 3},
}


class Outcome(NamedTuple):
    """What came of one optimizer.

    Attributes:
        name: of the optimizer.
        histories: by library.
        transplanted: of torch's network moved by torchwise, if torch was asked for.
    """

    name: str
    histories: "dict[str, History]"
    transplanted: "History | None"


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
    outcomes = _run(arguments)
    _draw(outcomes, arguments.figure)
    print(_text(outcomes))
    print(f"Figure: {arguments.figure}")


def _run(arguments: argparse.Namespace) -> list[Outcome]:
    """Train with each optimizer in each library; all see the same weights and batches."""
    from tqdm import tqdm

    from torchwise.demo import training

    digits = training.load()
    params = training.initialize(arguments.seed)
    trainings = len(training.TRANSFORMS) * (1 + arguments.stateful + 2 * arguments.compare_torch)
    steps = trainings * arguments.epochs * training.batches_per_epoch(digits.train)
    outcomes = []
    with contextlib.ExitStack() as stack:
        if arguments.compare_torch:
            from torchwise.demo import torch_comparison

            stack.enter_context(torch_comparison.comparable())
        bar = stack.enter_context(tqdm(total=steps, unit="step"))
        for name in training.TRANSFORMS:
            histories = {}
            for library, trainer in _trainers(name, params, arguments).items():
                bar.set_description(f"{name}, {library}")
                histories[library] = training.train(
                    trainer, digits, arguments.epochs, arguments.seed, advance=bar.update
                )
            outcomes.append(Outcome(name, histories, histories.pop(TRANSPLANTED, None)))
    return outcomes


def _trainers(
    name: str, params: "ParamsOnHost", arguments: argparse.Namespace
) -> "dict[str, Trainer]":
    from torchwise.demo import training

    trainers: dict[str, Trainer] = {TORCHWISE: training.Functional(name, params)}
    if arguments.stateful:
        trainers[STATEFUL] = training.Stateful(name, params)
    if arguments.compare_torch:
        from torchwise.demo import torch_comparison

        trainers[TORCH] = torch_comparison.trainer(name, params)
        trainers[TRANSPLANTED] = torch_comparison.transplanted(name, params)
    return trainers


def _text(outcomes: Sequence[Outcome]) -> str:
    """Return the table and what it means."""
    header = ["optimizer", "library", "test accuracy", "ms per step"]
    notes = ["ms per step: whole training step, median of all epochs but the first"]
    if TORCH in outcomes[0].histories:
        header += ["speed ratio", "last diff.", "max diff."]
        notes += [
            "speed ratio: torch's time over this one's; both on the CPU, torch on one thread",
            "diff.: largest absolute difference of any parameter from torch's, after an epoch",
        ]
    rows = [
        _row(outcome.name, library, outcome.histories)
        for outcome in outcomes
        for library in outcome.histories
    ]
    verdicts = [verdict for outcome in outcomes for verdict in _verdicts(outcome)]
    return "\n".join([*_aligned([header, *rows]), "", *notes, *verdicts])


def _verdicts(outcome: Outcome) -> Iterator[str]:
    """Say how far apart trainings are that should end in the same parameters."""
    histories = outcome.histories
    if STATEFUL in histories:
        distance = max(_differences(histories[STATEFUL], histories[TORCHWISE]))
        how_far = f"within {distance:.1e}" if distance else "to the bit"
        yield f"{outcome.name}: torchwise.optim reaches the parameters of torchwise {how_far}"
    if outcome.transplanted is not None:
        # Without the gradients' rounding: what is left is torch's square root in Adagrad, which
        # is not correctly rounded on every CPU.
        distance = max(_differences(outcome.transplanted, histories[TORCH]))
        yield f"{outcome.name}: fed with torch's gradients, torchwise " + (
            f"stays within {distance:.1e} of torch"
            if distance
            else "equals torch to the bit; the gradients' rounding differs"
        )


def _row(name: str, library: str, histories: "Mapping[str, History]") -> list[str]:
    history = histories[library]
    row = [name, library, f"{history.accuracy:.1%}", f"{_milliseconds(history):.3f}"]
    if TORCH not in histories:
        return row
    row.append(f"{_milliseconds(histories[TORCH]) / _milliseconds(history):.2f}")
    if library == TORCH:
        return [*row, "-", "-"]
    distances = _differences(history, histories[TORCH])
    return [*row, f"{distances[-1]:.1e}", f"{max(distances):.1e}"]


def _milliseconds(history: "History") -> float:
    return 1e3 * statistics.median(history.seconds[_WARM_UP_EPOCHS:] or history.seconds)


def _differences(history: "History", other: "History") -> list[float]:
    """Return the largest absolute difference of any parameter, after each epoch."""
    return [
        max(float(np.max(np.abs(ours[name] - theirs[name]))) for name in ours)
        for ours, theirs in zip(history.params, other.params, strict=True)
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose first two columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if position < 2 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a PNG with the loss curves and, if torch was trained as well, the distance from it."""
    from matplotlib.figure import Figure

    compared = TORCH in outcomes[0].histories
    panels = 2 if compared else 1
    figure = Figure(figsize=(5.6 * panels, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    losses, distances = [], []
    for outcome in outcomes:
        for library, history in outcome.histories.items():
            curve = f"{library} {outcome.name}", _line(outcome.name, library)
            losses.append((history.losses, *curve))
            if compared and library != TORCH:
                distances.append((_differences(history, outcome.histories[TORCH]), *curve))
    _panel(axes[0], losses, "Training loss on the digits", "mean cross entropy of the epoch (nats)")
    if compared:
        title = "Difference from torch after each epoch"
        _panel(axes[1], distances, title, "largest absolute difference of a parameter")
    figure.savefig(path, format="png")


def _line(name: str, library: str) -> dict[str, Any]:
    return {"color": _COLORS[name], **_LINES[library]}


def _panel(axes: Any, curves: Sequence[tuple[Any, ...]], title: str, quantity: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for values, label, line in curves:
        axes.plot(range(1, len(values) + 1), values, label=label, **line)
    axes.set(title=title, xlabel="epoch", ylabel=quantity, yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


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
        help="also train through torchwise.optim, from the same weights on the same batches; "
        "report how far its parameters are from those of the pure transforms",
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
