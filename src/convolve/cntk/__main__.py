"""python -m convolve.cntk PROGRAM.py [its arguments]"""

import sys
from pathlib import Path

from convolve.cntk.launcher import run
from convolve.errors import ConvolveError

if len(sys.argv) < 2:
    sys.exit("usage: python -m convolve.cntk PROGRAM.py [its arguments]")
try:
    run(Path(sys.argv[1]), sys.argv[2:])
except ConvolveError as error:
    sys.stderr.writelines(f"{line}\n" for line in (*getattr(error, "lines", ()), error))
    sys.exit(error.exit_code)
