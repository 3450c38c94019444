"""The command line: one file a command. Importing any of them loads neither torch nor numpy; running one does.

Results go to stdout, progress and errors to stderr. Every error is one line with the exit code of `convolve.errors`.
"""

import os
import sys
import traceback
from pathlib import Path

import typer

from convolve.cli.check_data import check_data
from convolve.cli.convert import convert
from convolve.cli.doctor import doctor
from convolve.cli.evaluate import evaluate
from convolve.cli.help import SectionedCommand, grouped
from convolve.cli.predict import predict
from convolve.cli.prepare import prepare
from convolve.cli.report import report
from convolve.cli.reproduce import reproduce
from convolve.cli.run import run
from convolve.cli.serve import serve
from convolve.cli.show import show
from convolve.cli.terminal import hold_closed, screens
from convolve.cli.train import train
from convolve.distributed.launcher import rank_info
from convolve.errors import ConvolveError, UsageError, unknown_name

GROUPS = {
    "Training": (train, reproduce, report),
    "A trained model": (predict, evaluate, serve, convert),
    "Images": (check_data, prepare),
    "CNTK's programs and configurations": (run,),
    "What there is": (show, doctor),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
NAMES = tuple(command.__name__.replace("_", "-") for command in COMMANDS)

_listed = {title: tuple(each.__name__.replace("_", "-") for each in commands) for title, commands in GROUPS.items()}
app = typer.Typer(name="convolve", cls=grouped(_listed), rich_markup_mode=None, pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command(cls=SectionedCommand)(command)


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Train, ship and rescue convolutional image classifiers.

    Example: convolve train mnist --data sample
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    hold_closed()
    with screens():
        return _main(list(sys.argv[1:] if arguments is None else arguments) or ["--help"])


def _main(arguments: list[str]) -> int:
    precision, program = program_of(arguments)
    if program:
        return _run_program(program, precision)
    debug = "--debug" in arguments  # --debug may stand anywhere: people add it to the end of the command that failed
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _run(arguments)
    except (BrokenPipeError, SystemExit):  # typer turns the first into the second
        return 0  # the reader of our output (head, less) has exited: not a failure
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, ConvolveError):
            return _fail(str(error), error.exit_code)
        if hasattr(error, "format_message"):  # typer's usage errors; their class moves between typer versions
            return _fail(_usage(error.format_message(), arguments), 2)
        if isinstance(error, OSError):  # an OSError that nothing below has described
            what = f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error)
            return _fail(f"{what}; check that disk or folder, or choose another place", 1)
        if isinstance(error, MemoryError):
            return _fail("out of memory; try a smaller run.global_batch_size", 1)
        said = f"{type(error).__name__}: {error} (a fault of convolve: please report it with the output of --debug)"
        return _fail(str(ConvolveError(said)), 1)


def program_of(arguments: list[str]) -> tuple[str, list[str]]:
    """(precision, program and its arguments) of `convolve run PROGRAM.py ...`; the second is empty for any other
    command.

    Everything after the program's name belongs to the program.
    """
    command, *rest = [argument for argument in arguments[:2] if argument != "--debug"] + arguments[2:]
    precision = "fp32"
    if command == "run" and rest and rest[0].startswith("--precision"):
        precision, rest = (rest[0].partition("=")[2], rest[1:]) if "=" in rest[0] else (" ".join(rest[1:2]), rest[2:])
    is_program = command == "run" and bool(rest) and rest[0].endswith((".py", ".ipynb"))
    return precision, rest if is_program else []


def _run_program(program: list[str], precision: str) -> int:
    """Run a Python program for CNTK. Python prints the program's own errors as usual."""
    from convolve.cntk.launcher import run as run_program

    try:
        run_program(Path(program[0]), program[1:], precision)
    except ConvolveError as error:
        for line in getattr(error, "lines", ()):
            print(line, file=sys.stderr)
        return _fail(str(error), error.exit_code)
    return 0


def _run(arguments: list[str]) -> int:
    if "--version" in arguments[:1]:
        from importlib.metadata import version

        print(version("convolve"))
        return 0
    result = typer.main.get_command(app).main(arguments, prog_name="convolve", standalone_mode=False)
    sys.stdout.flush()  # flush here, so that a reader that has exited is noticed in time
    return result if isinstance(result, int) else 0


def _usage(message: str, arguments: list[str]) -> str:
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    if name and name not in NAMES:
        return unknown_name("command", name, NAMES)
    return f"{message.rstrip('.')}; see `convolve {name} --help`".replace("  ", " ")


def _fail(message: str, exit_code: int) -> int:
    try:
        rank = rank_info(os.environ).rank
    except UsageError:  # the launchers' variables disagree; the message is about that
        rank = 0
    worker = f"worker {rank}: " if rank else ""
    print(f"convolve: {worker}{' '.join(message.split())}", file=sys.stderr)
    return exit_code
