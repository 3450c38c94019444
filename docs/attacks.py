"""The tables of reliability.md, from what `make attack` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "reliability.json"


def attacks(names: list[str]) -> Iterator[str]:
    """What was tried, how often, what became of it, and what the worst one took; `names` are parts of the file."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    rows = [row for name in names for row in found.get(name, [])]
    if not rows:
        yield "not yet measured"
        return
    yield "| | n | outcomes | longest | most memory | failures |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        outcomes = ", ".join(
            f"{count:,} {what}" for what, count in sorted(row["outcomes"].items(), key=lambda o: -o[1])
        )
        seconds = f"{row['seconds']:.1f} s" if row["seconds"] else ""
        memory = f"{max(0, row['extra_bytes']) >> 20} MiB" if row["extra_bytes"] else ""
        yield f"| {row['what']} | {row['n']:,} | {outcomes} | {seconds} | {memory} | {len(row['failures'])} |"
    failed = sum(len(row["failures"]) for row in rows)
    yield f"| **all** | **{sum(row['n'] for row in rows):,}** | | | | **{failed}** |"
