"""`--help` in sections: commands by what they are for, options by what they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup


class SectionedCommand(TyperCommand):
    """A command whose options are listed under the titles given as `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            title = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
            if record := parameter.get_help_record(ctx):
                sections.setdefault(title, []).append(record)
        for title, rows in sections.items():
            _write(formatter, title, rows)


def grouped(groups: Mapping[str, tuple[str, ...]]) -> type[TyperGroup]:
    """A command that lists its subcommands under the titles of `groups`."""

    class Grouped(TyperGroup):
        def format_commands(self, ctx: Any, formatter: Any) -> None:
            width = max(len(name) for names in groups.values() for name in names)
            for title, names in groups.items():
                room = formatter.width - width - 6
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(room)) for name in names]
                _write(formatter, title, rows)

    return Grouped


def _write(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
