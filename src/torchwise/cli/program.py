"""Running a command, and what its errors and signals become."""

import signal
import sys
from collections.abc import Sequence

from torchwise.cli.parser import parser
from torchwise.signals import Stopped, code_of, stopped_by

_TROUBLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those of the process, unless given.

    Returns:
        The exit code: 0; 1 where `diff` found a difference; 2 after an error, which is one line on
        standard error; or 128 plus the number of the signal that ended the command, as shells have
        it.
    """
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except (OSError, ValueError, TypeError) as error:
        return _fail(" ".join(str(error).split()))
    except MemoryError:
        return _fail(f"{options.file}: needs more memory than there is")
    except Stopped as stopped:
        return _stop(stopped.number)
    except KeyboardInterrupt:
        return _stop(signal.SIGINT)


def _fail(text: str) -> int:
    print(f"torchwise: error: {text}", file=sys.stderr)
    return _TROUBLE


def _stop(number: int) -> int:
    print(stopped_by(number), file=sys.stderr)
    return code_of(number)
