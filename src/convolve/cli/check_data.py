"""convolve check-data"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from convolve.checking.check import Checked

_SHOWN = 20  # findings of one kind on the screen; --json has up to a thousand


def check_data(
    source: Annotated[
        Path,
        typer.Argument(
            help="What `train --data` takes: class folders, a map file, a CSV table, CTF text, IDX or CIFAR files."
        ),
    ],
    test: Annotated[
        Path | None, typer.Option(help="The test part, where SOURCE does not hold it.", metavar="SOURCE")
    ] = None,
    mean: Annotated[
        Path | None,
        typer.Option(help="A mean file to check. [default: *mean*.xml beside the images' list]", metavar="FILE"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0 takes every core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Find what is wrong with labelled images: damaged, missing, there twice, leaking, mislabelled.

    Each finding names file and line and says how to mend it. The exit code is 3 if there is any.

    Example: convolve check-data photos/train_map.txt --test photos/test_map.txt
    """
    from convolve.checking.check import check_data as check

    checked = check(source, test, mean, threads, _progress_lines())
    print(json.dumps(_as_json(checked), indent=2, ensure_ascii=False) if as_json else _text(checked))
    return 3 if checked.findings.counts else 0


def _progress_lines() -> Callable[[str, int, int], None]:
    """A line every ten seconds, on stderr."""
    from convolve.cli.progress import stderr_console

    console, last = stderr_console(), time.monotonic()

    def show(part: str, done: int, count: int) -> None:
        nonlocal last
        if time.monotonic() - last > 10:
            last = time.monotonic()
            console.print(f"{part} part: {done:,} of {count:,} images")

    return show


def _as_json(checked: Checked) -> dict[str, Any]:
    findings = checked.findings
    rows = [vars(finding) for _, found in findings.by_kind() for finding in found]
    return {"images": checked.images, "counts": dict(findings.counts), "findings": rows}


def _text(checked: Checked) -> str:
    from convolve.checking.finding import KINDS

    counts, lines = checked.findings.counts, []
    for kind, found in checked.findings.by_kind():
        lines += [f"{KINDS[kind]}: {counts[kind]:,}", *(f"  {finding}" for finding in found[:_SHOWN])]
        if counts[kind] > _SHOWN:
            lines.append(f"  and {counts[kind] - min(_SHOWN, len(found)):,} more (--json lists them)")
    images = " and ".join(f"{count:,} {name} images" for name, count in checked.images.items()) or "no images"
    return "\n".join([*lines, f"{images}: {sum(counts.values()):,} findings" if counts else f"{images}: nothing found"])
