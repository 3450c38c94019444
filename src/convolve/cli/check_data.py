"""convolve check-data"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from convolve.cli.formatting import counted
from convolve.cli.options import AsJson, Options, choices, with_data_options
from convolve.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from convolve.checking.check import Checked
    from convolve.data.team import Team

_SHOWN = 20  # findings of each kind that are printed; --json lists up to a thousand


@with_data_options
def check_data(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="The images, as for `train --data`: a folder for each class, a map file, a CSV table, CTF, IDX or "
            "CIFAR files.",
        ),
    ],
    test: Annotated[
        Path | None, typer.Option(help="The test images, if SOURCE does not contain them.", metavar="SOURCE")
    ] = None,
    from_model: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Also find labels that are probably wrong, and images that belong to no class, with this trained "
            "network: a run on these images, for example.",
            metavar="MODEL",
        ),
    ] = None,
    mean: Annotated[
        Path | None,
        typer.Option(help="The mean image to check. [default: *mean*.xml beside SOURCE]", metavar="FILE"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that shows the findings with their pictures.", metavar="FILE")
    ] = None,
    write_table: Annotated[
        Path | None,
        typer.Option(help="Write a CSV table of the images without faults, for `train --data`.", metavar="FILE"),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="What a label says: one class, several classes, or a number.", **choices("class|classes|number")
        ),
    ] = "class",
    threads: Annotated[int, typer.Option(min=0, metavar="N", help="Number of processor threads. 0: all cores.")] = 0,
    as_json: AsJson = False,
    *,
    options: Options,
) -> int:
    """Find faults in labeled images.

    Reports damaged, missing, duplicate and mislabeled images, test images that are also training images, and images
    that are dark, blurred or unlike the others. Each finding names the file and the line, and how to fix it. The exit
    code is 3 if there are any.

    Example: convolve check-data photos/train_map.txt --test photos/test_map.txt --html page.html
    """
    from convolve.distributed.parts import open_team
    from convolve.formats.table import TargetName

    if target not in get_args(TargetName):
        raise UsageError(f"--target: {unknown_name('target', target, get_args(TargetName))}")
    options = replace(options, target=target)  # type: ignore[arg-type]  # we have looked
    with open_team() as team:
        checked = _checked((source, test, mean), from_model, threads or team.threads, options, team)
        print(json.dumps(_as_json(checked), indent=2, ensure_ascii=False) if as_json else _text(checked))
        if write_table and team.rank == 0:
            from convolve.checking.clean_table import clean_rows
            from convolve.cli.formatting import write_csv

            write_csv(write_table, clean_rows(checked, write_table))
        if html and team.rank == 0:
            from convolve.report.data_page import write_data_page

            write_data_page(checked, source.expanduser(), html)
    return 3 if checked.findings.total and team.rank == 0 else 0


def _checked(
    places: tuple[Path, Path | None, Path | None], from_model: Path | None, threads: int, options: Options, team: Team
) -> Checked:
    """(findings of images, test images and mean image) that this process, or this worker of a team, makes."""
    from convolve.checking.check import check_data as check
    from convolve.cli.progress import check_lines

    model = None
    if from_model:
        from convolve.loading import load

        model = load(from_model)

    return check(*places, threads, check_lines(), options=options, model=model, team=team)


def _as_json(checked: Checked) -> dict[str, Any]:
    findings = checked.findings
    rows = [
        {name: getattr(finding, name) for name in ("kind", "place", "what", "mend")}
        for _, found in findings.by_kind()
        for finding in found
    ]
    return {
        "images": checked.images,
        "passed_over": checked.passed_over,
        "counts": dict(findings.counts),
        "findings": rows,
    }


def _text(checked: Checked) -> str:
    from convolve.checking.finding import KINDS, Level

    counts, lines = checked.findings.counts, []
    for kind, found in checked.findings.by_kind():
        lines.append(f"{KINDS[kind].title}: {counts[kind]:,}")
        shown = found[:_SHOWN] if KINDS[kind].level is not Level.NOTE else found[:1]
        lines += [f"  {finding}" for finding in shown]
        if counts[kind] > len(shown):
            lines.append(f"  and {counts[kind] - len(shown):,} more (--json lists them)")
    images = " and ".join(counted(count, f"{name} image") for name, count in checked.images.items()) or "no images"
    images += f"; {checked.passed_over}" if checked.passed_over else ""
    total = checked.findings.total
    return "\n".join([*lines, f"{images}: {counted(total, 'finding') if total else 'nothing found'}"])
