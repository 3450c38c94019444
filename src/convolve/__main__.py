"""`python -m convolve`, and what torchrun starts."""

import sys

from convolve.cli import main

if __name__ == "__main__":
    sys.exit(main())
