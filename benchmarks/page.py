"""Write `docs/performance.md` and its figures from the measurements in `benchmarks/results`.

Run it from anywhere, after `step.py`, `flax_step.py`, `others.py` and `scaling.py`. Whatever result
is missing is missing on the page.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bars
import figure
import growth
import tables
import verdict

_HERE = Path(__file__).parent
_HEAD = """---
search:
  boost: 0.0001
description: "The time and the memory of a step in torchwise, optax and torch, measured."
---

# Performance

<!-- Written by benchmarks/page.py. Edit that file, and measure again. -->
"""
_HOW = """## How it is measured

Times are those of one optimizer step, or of one training step where the workload says "train". All
peers take turns in one process, in an order drawn anew in every round. A ratio is theirs over ours
in the same round, and its median over the rounds: above 1, torchwise is faster.

`torchwise` is the pure `transform.step`, jitted with donated buffers: alone with
`whole_program=True`, and in the rows "train" as a part of the program. `torchwise update` is the
same with `update` and `optax.apply_updates`; `torchwise.optim` is stateful. `optax` is the chain
that comes closest, and is missing where there is none. Muon takes matrices alone: where a workload
has other arrays, they are left out.

The limit counts the bytes that must move, in float32 12 for a parameter and 8 for each number of
its state, over the speed at which one large array is read and written in place on the same machine.
Small workloads stay in caches, and can be below it. `benchmarks/README.md` says more.

```sh
python benchmarks/step.py --out benchmarks/results
python benchmarks/flax_step.py --out benchmarks/results
python benchmarks/others.py --out benchmarks/results
python benchmarks/scaling.py --out benchmarks/results
python benchmarks/page.py
```
"""
_NOTHING = """
Nothing has been measured for this version yet.
"""
_FLAX = """## AdamW in a training step of Flax

A transformer in Flax, jitted whole, with `torchwise.adamw` in the place of `optax.adamw`. The
second optax says how far a ratio may be from 1 by chance.
"""

Result = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Read the results that there are, write the page, draw its figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--results", type=Path, default=_HERE / "results")
    parser.add_argument("--page", type=Path, default=_HERE.parent / "docs" / "performance.md")
    arguments = parser.parse_args(argv)
    figures = arguments.page.with_suffix("")
    figures.mkdir(exist_ok=True)
    lines = list(_lines(arguments.results, figures))
    text = "\n".join([_HEAD, *lines]) if lines else _HEAD + _NOTHING
    arguments.page.write_text(text.rstrip() + "\n")


def _lines(folder: Path, figures: Path) -> Iterator[str]:
    files = sorted(folder.glob("step*.json"), key=lambda file: file.stem)
    steps = {file.stem: _read(file) for file in files}
    flax, others, scaling = (
        _read(folder / f"{name}.json") for name in ("flax", "others", "scaling")
    )
    for stem, result in steps.items():
        yield from _verdict(result, flax["rows"] if stem == "step" and flax else ())
    if steps:
        yield _HOW
    for stem, result in steps.items():
        figure.draw_steps(result["rows"], figures / f"{stem}.png")
        yield from _section(result, f"{figures.name}/{stem}.png")
    for result, head in ((flax, _FLAX), (others, "## SparseAdam and L-BFGS\n")):
        if result:
            yield head
            yield from tables.times(result["rows"])
    if scaling:
        figure.draw_growth(scaling["rows"], figures / "scaling.png")
        yield from growth.section(scaling, f"{figures.name}/scaling.png")


def _read(file: Path) -> Result | None:
    result = json.loads(file.read_text()) if file.exists() else None
    return result if result and result["rows"] else None


def _verdict(result: Result, flax_rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    environment, rows = result["environment"], result["rows"]
    found = bars.bars(rows, flax_rows)
    yield f"## In short: {_place(environment)}\n"
    yield verdict.sentences(rows, found) + "\n"
    yield "For every peer, in how many cells torchwise is faster / level / slower, and the range of"
    yield "the ratios (theirs over ours, the median over the rounds):\n"
    yield from verdict.table(rows)
    yield "\nWhat sets these times:\n"
    yield from verdict.reasons(rows, environment["backend"])
    yield "\n### Against the project's bars\n"
    yield "Times are those of the pure `step` where `torchwise.optim` is not named. Large models"
    yield "have 25 million parameters and more. Ratios count as rounded to two digits.\n"
    yield from verdict.bar_table(found)
    yield ""


def _section(result: Result, picture: str) -> Iterator[str]:
    environment, rows = result["environment"], result["rows"]
    yield f"## Details: {_place(environment)}\n"
    yield from _machine(result)
    yield "### At a glance\n"
    yield "How many times as long as torchwise the others take: the least of all optimizers, and"
    yield "the most. Below 1, the other is faster.\n"
    yield from tables.glance(rows)
    yield f"\n![Time of a step by workload, optimizer and peer]({picture})\n"
    yield "### Compilation and memory\n"
    yield "The most of all optimizers, for the step alone; temporaries as a share of the parameters"
    yield "(a number takes 64 bytes, so that small arrays with dampening reach some per cent).\n"
    yield from tables.compilation(rows)
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        yield f"\n### {optimizer}\n"
        yield from tables.times([row for row in rows if row["optimizer"] == optimizer])
    yield ""


def _place(environment: dict[str, Any]) -> str:
    return f"{environment['device']}, {environment['date'][:10]}"


def _machine(result: Result) -> Iterator[str]:
    environment = result["environment"]
    flags = " ".join(value for value in environment["flags"].values() if value)
    versions = environment["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    runs = result.get("runs") or [environment]
    yield f"{environment['processor']}, {environment['cores']} cores; {known}."
    yield f"Load before each run: {tables.loads(runs)}."
    yield f"Flags: `{flags}`.\n" if flags else ""


if __name__ == "__main__":
    main()
