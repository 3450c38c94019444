"""CNTK's convolutional network for CIFAR-10 on today's stack, without augmentation: about 18 % error.

    python ConvNet_CIFAR10.py [--data DIR] [--variant python|brainscript] [--epochs 30]

Ten classes of photographs of 32x32 pixels; the images as they are, less 128.
"""

import argparse

import convolve
from convolve.errors import ConvolveError
from convolve.recipes import resolve


def print_progress(event: str, values: dict[str, float]) -> None:
    if event == "download":
        print(f"{values['file']}: {values['done_bytes'] / values['size_bytes']:.0%}", end="\r")
    if event == "epoch":
        print(f"epoch {values['epoch']}: loss {values['train_loss']:.4f}, test error {values['test_error']:.2%}")


def main(recipe: str, epochs: int, out: str, description: str | None) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10: a folder or an archive; without it, the usual places or a download")
    parser.add_argument("--variant", default="python", help="whose network: python (pooling pads) or brainscript")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--out", default=out, help="the run folder; an unfinished run there goes on")
    parser.add_argument("--restart", action="store_true", help="start over")
    options = vars(parser.parse_args()) | {"progress": print_progress, "report": convolve.write_report}
    settings = {"model.variant": options.pop("variant")}
    try:
        run = convolve.train(resolve(recipe, settings), **options)
    except ConvolveError as error:
        raise SystemExit(str(error)) from None
    print(f"test error {run.result['test_error']:.2%}; see {run.folder.path / 'report.html'}")


if __name__ == "__main__":
    main("cifar10", 30, "runs/ConvNet_CIFAR10", __doc__)
