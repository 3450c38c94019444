"""What numbers and texts in a record may be: types with their limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated


@dataclass(frozen=True)
class Between:
    """A range for numbers; `or_not_finite` lets infinities and what is no number pass, which a loss may become."""

    low: float
    high: float
    or_not_finite: bool = False

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high or (self.or_not_finite and not math.isfinite(value))

    def __str__(self) -> str:
        return f"between {self.low:g} and {self.high:g}"


class Iso8601:
    """A date and time."""

    def holds(self, value: str) -> bool:
        try:
            return bool(datetime.fromisoformat(value))
        except ValueError:
            return False

    def __str__(self) -> str:
        return "a date and time in ISO 8601"


Count = Annotated[int, Between(0, 2**53)]  # whole numbers beyond are none for every reader of JSON
Number = Annotated[int, Between(1, 2**53)]
Fraction = Annotated[float, Between(0, 1)]
Figure = Annotated[float, Between(-1e30, 1e30)]
Amount = Annotated[float, Between(0, 1e30)]  # seconds, images per second
Loss = Annotated[float, Between(-1e30, 1e30, or_not_finite=True)]
Moment = Annotated[str, Iso8601()]
