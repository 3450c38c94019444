"""The Open Inference Protocol: what tritonclient and others that speak it ask."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving import Answer, Client, encoded, noise, serving

from convolve.model import Model
from convolve.records import Target, TargetKind

PICTURES = np.stack([noise(28, 28, seed=seed) for seed in range(3)])  # (N, H, W, 1)
FILES = [encoded(image_HWC) for image_HWC in PICTURES]
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def probabilities_NK(digits: Model) -> np.ndarray:
    return digits.probabilities(PICTURES.transpose(0, 3, 1, 2)).numpy()


def tensor(datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    given = {"name": "images", "datatype": datatype, "shape": shape}
    return {**given, "data": data} if data is not None else {**given, "parameters": parameters}


def infer(client: Client, said: Any, content: bytes = b"", model: str = "digits", **headers: str) -> Answer:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    headers = {LENGTH: str(len(body)), **headers} if content or headers else {}
    return client.ask(f"/v2/models/{model}/infer", body + content, **headers)


def in_binary(files: list[bytes]) -> bytes:
    return b"".join(len(file).to_bytes(4, "little") + file for file in files)


# -- tritonclient ------------------------------------------------------------------------------------------------------


@pytest.fixture
def triton(client: Client) -> Iterator[Any]:
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(f"127.0.0.1:{client.port}") as triton:
        yield triton


def test_tritonclient_finds_its_way(triton: Any, client: Client) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("digits") and triton.is_model_ready("letters", "1")
    assert not triton.is_model_ready("nothing")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    said = triton.get_model_metadata("digits")
    assert said["inputs"] == [{"name": "images", "datatype": "BYTES", "shape": [-1]}]
    assert said["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]


@pytest.mark.parametrize("in_and_out", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("kind", ["files", "pixels"])
def test_tritonclient_is_answered(
    kind: str, in_and_out: tuple[bool, bool], triton: Any, probabilities_NK: np.ndarray
) -> None:
    http = pytest.importorskip("tritonclient.http")
    goes_binary, comes_binary = in_and_out
    if kind == "pixels":
        given = http.InferInput("images", [*PICTURES.shape], "UINT8")
        given.set_data_from_numpy(PICTURES, binary_data=goes_binary)
    else:
        files = FILES if goes_binary else [base64.b64encode(file) for file in FILES]
        given = http.InferInput("images", [3], "BYTES")
        given.set_data_from_numpy(np.array(files, object), binary_data=goes_binary)
    wanted = [http.InferRequestedOutput("probabilities", binary_data=comes_binary)]
    found = triton.infer("digits", [given], outputs=wanted, request_id="7", model_version="1")
    np.testing.assert_allclose(found.as_numpy("probabilities"), probabilities_NK, atol=1e-6)
    assert found.get_response()["id"] == "7" and found.get_response()["model_name"] == "digits"


def test_tritonclient_is_told_names_of_classes(triton: Any, probabilities_NK: np.ndarray) -> None:
    http = pytest.importorskip("tritonclient.http")
    given = http.InferInput("images", [3, 1], "BYTES")
    given.set_data_from_numpy(np.array(FILES, object)[:, None])
    for comes_binary in (True, False):
        wanted = [http.InferRequestedOutput("probabilities", binary_data=comes_binary, class_count=2)]
        found = triton.infer("letters", [given], outputs=wanted).as_numpy("probabilities")
        assert found.shape == (3, 2)
        for row, row_K in zip(found, probabilities_NK, strict=True):
            value, index, name = (row[0].decode() if comes_binary else row[0]).split(":")
            assert int(index) == row_K.argmax() and name == "abcdefghij"[int(index)]
            assert float(value) == pytest.approx(row_K.max(), abs=1e-5)


def test_tritonclient_reads_why_not(triton: Any) -> None:
    http = pytest.importorskip("tritonclient.http")
    given = http.InferInput("images", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"no image"], object))
    with pytest.raises(Exception, match=r"images\[0\]: .*415|415.*images\[0\]: "):
        triton.infer("digits", [given])
    with pytest.raises(Exception, match="unknown model 'digit'; did you mean 'digits'"):
        triton.infer("digit", [given])


# -- the protocol itself -----------------------------------------------------------------------------------------------


def test_json_alone(client: Client, probabilities_NK: np.ndarray) -> None:
    status, said, _ = infer(client, {"inputs": [tensor("UINT8", [3, 28, 28, 1], PICTURES.tolist())]})
    assert status == 200 and said["model_version"] == "1" and "id" not in said
    [output] = said["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [3, 10])
    np.testing.assert_allclose(np.reshape(output["data"], (3, 10)), probabilities_NK, atol=1e-6)


def test_pixels_of_any_size_are_fitted_as_files_are(client: Client) -> None:
    image_HWC = noise(40, 60, 3)
    blue_last = np.ascontiguousarray(image_HWC[:, :, ::-1])  # the protocol's are RGB, OpenCV's BGR
    said = {"inputs": [tensor("UINT8", [1, 40, 60, 3], blue_last.ravel().tolist())]}
    found = infer(client, said).said["outputs"][0]["data"]
    expected = client.ask("/predict?top=10", encoded(image_HWC)).said["classes"]
    assert {int(each["class"]): each["probability"] for each in expected} == pytest.approx(dict(enumerate(found)))


def test_a_model_of_numbers(digits: Model) -> None:
    numbers = replace(digits, target=Target(TargetKind.NUMBER, mean=(1.0,) * 10, spread=(2.0,) * 10))
    with serving({"a": numbers}) as client:
        assert client.ask("/v2/models/a").said["outputs"][0]["name"] == "numbers"
        [output] = infer(client, {"inputs": [tensor("BYTES", [1], [base64.b64encode(FILES[0]).decode()])]}, model="a")[
            1
        ]["outputs"]
        assert output["name"] == "numbers"
        expected = client.ask("/predict", FILES[0]).said["numbers"]
        assert output["data"] == pytest.approx([*expected.values()])


TEXT = base64.b64encode(FILES[0]).decode()
ONE = tensor("BYTES", [1], [TEXT])
WRONG = {
    "no JSON": (b"{", "JSON"),
    "a list": ([], "object"),
    "no inputs": ({}, "'inputs'"),
    "inputs that are none": ({"inputs": [3]}, "'name'"),
    "two inputs": ({"inputs": [ONE, ONE]}, "one input, 'images'"),
    "another input": ({"inputs": [{**ONE, "name": "x"}]}, "one input, 'images'"),
    "another output": ({"inputs": [ONE], "outputs": [{"name": "logits"}]}, "one output, 'probabilities'"),
    "no shape": ({"inputs": [{**ONE, "shape": 3}]}, "'shape'"),
    "a shape of nothing": ({"inputs": [{**ONE, "shape": [0]}]}, "above 0"),
    "a shape of true": ({"inputs": [{**ONE, "shape": [True]}]}, "above 0"),
    "another count": ({"inputs": [{**ONE, "shape": [2]}]}, "1 elements"),
    "numbers for files": ({"inputs": [{**ONE, "data": [3]}]}, "base64"),
    "no data": ({"inputs": [tensor("BYTES", [1])]}, "'data'"),
    "another datatype": ({"inputs": [tensor("FP32", [1, 1, 28, 28], [0.0] * 784)]}, "UINT8 (N, H, W, C)"),
    "planes": ({"inputs": [tensor("UINT8", [1, 1, 28, 28], [0] * 784)]}, "UINT8 (N, H, W, C)"),
    "too few pixels": ({"inputs": [tensor("UINT8", [1, 28, 28, 1], [0] * 783)]}, "784"),
    "light beyond white": ({"inputs": [tensor("UINT8", [1, 1, 1, 1], [256])]}, "from 0 to 255"),
    "halves": ({"inputs": [tensor("UINT8", [1, 1, 1, 1], [0.5])]}, "from 0 to 255"),
    "rows of several lengths": ({"inputs": [tensor("UINT8", [1, 1, 2, 1], [[0, 1], [2]])]}, "from 0 to 255"),
    "huge numbers": ({"inputs": [tensor("UINT8", [1, 1, 1, 1], [10**30])]}, "from 0 to 255"),
    "minus one class": (
        {"inputs": [ONE], "outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]},
        "classification",
    ),
    "a shape beyond all": ({"inputs": [tensor("UINT8", [1, 2**30, 2**30, 3], [0])]}, "more than the limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_questions_that_are_wrong(name: str, client: Client) -> None:
    said, words = WRONG[name]
    answer = infer(client, said)
    assert answer.status == (413 if "limit" in words else 400), answer
    assert list(answer.said) == ["error"] and words in answer.said["error"] and "\n" not in answer.said["error"]


@pytest.mark.parametrize(
    ("content", "size", "length", "words"),
    [
        (in_binary(FILES[:1])[:-1], None, None, "last element"),
        (in_binary(FILES[:1]) + b"\0", None, None, "last element"),
        (b"\xff\xff\xff\xff", None, None, "last element"),
        (in_binary(FILES[:1]), 5, None, "binary_data_size"),
        (in_binary(FILES[:1]), "many", None, "binary_data_size"),
        (in_binary(FILES[:1]), None, "-1", "length of the JSON"),
        (in_binary(FILES[:1]), None, "9" * 11, "length of the JSON"),
        (in_binary(FILES[:1]), None, "3", "JSON"),
    ],
)
def test_binary_data_that_are_wrong(content: bytes, size: Any, length: str | None, words: str, client: Client) -> None:
    said = {"inputs": [tensor("BYTES", [1], binary_data_size=len(content) if size is None else size)]}
    headers = {LENGTH: length} if length else {}
    answer = infer(client, said, content, **headers)
    assert answer.status == 400 and words in answer.said["error"], answer


def test_more_images_than_one_request_may_have(client: Client) -> None:
    many = infer(client, {"inputs": [tensor("BYTES", [1001], [TEXT] * 1001)]})
    assert many.status == 413 and "1,001" in many.said["error"]
    assert infer(client, {"inputs": [tensor("UINT8", [1001, 1, 1, 1], [0] * 1001)]}).status == 413


def test_versions_and_models_that_are_not_there(client: Client) -> None:
    for path in ("/v2/models/digits/versions/2", "/v2/models/nothing/ready"):
        status, said, _ = client.ask(path)
        assert status == 404 and list(said) == ["error"]
    assert client.ask("/v2/models/digits/infer").status == 405
