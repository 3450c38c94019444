"""One table of everything that convolve reads: how a small sound one is made, what reads it, what may be damaged."""

from __future__ import annotations

from damaged_data import DATA
from damaged_models import MODELS
from damaged_runs import RUNS
from sound import Format

FORMATS: dict[str, Format] = {**RUNS, **MODELS, **DATA}
