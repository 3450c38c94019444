"""`convolve convert` without --to: sign a model, check a signature, print a program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolve.cli.formatting import Answer
from convolve.cli.snippet import Snippet
from convolve.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from convolve.records import TrainingInfo

# An option that replaces --to -> what the error says if an option comes with it that it cannot use.
_ALONE = {
    "--snippet": "--snippet only prints a program",
    "--verify": "--verify only checks a signature",
    "--sign": "--sign alone signs MODEL itself",
}
_WANTED = {"--to": "FORM", "--out": "PATH"}
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
) -> Answer:
    """Sign MODEL or check its signature, or make a program for it.

    `given` are the options on the command line, `special` those that not every form of --to has.
    """
    named = next((option for option in _ALONE if option in given), None)
    if named is None or (named == "--sign" and {"--to", "--out"} & {*given}):
        missing = " and ".join(f"{each} {what}" for each, what in _WANTED.items() if each not in given)
        raise UsageError(f"give {missing}, too; --sign, --verify and --snippet also work without --to and --out")
    useless = (special - _OF_A_PROGRAM) | {"--to", *_ALONE} if snippet else {*given} - {"--json"}
    if others := [option for option in given if option in useless and option != named]:
        raise UsageError(f"{_ALONE[named]}, without {', '.join(others)}; convert and sign in another command")
    if snippet:
        return snippet.answer(model, out)
    if verify:
        from convolve.signing import verify as checked

        signature = checked(model, verify)
        line = f"{signature}: {model} is unchanged since the owner of {verify} signed it"
        return Answer([line], {"signature": str(signature), "verified_with": str(verify)})
    return _sign_as_it_is(model, signer(sign))


def signer(key: Path | None) -> Any:
    """A signer for the private key; None without a key."""
    if key is None:
        return None
    from convolve import signing

    return signing.signer(key)


def _sign_as_it_is(model: Path, with_key: Any) -> Answer:
    """Sign the model itself. What cannot be opened, or is not a classifier, has less in its bill of materials."""
    from convolve.graph.classifier import SeveralHeadsError
    from convolve.loading import load

    try:
        opened = load(model)
    except (UnsupportedError, SeveralHeadsError):
        return signed(model, with_key)
    return signed(model, with_key, opened.data_name, opened.training_info)


def signed(model: Path, with_key: Any, data: str = "", info: TrainingInfo | None = None) -> Answer:
    """Sign the model at `model`, with a bill of materials; nothing without a signer."""
    from convolve.records import TrainingInfo
    from convolve.signing import sign, write_bom

    if with_key is None:
        return Answer()
    bom = write_bom(model, data, info or TrainingInfo())
    signature = sign(model, with_key)
    fields = {"signature": str(signature), "bill_of_materials": str(bom)}
    return Answer([f"signed: {signature}, bill of materials {bom}"], fields)
