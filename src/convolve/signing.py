"""Signed models: with the OpenSSF's package `model-signing` and the user's own key (the extra `sign`).

The signature is a Sigstore bundle, which `model_signing verify key` checks as well. A bill of materials (an ML-BOM in
CycloneDX form) is written beside the model card; the signature of a folder covers both.
"""

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

from convolve.atomic import opened, scratch, sweep, write_text
from convolve.errors import DataError, ModelError, UsageError, install_hint
from convolve.model_card import CARD, card_path
from convolve.model_folder import find_folder
from convolve.records import TrainingInfo

_SIGNATURE = "model.sig"


def signer(private_key: Path) -> Any:
    """What `sign` signs with. Raises UsageError if signing will not be possible."""
    signing, hashing, _ = map(_package, ("model_signing.signing", "model_signing.hashing", "cyclonedx.output.json"))
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # any exception of its parsers
        raise _no_key("--sign", private_key, "private", error) from None
    return config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[_SIGNATURE], ignore_git_paths=False))


def sign(model: Path, config: Any) -> Path:
    """Sign a model in place, a file or a whole folder. Returns the path of the signature."""
    place, signature = _place(model)
    sweep(signature.parent, signature.name)  # otherwise it would be signed too
    with scratch() as temporary:
        try:
            config.sign(place, temporary / _SIGNATURE)
        except ValueError as error:  # such as a link in the folder
            raise DataError(f"{place} cannot be signed: {_in_a_line(error)}") from None
        write_text(signature, (temporary / _SIGNATURE).read_text(encoding="utf-8"))
    return signature


def verify(model: Path, public_key: Path) -> Path:
    """Returns the path of the signature. Raises ModelError unless each file is as signed with this key."""
    verifying = _package("model_signing.verifying")
    place, signature = _place(model)
    if not signature.is_file():
        raise UsageError(
            f"{place} is not signed, {signature} is missing; `convolve convert {model} --sign KEY` signs it"
        )
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:  # any exception of its parsers
        raise _no_key("--verify", public_key, "public", error) from None
    try:
        config.verify(place, signature)
    except Exception as error:  # a bundle can be damaged in many ways
        reason = f"{_in_a_line(error)}; take it from its source again"
        raise ModelError(f"{place} is not what the owner of {public_key} signed: {reason}") from None
    return signature


def write_bom(model: Path, data: str, info: TrainingInfo) -> Path:
    """Write the ML-BOM of a model that was trained on `data`; `info` describes its training. Returns the path."""
    parts, kinds = _package("cyclonedx.model"), _package("cyclonedx.model.component")
    place, _ = _place(model)
    if place.is_dir():
        path, card = place / "model.cdx.json", place / CARD
        files = [place / "model.json", place / "weights.safetensors"]
    else:
        path, card, files = place.with_suffix(".cdx.json"), card_path(place), [place]
    kind = parts.ExternalReferenceType.MODEL_CARD
    beside = [parts.ExternalReference(type=kind, url=parts.XsUri(card.name))] if card.exists() else []
    known = {name: value for name, value in vars(info).items() if value is not None and name != "license"}
    license_of = _package("cyclonedx.model.license").DisjunctiveLicense
    root = kinds.Component(
        name=place.name,
        type=kinds.ComponentType.MACHINE_LEARNING_MODEL,
        licenses=[license_of(name=info.license)] if info.license else [],
        properties=[parts.Property(name=f"convolve:{name}", value=str(value)) for name, value in known.items()],
        external_references=beside,
        components=[
            kinds.Component(name=file.name, type=kinds.ComponentType.FILE, hashes=[_sha256(parts, file)])
            for file in files
        ],
    )
    bom = _package("cyclonedx.model.bom").Bom()
    bom.metadata.component = root
    if data:
        bom.components.add(kinds.Component(name=data, type=kinds.ComponentType.DATA))
    bom.register_dependency(root, bom.components)
    text = _package("cyclonedx.output.json").JsonV1Dot6(bom).output_as_string(indent=2)
    write_text(path, f"{text}\n")
    return path


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"signing needs {name.partition('.')[0]} ({error}): {install_hint('sign')}") from None


def _place(model: Path) -> tuple[Path, Path]:
    """(the model's folder or file, its signature): inside a folder, so that they travel together."""
    place = model if model.is_file() else find_folder(model)
    return place, place / _SIGNATURE if place.is_dir() else place.with_name(f"{place.name}.sig")


def _no_key(option: str, key: Path, kind: str, error: Exception) -> UsageError:
    make = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
    make += " && openssl ec -in key.pem -pubout -out key.pub" if kind == "public" else ""
    return UsageError(
        f"{option} {key} is not a {kind} key of an elliptic curve ({_in_a_line(error)}); `{make}` makes one"
    )


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _sha256(parts: Any, path: Path) -> Any:
    with opened(path, ModelError) as file:
        return parts.HashType(alg=parts.HashAlgorithm.SHA_256, content=hashlib.file_digest(file, "sha256").hexdigest())
