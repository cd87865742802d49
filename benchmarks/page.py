"""Write `docs/performance.md` and its figures from the measurements in `benchmarks/results`.

Run it from anywhere, after `step.py` and `scaling.py`. Whatever result is missing is missing on the
page.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import figure

_HERE = Path(__file__).parent
_OURS = {
    "torchwise": "functional",
    "torchwise update": "functional, update",
    "torchwise.optim": "stateful",
}
_HEAD = """---
search:
  boost: 0.0001
description: "The time and the memory of a step in torchwise, optax and torch, measured."
---

# Performance

<!-- Written by benchmarks/page.py. Edit that file, and measure again. -->

Times of one optimizer step, or of one training step where the workload says "train", measured in
one process: all peers take turns, in an order drawn anew in every round, and a ratio is the median
of the rounds' ratios. `torchwise` is the pure `transform.step`, jitted with donated buffers, and
`torchwise update` the same with `update` and `optax.apply_updates`; `torchwise.optim` is stateful;
optax is the chain that comes closest. How it is measured in detail is in `benchmarks/README.md`.

```sh
python benchmarks/step.py --out benchmarks/results
python benchmarks/scaling.py --out benchmarks/results
python benchmarks/page.py
```

An update does a few operations for every number that it reads, so memory sets its time. The limit
counts the bytes that must move, in float32 12 for a parameter and 8 for each number of its state,
over the speed at which one large array is read and written in place on the same machine. Small
workloads stay in caches, and can be below it.

In the rows "train", forward and backward take most of the time: where optax is level with torchwise
and torch is not, it is the model's code that differs. A step of many small arrays is the runtime's
work, a microsecond or more for every array that goes in and comes out, whoever updates it.

On CPU, XLA gives a kernel one output, so parameters and state take two passes over memory. `step`
makes both passes strip by strip where a model has several large parameters (see
[Design](design.md)); `update` cannot, since optax adds its result to the parameters later.
"""
_NOTHING = """
Nothing has been measured for this version yet.
"""

Result = dict[str, Any]
Rows = Sequence[dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> None:
    """Read the results that there are, write the page, draw its figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--results", type=Path, default=_HERE / "results")
    parser.add_argument("--page", type=Path, default=_HERE.parent / "docs" / "performance.md")
    arguments = parser.parse_args(argv)
    figures = arguments.page.with_suffix("")
    figures.mkdir(exist_ok=True)
    lines = [_HEAD]
    for file in sorted(arguments.results.glob("step*.json"), key=lambda file: file.stem):
        result = _read(file)
        picture = figures / f"{file.stem}.png"
        figure.draw_steps(result["rows"], picture)
        lines += _section(result, f"{figures.name}/{picture.name}")
    growth = arguments.results / "scaling.json"
    if growth.exists():
        result = _read(growth)
        figure.draw_growth(result["rows"], figures / "scaling.png")
        lines += _growth(result, f"{figures.name}/scaling.png")
    text = "\n".join(lines) if len(lines) > 1 else _HEAD + _NOTHING
    arguments.page.write_text(text.rstrip() + "\n")


def _read(file: Path) -> Result:
    result = json.loads(file.read_text())
    for row in result["rows"]:
        if "optimizer" not in row:  # measured before the key had this name
            row["optimizer"] = row["recipe"]
    return result


def _section(result: Result, picture: str) -> Iterator[str]:
    environment, rows = result["environment"], result["rows"]
    flags = " ".join(value for value in environment["flags"].values() if value)
    yield f"## {environment['device']}, {environment['date'][:10]}\n"
    yield from _machine(environment, flags)
    yield "### At a glance\n"
    yield "How many times as long as torchwise the others take: the least of all optimizers, and"
    yield "the most. Below 1, the other is faster.\n"
    yield from _glance(rows)
    yield f"\n![Time of a step by workload, optimizer and peer]({picture})\n"
    yield "### Compilation and memory\n"
    yield "The most of all optimizers, for the step alone; temporaries as a share of the parameters"
    yield "(a number takes 64 bytes, so that small arrays with dampening reach some per cent).\n"
    yield from _compilation(rows)
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        yield f"\n### {optimizer}\n"
        yield from _table([row for row in rows if row["optimizer"] == optimizer])
    yield ""


