"""What commands print with --json is what docs/schemas says, field by field; unknown fields are faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, FormatChecker

import zip_golden
from command_line import Convolve, Outcome
from convolve.formats.idx import read_idx

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "BrainScript"


def schema(command: str) -> Any:
    return json.loads((ROOT / "docs" / "schemas" / f"{command}.json").read_text(encoding="utf-8"))


def answer(command: str, outcome: Outcome, codes: tuple[int, ...] = (0,)) -> Any:
    """The answer, which the schema of the command describes."""
    assert outcome.code in codes, outcome.err
    found = json.loads(outcome.out)
    faults = Draft202012Validator(schema(command), format_checker=FormatChecker()).iter_errors(found)
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []
    return found


@pytest.fixture
def run(convolve: Convolve, tiny: list[str], tmp_path: Path) -> Path:
    words = ("train", "mnist", *tiny, "--out", tmp_path / "run", "--json")
    answer("train", convolve(*words))
    return tmp_path / "run"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "schemas").glob("*.json")), ids=lambda path: path.stem)
def test_a_schema_is_one(path: Path) -> None:
    Draft202012Validator.check_schema(schema(path.stem))


def test_a_field_that_no_schema_names_is_seen(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert Draft202012Validator(schema("train")).is_valid(result)
    assert not Draft202012Validator(schema("train")).is_valid(result | {"errors": 3})
    assert not Draft202012Validator(schema("train")).is_valid(result | {"test_error": "3 %"})


def test_a_run_and_its_model(run: Path, convolve: Convolve, tiny_mnist: Path, tmp_path: Path) -> None:
    digit = tmp_path / "digit.png"
    import cv2

    cv2.imwrite(str(digit), read_idx(tiny_mnist / "t10k-images-idx3-ubyte")[0])
    (tmp_path / "no.png").write_text("no image")
    answer("report", convolve("report", run, "--json"))
    answer("show", convolve("show", run, "--json"))
    answer("evaluate", convolve("evaluate", run, run, "--data", tiny_mnist, "--views", 2, "--json"))
    found = answer("predict", convolve("predict", run, digit, tmp_path / "no.png", "--json"), codes=(3,))
    assert [set(image) for image in found["images"]] == [{"path", "classes", "fitted"}, {"path", "error"}]
    answer("predict", convolve("predict", run, digit, "--output", "conv1", "--json"))
    found = answer("convert", convolve("convert", run, "--to", "onnx", "--out", tmp_path / "m.onnx", "--json"))
    assert found["out"] == str(tmp_path / "m.onnx")
    assert found["compared"]["of_one_class"] and found["compared"]["images"] > 16
    assert found["compared"]["worst"] < 1e-4 and found["class_names"] == [*"0123456789"]
    answer("show", convolve("show", tmp_path / "m.onnx", "--json"))
    program = answer("convert", convolve("convert", run, "--snippet", "python-cv2", "--json"))
    compile(program["program"], "snippet", "exec")
    written = answer("convert", convolve("convert", run, "--snippet", "cpp", "--out", tmp_path / "ask.cpp", "--json"))
    assert "program" not in written and "--to onnx" in written["asks"]


def test_what_convert_made_is_in_fields(convolve: Convolve, model: Path, tmp_path: Path) -> None:
    found = answer("convert", convolve("convert", model, "--to", "convolve", "--out", tmp_path / "copy", "--json"))
    assert found["parameters"] > 0 and found["preprocess"]["channels"] == 1 and "compared" not in found
    words = ("--quantize", "fp16", "--data", "sample", "--max-error-increase", 100, "--json")
    found = answer("convert", convolve("convert", model, "--to", "onnx", "--out", tmp_path / "half.onnx", *words))
    assert found["quantized"]["bytes"] == (tmp_path / "half.onnx").stat().st_size < found["quantized"]["bytes_before"]


def test_what_convert_made_of_several_outputs(convolve: Convolve, tmp_path: Path) -> None:
    path, out = tmp_path / "net.model", tmp_path / "net.onnx"
    path.write_bytes(zip_golden.ARCHIVE.read("v2/net_resnet.model"))
    shown = answer("show", convolve("show", path, "--json"))
    two = [word for layer in shown["layers"][-2:] for word in ("--output", layer["name"])]
    found = answer("convert", convolve("convert", path, "--to", "onnx", "--out", out, *two, "--json"))
    assert "several outputs" in found["no_classifier"] and len(found["outputs"]) == found["compared"]["outputs"] == 2


def test_signatures(convolve: Convolve, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    pytest.importorskip("cyclonedx")
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key, public, out = tmp_path / "key.pem", tmp_path / "key.pub", tmp_path / "net.onnx"
    made = generate_private_key(SECP256R1())
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    found = answer("convert", convolve("convert", model, "--to", "onnx", "--out", out, "--sign", key, "--json"))
    assert all(Path(found[name]).is_file() for name in ("signature", "bill_of_materials"))
    found = answer("convert", convolve("convert", out, "--verify", public, "--json"))
    assert found["verified_with"] == str(public)


def test_a_model_that_knows_its_certainty(
    convolve: Convolve, tiny: list[str], tiny_mnist: Path, tmp_path: Path
) -> None:
    words = ("train", "mnist", *tiny, "--accept", "0.5", "--coverage", "0.5", "--out", tmp_path / "run", "--json")
    answer("train", convolve(*words))
    found = answer("evaluate", convolve("evaluate", tmp_path / "run", "--data", tiny_mnist, "--drift", "--json"))
    assert {"accepted", "covered", "drift"} <= {*found}
    import cv2

    cv2.imwrite(str(tmp_path / "digit.png"), read_idx(tiny_mnist / "t10k-images-idx3-ubyte")[0])
    found = answer("predict", convolve("predict", tmp_path / "run", tmp_path / "digit.png", "--json"))
    assert {"none_of_these", "distance", "possible"} <= {*found["images"][0]}


def test_trainings_beside_the_usual_one(convolve: Convolve, tiny: list[str], tmp_path: Path) -> None:
    answer("train", convolve("train", "mnist", *tiny, "--find-lr", "--out", tmp_path / "lr", "--json"))
    answer("train", convolve("train", "mnist", *tiny, "--folds", 2, "--out", tmp_path / "folds", "--json"))
    words = ("reproduce", "mnist", *tiny, "--seeds", 2, "--views", 2, "--runs", tmp_path / "seeds", "--json")
    answer("reproduce", convolve(*words))


def test_recipes_schedules_and_configurations(convolve: Convolve, tmp_path: Path) -> None:
    for what in ("mnist", "photos", "cifar10-fast"):
        answer("show", convolve("show", what, "--json"))
    answer("show", convolve("show", "cifar10-aug", "--schedule", "--json"))
    answer("show", convolve("show", EXAMPLES / "ConvNet_MNIST.cntk", "--json"))
    words = ("run", EXAMPLES / "ConvNet_MNIST.cntk", f"OutputDir={tmp_path}", "--translate", tmp_path / "r.yaml")
    found = answer("run", convolve(*words, "--json"))
    assert Path(found["network"]).is_dir()


def test_images(convolve: Convolve, tiny_mnist: Path, photographs: Path, tmp_path: Path) -> None:
    answer("check-data", convolve("check-data", photographs, "--json"), codes=(0, 3))
    found = answer("prepare", convolve("prepare", "mnist", "--source", tiny_mnist, "--out", tmp_path / "m", "--json"))
    assert [Path(file["path"]).name for file in found["files"]][::3] == ["labels.txt", "train_map.txt", "test_map.txt"]
    assert found["files"][2] == {**found["files"][2], "images": found["files"][2]["written"]}
    words = ("--source", photographs, "--out", tmp_path / "shards")
    found = answer("prepare", convolve("prepare", "shards", *words, "--json"))
    assert {"images", "shards", "written"} <= {*found["files"][-1]}
    answer("doctor", convolve("doctor", "--json"))


def test_targets_that_are_no_class(convolve: Convolve, tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(0)
    for n in range(30):
        cv2.imwrite(str(tmp_path / f"{n}.png"), rng.integers(0, 256, (28, 28), dtype=np.uint8))
    rows = [f"{n}.png,{'red;round' if n % 2 else 'red'},{n / 7}" for n in range(30)]
    (tmp_path / "table.csv").write_text("image,label,size\n" + "\n".join(rows) + "\n")
    for target, column in (("classes", "label"), ("number", "size")):
        common = ("--data", tmp_path / "table.csv", "--columns", f"image=image,label={column}")
        out = ("--out", tmp_path / target, "--epochs", 1, "--set", "model.variant=tiny", "--set", "run.threads=1")
        answer("train", convolve("train", "mnist", *common, *out, "--set", f"data.target={target}", "--json"))
        answer("evaluate", convolve("evaluate", tmp_path / target, *common, "--json"))
        answer("predict", convolve("predict", tmp_path / target, tmp_path / "0.png", "--json"))


def test_a_server_says_where_it_listens(run: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    found = answer("serve", convolve("serve", f"digits={run}", "--port", 0, "--json"))
    assert found["address"].startswith("http://127.0.0.1:")
    assert found["models"] == {"digits": str(run)}
