"""`convolve train --find-lr`: a search for the learning rate in place of a training."""

import json
import os
from pathlib import Path
from typing import Any

from convolve.distributed.launcher import rank_info
from convolve.errors import UsageError
from convolve.recipe import Recipe


def find_rate(recipe: Recipe, folder: Path, *, as_json: bool, **where: Any) -> None:
    """Print the suggested rate and write a page that shows why, beside the run folder, which stays unchanged.

    `where` are the arguments of `find_lr` that say what is trained on.
    """
    from convolve.cli.progress import Display
    from convolve.find_lr import find_lr
    from convolve.report.rate_page import write_rate_page

    if rank_info(os.environ).size > 1:
        raise UsageError("--find-lr trains in one process; start it without a launcher")
    with Display(recipe) as display:
        found = find_lr(recipe, progress=display, **where)
    page = folder.with_name(f"{folder.name}-find-lr.html")
    write_rate_page(found, recipe.name, page)
    if as_json:
        curve = {"rates": found.rates, "losses": found.losses}
        print(json.dumps({"suggested": found.suggested, "setting": found.setting, **curve, "page": str(page)}))
        return
    print(f"learning rate {found.suggested:g}: a tenth of the rate with the smallest loss\npage    {page}")
    print(f"train   the same command, with --set {found.setting} in place of --find-lr")
