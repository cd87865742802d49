"""What the commands do."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torchwise.checkpoint as checkpoint
from torchwise.checkpoint.formats import format_of
from torchwise.cli.output import write_lines
from torchwise.cli.progress import Line, progress
from torchwise.comparison import Limits, compare, describe_difference, difference_as_json
from torchwise.comparison.leaves import leaves
from torchwise.inspection import describe, describe_as_json
from torchwise.signals import raising_at_signals


def inspect(options: argparse.Namespace) -> int:
    """Print what a file holds."""
    value, metadata = _load(options.file, options.mmap), checkpoint.metadata(options.file)
    with progress(f"looking at {options.file}", _size(options.file)) as line:
        if options.json:
            write_lines(_beside(line, describe_as_json(value, options.file, metadata)))
        else:
            write_lines(_beside(line, describe(value, metadata, fold=not options.all)))
    return 0


def diff(options: argparse.Namespace) -> int:
    """Print what differs between two files; return 1 if they are not equal within the limits."""
    limits = Limits(options.ulps, options.rtol, options.atol, options.ignore_types)
    if options.rows < 0:
        raise ValueError(f"--rows: {options.rows} is no number of rows: pass 0 or more")
    first = _leaves(options.file, options.mmap, options.under)
    second = _leaves(options.other, options.mmap, options.other_under)
    total = _size(options.file) + _size(options.other)
    with progress(f"comparing {options.file} and {options.other}", total):
        report = compare(first, second, limits)
    if options.json:
        lines = difference_as_json(report, options.file, options.other)
    else:
        histogram = options.histogram or sys.stdout.isatty()
        lines = describe_difference(report, rows=options.rows, histogram=histogram)
    write_lines(lines)
    return 0 if report.is_within else 1


def convert(options: argparse.Namespace) -> int:
    """Write a file in another format."""
    source, target = Path(options.file), Path(options.target)
    format_of(target)
    if target.exists() and source.samefile(target):
        raise ValueError(f"{target}: is the input, which is not overwritten")
    value = _load(source, options.mmap)
    try:
        with raising_at_signals(), progress(f"writing {target}", _size(source)):
            checkpoint.save(target, value, metadata=checkpoint.metadata(source))
    except (TypeError, ValueError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(f"{target}: ") else f"{target}: {text}") from None
    write_lines([f"{target}: {target.stat().st_size} bytes"])
    return 0


def _load(file: str | Path, mmap: bool) -> Any:
    with progress(f"reading {file}", _size(file)):
        return checkpoint.load(file, mmap=mmap, records=True)


def _leaves(file: str, mmap: bool, under: str) -> dict[str, Any]:
    value = _load(file, mmap)
    try:
        return leaves(value, under)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _size(file: str | Path) -> int:
    """Return how many bytes are to be read: those of a file, or of what is in a folder."""
    if os.path.isdir(file):
        return sum(one.stat().st_size for one in os.scandir(file) if one.is_file())
    return os.path.getsize(file) if os.path.isfile(file) else 0


def _beside(line: Line, lines: Iterable[str]) -> Iterator[str]:
    """Yield lines that are printed on the terminal that shows the progress."""
    for text in lines:
        line.erase()
        yield text
