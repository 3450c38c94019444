"""convolve predict"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.options import AnyModel, AsJson, CsvFile, Overrides, with_overrides
from convolve.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolve.cli.answers import Output
    from convolve.data.damaged import Unreadable
    from convolve.data.image_files import find_images
    from convolve.data.walk import PassedOver
    from convolve.model import load

    opened, passed, unreadable = load(model, overrides, output), PassedOver(), Unreadable()
    opened.require_images()
    images = list(find_images(paths, passed))
    sorter = _sorter(sort_into, opened, paths)
    if csv_file:
        options = {"--top": top, "--output": output, "--sort-into": sort_into and str(sort_into)}
        told: AbstractContextManager[Output] = answers.csv_file(csv_file, opened, images, options, unreadable)
    else:
        told = _told(opened, str(model), images, as_json, npz_file)
    with told as out:
        for batch in _batches(opened, images, top, out.start, is_shown=as_json or csv_file or npz_file):
            for number, one in enumerate(batch, out.start):
                
            out.add(batch)
