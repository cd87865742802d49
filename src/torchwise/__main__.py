"""`python -m torchwise` is the command line."""

import sys

from torchwise.cli import main

if __name__ == "__main__":
    sys.exit(main())
