"""Write `docs/performance.md` from the measurements in `benchmarks/results`.

Run it from anywhere, after `python benchmarks/step.py --out benchmarks/results`. Whatever result is
missing is missing on the page.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_OURS = ("torchwise", "torchwise.optim")
_HEAD = """# Performance

<!-- Written by benchmarks/page.py. Edit that file, and measure again. -->

Times of one optimizer step, or of one training step where the workload says "train", measured in
one process: all peers take turns, in an order drawn anew in every round, and a ratio is the median
of the rounds' ratios. `torchwise` is the functional face, jitted with donated buffers;
`torchwise.optim` is the stateful one; optax is the chain that comes closest. How it is measured in
detail is in `benchmarks/README.md`.

```sh
python benchmarks/step.py --out benchmarks/results
python benchmarks/page.py
```

An update does a few operations for every number that it reads, so memory sets its time. The limit
counts the bytes that must move, 12 for a parameter without state and 20 with it in float32, over
the speed at which one large array is read and written in place on the same machine. Small
workloads stay in caches, and can be below it.
"""
_NOTHING = """
Nothing has been measured for this version yet.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Read the results that there are, and write the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--results", type=Path, default=_HERE / "results")
    parser.add_argument("--page", type=Path, default=_HERE.parent / "docs" / "performance.md")
    arguments = parser.parse_args(argv)
    files = sorted(arguments.results.glob("step*.json"))
    arguments.page.write_text(page([json.loads(file.read_text()) for file in files]))


def page(results: Sequence[dict[str, Any]]) -> str:
    """Return the page; one section for every machine."""
    if not results:
        return _HEAD + _NOTHING
    return "\n".join([_HEAD, *(line for result in results for line in _section(result))]) + "\n"


def _section(result: dict[str, Any]) -> Iterator[str]:
    environment = result["environment"]
    versions = environment["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    flags = " ".join(value for value in environment["flags"].values() if value)
    yield f"## {environment['device']}, {environment['date'][:10]}\n"
    yield f"{environment['processor']}, {environment['cores']} cores; {known}."
    yield f"Load {environment['load']:.1f}, where more than 1 means that others were at work."
    yield f"Flags: `{flags}`.\n" if flags else ""
    for recipe in dict.fromkeys(row["recipe"] for row in result["rows"]):
        yield f"### {recipe}\n"
        yield from _table([row for row in result["rows"] if row["recipe"] == recipe])
        yield ""
    yield from _lost(result["rows"])


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row["peers"]))
    yield f"| ms | {' | '.join(names)} | limit |"
    yield f"| --- |{' ---: |' * (len(names) + 1)}"
    for row in rows:
        cells = [_cell(row, name) for name in names]
        limit = row["limit_milliseconds"]
        cells.append("" if limit is None else _short(limit))
        yield f"| {row['workload']} | {' | '.join(cells)} |"


def _cell(row: dict[str, Any], name: str) -> str:
    """The median, and how many times as long as the functional face."""
    if name not in row["peers"]:
        return ""
    time = _short(row["peers"][name]["milliseconds"]["median"])
    ratio = row["ratios"][_OURS[0]].get(name)
    return time if ratio is None else f"{time} ({ratio:.2f} x)"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.3g}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _lost(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a reader would look for first: where torchwise is slower than a peer."""
    lost = [
        f"- {row['workload']}, {row['recipe']}: "
        f"`{ours}` takes {1 / ratio:.2f} times as long as {peer}."
        for row in rows
        for ours in _OURS
        for peer, ratio in row["ratios"].get(ours, {}).items()
        if ratio * 1.02 < 1
    ]
    yield "### Where torchwise is slower than a peer by more than 2 %\n"
    yield from lost or ["Nowhere."]


if __name__ == "__main__":
    main()
