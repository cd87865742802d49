"""`python -m torchwise` and the program `torchwise`: the command line as a process of its own."""

import signal
import sys

# Until `run` says something better: no traceback, should Ctrl-C come while modules are imported.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from torchwise.signals import end_at_signals


def run() -> None:
    """Run the command line and end the process; a signal ends it at any time without a traceback.

    All that takes time to import is imported once signals are looked out for.
    """
    end_at_signals()
    from torchwise.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
