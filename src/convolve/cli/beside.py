"""What `convolve convert` does without --to: sign what lies there, check a signature, print a program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolve.cli.snippet import Snippet
from convolve.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from convolve.records import TrainingInfo

# The option that is given in place of --to -> what is said where another comes with it that it has no use for.
_ALONE = {
    "--snippet": "--snippet only prints a program",
    "--verify": "--verify only checks a signature",
    "--sign": "--sign alone signs what lies there",
}
_OF_A_PROGRAM = {"--with-preprocessing", "--any-size"}


def done_beside(
    model: Path,
    out: Path | None,
    snippet: Snippet | None,
    *,
    sign: Path | None,
    verify: Path | None,
    given: list[str],
    special: set[str],
) -> list[str]:
    """Sign or check what lies there already, or make a program for it. What there is to print.

    `given` are the options on the command line, `special` those that not all forms of --to have.
    """
    named = next((option for option in _ALONE if option in given), None)
    if named is None or (named == "--sign" and {"--to", "--out"} & {*given}):
        raise UsageError("give --to FORM and --out PATH; --sign, --verify and --snippet also work without them")
    useless = (special - _OF_A_PROGRAM) | {"--to", *_ALONE} if snippet else {*given} - {"--json"}
    if others := [option for option in given if option in useless and option != named]:
        raise UsageError(f"{_ALONE[named]}, without {', '.join(others)}; convert and sign in another command")
    if snippet:
        return snippet.lines(model, out)
    if verify:
        from convolve.signing import verify as checked

        return [f"{checked(model, verify)}: {model} is as the owner of {verify} signed it"]
    return _sign_as_it_is(model, signer(sign))


def signer(key: Path | None) -> Any:
    """What signs with the private key; None without one."""
    if key is None:
        return None
    from convolve import signing

    return signing.signer(key)


def _sign_as_it_is(model: Path, with_key: Any) -> list[str]:
    """What cannot be opened, or is no classifier, is signed too; there is less to say of it."""
    from convolve.graph.classifier import SeveralHeadsError
    from convolve.loading import load

    try:
        opened = load(model)
    except (UnsupportedError, SeveralHeadsError):
        return signed(model, with_key)
    return signed(model, with_key, opened.data_name, opened.training_info)


def signed(model: Path, with_key: Any, data: str = "", info: TrainingInfo | None = None) -> list[str]:
    """Sign what lies there, with a bill of materials, by what `signer` made of the key, if one was given."""
    from convolve.records import TrainingInfo
    from convolve.signing import sign, write_bom

    if with_key is None:
        return []
    bom = write_bom(model, data, info or TrainingInfo())
    return [f"signed: {sign(model, with_key)}, bill of materials {bom}"]
