"""Writes the pages and the reference of the Python functions as HTML, without a network.

    python docs/pages.py [FOLDER]     default: build/docs

index.html and one file a page, made of README.md and the .md files beside this one; api/ made of the docstrings by pdoc
(extra `docs`).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from html import escape
from pathlib import Path

import markdown2
import pdoc

import convolve

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
EXTRAS = ["fenced-code-blocks", "tables", "header-ids", "cuddled-lists"]
# What people import, with all modules below; the rest of the house is for reading in its files.
MODULES = (
    "convolve", "convolve.recipe", "convolve.recipes", "convolve.transforms", "convolve.models", "convolve.formats",
    "convolve.data.table", "convolve.data.ctf_table", "convolve.training.optimizers", "convolve.training.schedule",
    "convolve.graph", "convolve.importers", "convolve.distributed", "convolve.errors",
)  # fmt: skip
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="stylesheet" href="page.css">
</head>
<body>
<nav><a href="index.html">all pages</a> <a href="readme.html">readme</a> <a href="api/convolve.html">reference</a></nav>
<main>
{body}
</main>
</body>
</html>
"""


def write_site(folder: Path) -> None:
    """Write everything into `folder`, over what an earlier run left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in (*ROOT.glob("*.md"), *DOCS.glob("*.md")):
        (folder / _html_name(source)).write_text(html(source, folder), encoding="utf-8")
    for file in (DOCS / "page.css", *DOCS.glob("*.png")):
        shutil.copy(file, folder / file.name)
    for name in convolve.__all__:  # they are imported when they are asked for; pdoc looks at what is there
        setattr(convolve, name, getattr(convolve, name))
    pdoc.pdoc(*MODULES, output_directory=folder / "api")


def html(source: Path, folder: Path) -> str:
    """The page `source` for `folder`; its tables can be moved sideways on a narrow screen."""
    text = source.read_text(encoding="utf-8")
    plain = re.sub(r"^```(\w+) .+$", r"```\1", text, flags=re.MULTILINE)  # a fence may name the file that it is
    body = str(markdown2.markdown(plain, extras=EXTRAS))
    body = re.sub(r"<table>.*?</table>", r'<div class="wide">\g<0></div>', body, flags=re.DOTALL)

    def link(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        if target.parent in (ROOT, DOCS) and target.suffix == ".md":
            return f'{match[1]}="{_html_name(target)}'
        if target.parent == DOCS and target.suffix == ".png":
            return f'{match[1]}="{target.name}'
        return f'{match[1]}="{os.path.relpath(target, folder)}'

    body = re.sub(r'(href|src)="(?!https?:|#)([^"#]+)', link, body)
    title = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), source.stem)
    return FRAME.format(title=escape(title), body=body)


def _html_name(page: Path) -> str:
    return f"{page.stem.lower()}.html"


if __name__ == "__main__":
    write_site(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs")
