"""Map files and class numbers for ILSVRC2012, as CNTK's readlabels.py writes them.

    python readlabels.py TRAIN VAL ANNOTATIONS [--order-from classmappings.txt] [--out DIR]

TRAIN has a folder for each class, VAL the validation images, ANNOTATIONS an XML file for each of these. Classes are
numbered by their WordNet IDs; CNTK's script took them as the folder listed them, which differs from machine to machine:
--order-from keeps the numbers of an old classmappings.txt.
"""

import argparse
from pathlib import Path

from convolve.errors import ConvolveError
from convolve.prepare.ilsvrc2012 import Places, write_maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--order-from", type=Path, help="a classmappings.txt, whichever way round its columns stand")
    parser.add_argument("--out", type=Path, default=Path(), help="where to write; the working folder by default")
    options = parser.parse_args()
    try:
        places = Places(options.train, options.val, options.annotations)
        for line in write_maps(places, options.out, options.order_from):
            print(line)
    except ConvolveError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
