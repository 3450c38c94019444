"""`convolve train --folds`: cross-validation in place of one training."""

import os
from pathlib import Path
from typing import Any

from convolve.cli.formatting import write_csv
from convolve.distributed.launcher import rank_info
from convolve.errors import UsageError
from convolve.outcome import Run
from convolve.recipe import Recipe


def train_folds(recipe: Recipe, folds: int, out: Path, **asked: Any) -> tuple[Run, str, dict[str, Any]]:
    """(the run on all images, the spread of the folds as text, and for JSON); the answers go to a table."""
    from convolve.atomic import write_json
    from convolve.cross_validation import cross_validate

    if rank_info(os.environ).size > 1:
        raise UsageError("--folds trains in one process; start it without a launcher")
    found = cross_validate(recipe, folds, out, **asked)
    table, summary = (out.with_name(f"{out.name}-folds{ending}") for ending in (".csv", ".json"))
    write_csv(table, found.rows())
    values = {"folds": folds, "error": found.error, "standard_deviation": found.deviation, "errors": found.errors}
    write_json(summary, values)
    each = ", ".join(f"{error:.2%}" for error in found.errors)
    said = (
        f"cross-validation: error {found.error:.2%}, of the {folds} folds {each}, standard deviation "
        f"{found.deviation:.2%}\nanswers {table}\n"
    )
    return found.run, said, {"cross_validation": values}
