"""ConvNet_CIFAR10_DataAug with local response normalization in the network: about 13.8 % error.

    python ConvNetLRN_CIFAR10_DataAug.py [--data DIR] [--variant python|brainscript] [--epochs 80]

Normalization follows the second convolution of each pair; it has no parameters of its own.
"""

import argparse

import convolve
from convolve.errors import ConvolveError
from convolve.run import resolve


def print_progress(event: str, values: dict[str, float]) -> None:
    if event == "download":
        print(f"{values['file']}: {values['done_bytes'] / values['size_bytes']:.0%}", end="\r")
    if event == "epoch":
        print(f"epoch {values['epoch']}: loss {values['train_loss']:.4f}, test error {values['test_error']:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10: a folder or an archive; without it, the usual places or a download")
    parser.add_argument("--variant", default="python", help="whose network: python (pooling pads) or brainscript")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--out", default="runs/ConvNetLRN_CIFAR10_DataAug", help="run folder; goes on if unfinished")
    parser.add_argument("--restart", action="store_true", help="start over")
    options = vars(parser.parse_args()) | {"progress": print_progress}
    recipe = resolve("cifar10-aug-lrn", {"model.variant": options.pop("variant")})
    run = convolve.train(recipe, **options)
    print(f"test error {run.result['test_error']:.2%}; see {convolve.write_report(run.folder.path)}")


if __name__ == "__main__":
    try:
        main()
    except ConvolveError as error:
        raise SystemExit(str(error)) from None
