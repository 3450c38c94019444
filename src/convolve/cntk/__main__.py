"""python -m convolve.cntk PROGRAM.py [its arguments]"""

import sys
from pathlib import Path

from convolve.cntk.launcher import run

if len(sys.argv) < 2:
    sys.exit("usage: python -m convolve.cntk PROGRAM.py [its arguments]")
run(Path(sys.argv[1]), sys.argv[2:])
