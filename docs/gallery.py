"""Trains what gallery.md shows: real reports, their pictures, and what the commands said.

    make gallery FLOWERS=photos-flowers/ MNIST=mnist/

FLOWERS: a folder with the parts train/ and val/ of TensorFlow's flower_photos. The photographs are their makers', so
that the page shows none of them. MNIST: the folder with its four files. The pictures need Chromium and Pillow. All
of it takes some five minutes of one core.

Each page and picture says which convolve made it (`stamp`); tests/test_pages.py compares that with the one at hand.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
FOLDER, PAGE = ROOT / "docs" / "gallery", ROOT / "docs" / "gallery.md"
CNTK_MODEL = ROOT / "tests" / "golden" / "cntk" / "digits.model"
PLACE = re.compile(r"(<!-- gallery: ([\w-]+) -->\n).*?(<!-- end of gallery -->)", re.DOTALL)
PHOTOGRAPH = re.compile(r"data:image/jpeg;base64,[\w+/=]+")
# A gray square for a photograph that is not ours.
_SQUARE = "<svg xmlns='http://www.w3.org/2000/svg'><rect width='100%' height='100%' fill='#888'/></svg>"
NO_PHOTOGRAPH = f"data:image/svg+xml,{quote(_SQUARE)}"
WIDTH, HEIGHT = 760, 1000  # of a picture, in pixels


@dataclass(frozen=True)
class Piece:
    """One row of the gallery: commands, the last of which leaves the run `run`."""

    run: str
    commands: tuple[str, ...]
    photographs: bool = False


PIECES = {
    "photos": Piece("runs/photos", ("convolve train photos --data flowers/ --set model.plan=head",), photographs=True),
    "mnist-fast": Piece("runs/mnist-fast", ("convolve train mnist-fast --data mnist/",)),
    "cntk": Piece(
        "runs/rescued",
        (
            "convolve show digits.model",
            "convolve evaluate digits.model --data mnist/",
            "convolve convert digits.model --to onnx --out digits.onnx",
            "convolve train mnist --from digits.model --data mnist/ --epochs 3 --out runs/rescued",
        ),
    ),
}


def stamp(version: str = "") -> str:
    """Which convolve, and which sections its report has: a report of other sections makes the gallery stale."""
    version = version or tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    report = ROOT / "src" / "convolve" / "report"
    titles = re.findall(r"<h[123]>.*?</h[123]>", "".join(path.read_text() for path in sorted(report.glob("*.html"))))
    return f"convolve {version}, report {hashlib.sha256(''.join(titles).encode()).hexdigest()[:8]}"


def stale(version: str = "") -> list[str]:
    """The pages and pictures that another convolve made, or that are not there."""
    files = [FOLDER / f"{name}{ending}" for name in PIECES for ending in (".html", ".png")]
    now = stamp(version).encode()
    return [file.name for file in files if not file.is_file() or now not in file.read_bytes()]


def make(name: str, piece: Piece, work: Path) -> str:
    """Train one piece in `work` and put its report and picture into the gallery; returns what the commands said."""
    transcript = []
    # Not the user's cache: with the features of an earlier run in it, the time would be another.
    environment = os.environ | {"CONVOLVE_CACHE": str(work / "cache")}
    for command in piece.commands:
        words = [sys.executable, "-m", *shlex.split(command)]
        said = subprocess.run(words, cwd=work, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        transcript += [f"$ {command}", *said.rstrip().splitlines()]
    report = (work / piece.run / "report.html").read_text(encoding="utf-8")
    if piece.photographs:
        report = PHOTOGRAPH.sub(NO_PHOTOGRAPH, report)
    page = FOLDER / f"{name}.html"
    generator = f'<meta name="generator" content="{stamp()}">'
    page.write_text(report.replace("<head>", f"<head>\n{generator}", 1), encoding="utf-8")
    picture(page, page.with_suffix(".png"))
    return "\n".join(transcript)


def picture(page: Path, png: Path) -> None:
    """The top of a page, in 64 colors, with the stamp in its metadata."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("the pictures need Chromium (Debian's package chromium)")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        subprocess.run([browser, *flags, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
        about = PngInfo()
        about.add_text("Software", stamp())
        Image.open(shot).convert("RGB").quantize(64).save(png, optimize=True, pnginfo=about)


def rewritten(text: str, transcripts: dict[str, str]) -> str:
    """The page with what the commands said, of those pieces that were made."""

    def transcript(place: re.Match[str]) -> str:
        opening, name, end = place.groups()
        return f"{opening}\n```text\n{transcripts[name]}\n```\n\n{end}" if name in transcripts else place[0]

    return PLACE.sub(transcript, text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train what docs/gallery.md shows.")
    parser.add_argument("--flowers", type=Path, help="the folder of photographs")
    parser.add_argument("--mnist", type=Path, help="the folder of MNIST's files")
    parser.add_argument("--only", choices=PIECES, action="append", help="this piece; repeatable")
    given = parser.parse_args()
    transcripts = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copy(CNTK_MODEL, work)
        for name, source in (("flowers", given.flowers), ("mnist", given.mnist)):
            if source:
                (work / name).symlink_to(source.resolve())
        for name, piece in PIECES.items():
            if name in (given.only or PIECES):
                transcripts[name] = make(name, piece, work)
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), transcripts), encoding="utf-8")


if __name__ == "__main__":
    main()
