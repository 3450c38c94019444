"""Signed models: OpenSSF's own command agrees with ours, and nothing passes that is not as it was signed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Convolve, assert_failed, assert_refused, files_in

pytest.importorskip("model_signing")
pytest.importorskip("cyclonedx")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    for name in ("key", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
        public = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture
def signed(convolve: Convolve, model: Path, keys: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "model")
    assert convolve("convert", tmp_path / "model", "--sign", keys / "key.pem").code == 0
    return tmp_path / "model"


def theirs(model: Path, signature: Path, key: Path) -> int:
    words = ["verify", "key", model, "--signature", signature, "--public_key", key]
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, words)], capture_output=True, check=False
    ).returncode


def test_their_own_command_agrees(convolve: Convolve, signed: Path, keys: Path, tmp_path: Path) -> None:
    assert convolve("convert", signed, "--verify", keys / "key.pub").code == 0
    assert theirs(signed, signed / "model.sig", keys / "key.pub") == 0
    assert theirs(signed, signed / "model.sig", keys / "other.pub") != 0
    assert {"model.cdx.json", "model-card.md", "model.sig"} < set(files_in(signed))
    before = files_in(signed)
    for name in ("model.sig", "model.cdx.json"):  # as one that was killed leaves them
        (signed / f".{name}.1.tmp").touch()
    assert convolve("convert", signed, "--sign", keys / "key.pem").code == 0
    assert files_in(signed) == before
    assert convolve("convert", signed, "--verify", keys / "key.pub").code == 0


@pytest.mark.parametrize("form", [("exported-program", "digits.pt2"), ("onnx", "digits.onnx")])
def test_a_file_is_signed_as_it_is_written_or_later(
    form: tuple[str, str], convolve: Convolve, model: Path, keys: Path, tmp_path: Path
) -> None:
    out, signature = tmp_path / form[1], tmp_path / f"{form[1]}.sig"
    outcome = convolve("convert", model, "--to", form[0], "--out", out, "--sign", keys / "key.pem")
    assert outcome.code == 0, outcome.err
    assert convolve("convert", out, "--verify", keys / "key.pub").code == 0
    assert theirs(out, signature, keys / "key.pub") == 0
    names = {form[1], signature.name, "digits.cdx.json", "digits-model-card.md"}
    assert set(files_in(tmp_path)) == names
    signature.unlink()
    assert convolve("convert", out, "--sign", keys / "key.pem").code == 0
    assert theirs(out, signature, keys / "key.pub") == 0


def flip(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def cut(folder: Path) -> None:
    text = (folder / "model.sig").read_text()
    (folder / "model.sig").write_text(text[: len(text) // 2])


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": flip,
    "card": lambda folder: (folder / "model-card.md").write_text("Better than it is."),
    "more": lambda folder: (folder / "more.py").write_text("import os"),
    "fewer": lambda folder: (folder / "model.cdx.json").unlink(),
    "signature": cut,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_does_not_pass(
    change: Callable[[Path], object], convolve: Convolve, signed: Path, keys: Path
) -> None:
    change(signed)
    outcome = convolve("convert", signed, "--verify", keys / "key.pub")
    assert_refused(outcome, 3, str(signed), "is not what the owner of", "take it from its source again")


def test_another_key_does_not_pass(convolve: Convolve, signed: Path, keys: Path) -> None:
    assert_refused(convolve("convert", signed, "--verify", keys / "other.pub"), 3, "Key mismatch")


def test_the_bill_of_materials_names_what_there_is(
    convolve: Convolve, tiny: list[str], keys: Path, tmp_path: Path
) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert convolve("train", "mnist", *tiny, "--set", "run.epochs=1", "--out", tmp_path / "run").code == 0
    out = tmp_path / "model"
    words = ["--to", "convolve", "--out", out, "--license", "cc-by-4.0", "--sign", keys / "key.pem"]
    assert convolve("convert", tmp_path / "run", *words).code == 0
    text = (out / "model.cdx.json").read_text()
    pytest.importorskip("jsonschema")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    root, result = bom["metadata"]["component"], json.loads((tmp_path / "run" / "result.json").read_text())
    assert root["type"] == "machine-learning-model" and root["licenses"] == [{"license": {"name": "cc-by-4.0"}}]
    assert {"name": "convolve:test_error", "value": str(result["test_error"])} in root["properties"]
    hashes = {file["name"]: file["hashes"][0]["content"] for file in root["components"]}
    assert hashes["weights.safetensors"] == json.loads((out / "model.json").read_text())["weights_sha256"]
    assert [(part["name"], part["type"]) for part in bom["components"]] == [("mnist", "data")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sign", "{keys}/key.pub"), "key.pub is not a private key of an elliptic curve"),
        (("--sign", "{keys}/none.pem"), "none.pem is not a private key"),
        (("--verify", "{keys}/key.pub"), "is not signed"),
        (("--verify", "{keys}/key.pub", "--sign", "{keys}/key.pem"), "--verify only checks"),
        ((), "give --to FORM and --out PATH, too"),
        (("--to", "onnx", "--sign", "{keys}/key.pem"), "give --out PATH, too"),
        (("--to", "convolve", "--out", "{keys}/to", "--sign", "{keys}/key.pub"), "is not a private key"),
    ],
)
def test_what_cannot_be_done(
    words: tuple[str, ...], said: str, convolve: Convolve, model: Path, keys: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "model")
    before = files_in(tmp_path)
    outcome = convolve("convert", tmp_path / "model", *(word.format(keys=keys) for word in words))
    assert_refused(outcome, 2, said)
    assert files_in(tmp_path) == before and not (keys / "to").exists()


def test_the_package_is_named_where_it_is_missing(
    convolve: Convolve, model: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    assert_failed(convolve("convert", model, "--sign", keys / "key.pem"), 2, "needs model_signing", "pip install")
