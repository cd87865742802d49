"""Make every figure of the documentation: `python docs/figures/make.py`. Needs the test extra."""

import runpy
from pathlib import Path


def main() -> None:
    """Run all the other scripts of this folder."""
    for script in sorted(Path(__file__).parent.glob("*.py")):
        if script.name != Path(__file__).name:
            print(script.name, flush=True)
            runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
