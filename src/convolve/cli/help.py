"""`--help` in sections: commands by what they are for, options by what they describe."""

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup


class SectionedCommand(TyperCommand):
    """A command whose options are listed under the titles given as `rich_help_panel`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """typer puts what is required into braces."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        names = [f"{each.metavar}{'...' if each.nargs != 1 else ''}" for each in arguments]
        pairs = zip(arguments, names, strict=True)
        return ["[OPTIONS]", *(name if each.required else f"[{name}]" for each, name in pairs)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            title = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
            if record := help_record(parameter, ctx):
                sections.setdefault(title, []).append(record)
        for title, rows in sections.items():
            _write(formatter, title, rows)


def help_record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """(its words, its help): of an argument without the type of Python that typer adds."""
    record = parameter.get_help_record(ctx)
    return (parameter.metavar, record[1]) if record and parameter.param_type_name == "argument" else record


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
