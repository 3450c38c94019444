"""CNTK's first example on today's stack: a convolutional network for handwritten digits, about 0.5 % error.

    python ConvNet_MNIST.py [--data DIR] [--epochs 40]

Without MNIST on this machine and without a network to fetch it, it goes on with the 5,000 real digits of the package.
"""

import argparse

import convolve
from convolve.errors import ConvolveError, MissingDataError


def print_epoch(event: str, values: dict[str, float]) -> None:
    if event == "epoch":
        print(f"epoch {values['epoch']}: loss {values['train_loss']:.4f}, test error {values['test_error']:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder with MNIST (IDX or CTF files), or `sample`")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", default="runs/ConvNet_MNIST", help="the run folder; an unfinished run there goes on")
    parser.add_argument("--restart", action="store_true", help="start over")
    options = vars(parser.parse_args()) | {"progress": print_epoch, "report": convolve.write_report}
    try:
        run = convolve.train("mnist", **options)
    except MissingDataError as error:
        if options["data"]:
            raise
        print(f"{error}\n\n*** Going on with the sample: 4,000 training and 1,000 test digits, not MNIST. ***\n")
        run = convolve.train("mnist", **options | {"data": "sample"})
    print(f"test error {run.result['test_error']:.2%}; see {run.folder.path / 'report.html'}")


if __name__ == "__main__":
    try:
        main()
    except ConvolveError as error:
        raise SystemExit(str(error)) from None
