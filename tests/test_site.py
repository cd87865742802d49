"""The documentation site: complete, and made by scripts."""

import inspect
import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest

import page
import torchwise
import torchwise.rules

ROOT = Path(__file__).parent.parent
MODULES = [
    torchwise,
    torchwise.optim,
    torchwise.optim.lr_scheduler,
    torchwise.schedules,
    torchwise.checkpoint,
]
REFERENCE = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.__name__)
def test_every_public_name_is_in_the_reference(module):
    documented = re.findall(r"^::: (\S+)", REFERENCE, re.MULTILINE)
    for name in module.__all__:
        whole = f"{module.__name__}.{name}"
        assert whole in documented or any(one.startswith(f"{whole}.") for one in documented), whole


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.__name__)
def test_every_public_name_has_an_example(module):
    for name in module.__all__:
        public = getattr(module, name)
        if not inspect.ismodule(public) and not inspect.isabstract(public):
            assert "Examples:" in inspect.getdoc(public), name


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    linked = re.findall(r"^ +- .*: (\S+\.md)$", text, re.MULTILINE)
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    pages |= {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    pages |= {"changelog.md", "contributing.md"}  # made of the files of the repository
    assert sorted(linked) == sorted(pages)


def test_the_readme_of_a_package_index_has_no_relative_links():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    readme = (ROOT / "README.md").read_text()
    for rule in tables["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        readme, found = re.subn(rule["pattern"], rule["replacement"], readme)
        assert found
    targets = re.findall(r"\]\(([^)]*)\)", readme)
    assert all(target.startswith("https://") for target in targets), targets
    assert "| optimizers | `sgd`" in readme


def test_every_page_says_what_it_is_about():
    for path in (ROOT / "docs").glob("*.md"):
        front = re.match(r"---\n(.*?)\n---\n", path.read_text(), re.DOTALL)
        assert front, path.name
        described = re.search(r'^description: "(.{40,160})"$', front[1], re.MULTILINE)
        assert described, path.name


def test_tables_have_headers():
    empty = re.compile(r"^\| +\|.*\n\|( *-+ *\|)+$", re.MULTILINE)
    for path in (*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")):
        assert not empty.search(path.read_text()), path.name


def test_every_optimizer_and_schedule_has_its_formula_and_its_code():
    optimizers = (ROOT / "docs" / "optimizers.md").read_text()
    for name in (*(rule.name for rule in torchwise.rules.RULES), "LBFGS"):
        section = optimizers.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert "$$" in section, name
        assert "<!-- code: " in section or name == "AdamW"  # whose code is Adam's
    schedulers = (ROOT / "docs" / "schedulers.md").read_text()
    for name in set(torchwise.schedules.__all__) - {"Schedule", "one_cycle_momentum"}:
        section = schedulers.split(f"\n### {name}\n")[1].split("\n### ")[0]
        assert "$$" in section, name
        assert "<!-- code: " in section, name


def test_code_on_pages_is_that_of_the_source():
    hook = runpy.run_path(str(ROOT / "docs" / "source_lines.py"))["on_page_markdown"]
    shown = hook("<!-- code: schedules.factors: Exponential.at -->")
    assert "return base * power(self.gamma, count)" in shown
    for name in ("optimizers.md", "schedulers.md"):
        assert "<!-- code" not in hook((ROOT / "docs" / name).read_text())
    with pytest.raises(LookupError, match=r"Exponential\.elsewhere"):
        hook("<!-- code: schedules.factors: Exponential.elsewhere -->")


def test_every_figure_has_its_script():
    figures = ROOT / "docs" / "figures"
    drawn = {path.stem for path in figures.glob("*.png")}
    assert drawn == {path.stem for path in figures.glob("*.py")} - {"make"}
    shown = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert all(f"figures/{name}.png" in shown for name in drawn)


def a_row(workload, ours, optax):
    def peer(median, temporaries):
        times = {"median": median, "lower": median, "upper": median}
        return {
            "milliseconds": times,
            "compile_seconds": median / 2,
            "temporary_bytes": temporaries,
        }

    return {
        "workload": workload,
        "optimizer": "sgd momentum",
        "arrays": 2,
        "elements": 100,
        "peers": {"torchwise": peer(ours, 0), "optax": peer(optax, 400)},
        "ratios": {"torchwise": {"optax": optax / ours}},
        "limit_milliseconds": 0.25,
    }


def test_the_page_of_measurements(tmp_path):
    environment = {
        "backend": "cpu",
        "device": "cpu",
        "date": "2026-01-02T03:04:05+00:00",
        "processor": "a processor",
        "cores": 2,
        "load": 0.5,
        "versions": {"jax": "0.10.2", "torch": None},
        "flags": {"XLA_FLAGS": ""},
    }
    rows = [a_row("faster", 1.0, 2.0), a_row("slower", 3.0, 1.5)]
    result = {"environment": environment, "rows": rows}
    (tmp_path / "step.json").write_text(json.dumps(result))
    grown = [a_row("by arrays", 1.0, 2.0) | {"axis": "arrays", "arrays": 1000}]
    (tmp_path / "scaling.json").write_text(json.dumps({**result, "rows": grown}))
    page.main(["--results", str(tmp_path), "--page", str(tmp_path / "page.md")])
    written = (tmp_path / "page.md").read_text()
    assert written.index("## In short: cpu, 2026-01-02") < written.index("## Details: cpu, 2026")
    assert "| faster | functional | 2.00 (sgd momentum) to 2.00 |" in written
    assert "| slower | functional | 0.50 (sgd momentum) to 0.50 |" in written
    assert "| faster | 0.50 | 0.50 | 0.00 % | 100.00 % |" in written
    assert "| faster | 1 | 2 (2.00 x) | 0.25 |" in written
    assert "| 1,000 | 1 | 2 (2.00 x) | 0.50 | 1.00 |" in written
    for name in re.findall(r"\]\((\S+\.png)\)", written):
        assert (tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert written.count(".png)") == 2


def test_the_page_without_measurements(tmp_path):
    page.main(["--results", str(tmp_path), "--page", str(tmp_path / "page.md")])
    assert "Nothing has been measured" in (tmp_path / "page.md").read_text()