def _machine(environment: dict[str, Any], flags: str) -> Iterator[str]:
    versions = environment["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield f"{environment['processor']}, {environment['cores']} cores; {known}."
    yield f"Load {environment['load']:.1f}."
    yield f"Flags: `{flags}`.\n" if flags else ""


def _glance(rows: Rows) -> Iterator[str]:
    names = [name for name in _names(rows) if name not in _OURS]
    yield f"| workload | torchwise | {' | '.join(names)} |"
    yield f"| --- | --- |{' --- |' * len(names)}"
    for workload in dict.fromkeys(row["workload"] for row in rows):
        chosen = [row for row in rows if row["workload"] == workload]
        for ours, way in _OURS.items():
            if any(ours in row["ratios"] for row in chosen):
                cells = [_range(chosen, ours, name) for name in names]
                yield f"| {workload} | {way} | {' | '.join(cells)} |"


def _range(rows: Rows, ours: str, name: str) -> str:
    ratios = {
        row["optimizer"]: row["ratios"][ours][name]
        for row in rows
        if name in row["ratios"].get(ours, {})
    }
    if not ratios:
        return ""
    least = min(ratios, key=ratios.__getitem__)
    return f"{ratios[least]:.2f} ({least}) to {max(ratios.values()):.2f}"


def _compilation(rows: Rows) -> Iterator[str]:
    yield "| workload | seconds to compile | times optax's | temporaries | optax's |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    steps = [row for row in rows if row["limit_milliseconds"]]  # the rest have a model in them
    for workload in dict.fromkeys(row["workload"] for row in steps):
        found = [
            (row["elements"], row["peers"]["torchwise"], row["peers"].get("optax"))
            for row in steps
            if row["workload"] == workload
        ]
        seconds = max(ours["compile_seconds"] for _, ours, _ in found)
        ratio = max(
            ours["compile_seconds"] / theirs["compile_seconds"]
            for _, ours, theirs in found
            if theirs
        )
        shares = [_largest(found, side) for side in (1, 2)]
        yield f"| {workload} | {seconds:.2f} | {ratio:.2f} | {' | '.join(shares)} |"


def _largest(found: Sequence[tuple[Any, ...]], side: int) -> str:
    share = max(one[side]["temporary_bytes"] / (4 * one[0]) for one in found if one[side])
    return f"{100 * share:.2f} %"


def _table(rows: Rows) -> Iterator[str]:
    names = _names(rows)
    yield f"| ms | {' | '.join(names)} | limit |"
    yield f"| --- |{' ---: |' * (len(names) + 1)}"
    for row in rows:
        cells = [_cell(row, name) for name in names]
        limit = row["limit_milliseconds"]
        cells.append("" if limit is None else _short(limit))
        yield f"| {row['workload']} | {' | '.join(cells)} |"


def _growth(result: Result, picture: str) -> Iterator[str]:
    rows = result["rows"]
    yield f"## Growth: {rows[0]['optimizer']}\n"
    yield "With the number of arrays of 16 x 16, and with the elements of one array.\n"
    yield f"![Time of a step and of compilation by arrays and elements]({picture})\n"
    names = _names(rows)
    yield f"| ms | {' | '.join(names)} | compile s | optax compile s |"
    yield f"| --- |{' ---: |' * (len(names) + 2)}"
    for row in rows:
        size = f"{row['arrays']:,} arrays" if row["axis"] == "arrays" else f"{row['elements']:,}"
        cells = [_cell(row, name) for name in names]
        cells += [f"{row['peers'][name]['compile_seconds']:.2f}" for name in ("torchwise", "optax")]
        yield f"| {size} | {' | '.join(cells)} |"


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["peers"]))


def _cell(row: dict[str, Any], name: str) -> str:
    """The median, and how many times as long as `torchwise`."""
    if name not in row["peers"]:
        return ""
    time = _short(row["peers"][name]["milliseconds"]["median"])
    ratio = row["ratios"]["torchwise"].get(name)
    return time if ratio is None else f"{time} ({ratio:.2f} x)"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.3g}" if milliseconds < 100 else f"{milliseconds:.0f}"


if __name__ == "__main__":
    main()
