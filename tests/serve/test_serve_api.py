"""What programs ask: bodies in every form, several models, and what those ask who run a server."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from serving import Answer, Client, encoded, noise, serving

from convolve.errors import UsageError
from convolve.model import Model
from convolve.serve import bodies
from convolve.serve.app import create_app
from convolve.serve.guard import Access
from convolve.serve.names import named_models
from convolve.serve.openapi import openapi

IMAGES = [encoded(noise(28, 28, seed=seed)) for seed in range(3)]
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]


@pytest.fixture(scope="module")
def expected(client: Client) -> list[Any]:
    """Of each image alone. Batches of other sizes add up in another order."""
    return [
        json.loads(
            json.dumps(client.ask("/predict", image).said), parse_float=lambda p: pytest.approx(float(p), abs=1e-5)
        )
        for image in IMAGES
    ]


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    """(body, content type) of (field, file name, content), as browsers and curl send them."""
    lines = []
    for field, name, content in parts:
        file = f'; filename="{name}"' if name is not None else ""
        lines += [
            b"--x1\r\n",
            f'Content-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode(),
            content,
            b"\r\n",
        ]
    return b"".join([*lines, b"--x1--\r\n"]), "multipart/form-data; boundary=x1"


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def ask_json(client: Client, said: Any, path: str = "/predict") -> Answer:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return client.ask(path, body, Content_Type="application/json")


# -- bodies ----------------------------------------------------------------------------------------------------------


def test_one_image_in_every_form(client: Client, expected: list[Any]) -> None:
    body, kind = form(("image", "a.png", IMAGES[0]))
    assert client.ask("/predict", body, Content_Type=kind).said == expected[0]
    assert ask_json(client, {"image": BASE64[0]}).said == expected[0]
    assert ask_json(client, {"image": f"data:image/png;base64,{BASE64[0]}"}).said == expected[0]
    wrapped = base64.encodebytes(IMAGES[0]).decode()  # lines of 76 letters, as the program base64 writes them
    assert ask_json(client, {"image": wrapped}).said == expected[0]
    urlencoded = "application/x-www-form-urlencoded"  # what curl --data-binary says of any file
    assert client.ask("/predict", IMAGES[0], Content_Type=urlencoded).said == expected[0]


def test_several_images_in_every_form(client: Client, expected: list[Any]) -> None:
    names = ["a.png", "b.png", "c.png"]
    named = [{"name": name, **said} for name, said in zip(names, expected, strict=True)]
    files = dict(zip(names, IMAGES, strict=True))
    body, kind = form(*(("image", name, image) for name, image in zip(names, IMAGES, strict=True)))
    assert client.ask("/predict", body, Content_Type=kind).said == {"images": named}
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert client.ask("/predict", zipped(files, compression)).said == {"images": named}
    body, kind = form(
        ("image", "all.zip", zipped({"a.png": IMAGES[0], "b.png": IMAGES[1]})), ("image", "c.png", IMAGES[2])
    )
    assert client.ask("/predict", body, Content_Type=kind).said == {"images": named}
    found = ask_json(client, {"images": BASE64}).said["images"]
    assert found == [{**said, "name": f"images[{k}]"} for k, said in enumerate(expected)]
    in_json = ask_json(client, {"image": base64.b64encode(zipped(files)).decode()})
    assert in_json.said == {"images": named}
    assert client.ask("/predict", zipped({"a.png": IMAGES[0]})).said == {"images": named[:1]}  # a list of one


def test_more_images_than_are_prepared_at_a_time(client: Client, expected: list[Any]) -> None:
    files = {f"{k:03}.png": IMAGES[k % 3] for k in range(150)}
    found = client.ask("/predict?top=1", zipped(files)).said["images"]
    assert [each["name"] for each in found] == [f"{k:03}.png" for k in range(150)]
    assert [each["classes"] for each in found] == [expected[k % 3]["classes"][:1] for k in range(150)]


def test_an_image_that_cannot_be_read_spares_the_others(client: Client, expected: list[Any]) -> None:
    torn = zipped({"a.png": IMAGES[0], "notes.txt": b"hello", "b.png": IMAGES[1]}, zipfile.ZIP_STORED).replace(
        b"hello", b"hellO"
    )
    body, kind = form(("image", "all.zip", torn), ("image", "c.gif", b"GIF89a"))
    first, text, second, gif = client.ask("/predict", body, Content_Type=kind).said["images"]
    assert [first["classes"], second["classes"]] == [expected[0]["classes"], expected[1]["classes"]]
    assert list(text) == list(gif) == ["name", "error"] and text["name"] == "notes.txt"
    assert gif["error"].startswith("c.gif: ")
    found = ask_json(client, {"images": [BASE64[0], "not base64!"]}).said["images"]
    assert found[0]["classes"] == expected[0]["classes"] and "base64" in found[1]["error"]


def test_what_macs_leave_in_zips_is_no_image(client: Client) -> None:
    left = {"__MACOSX/._a.png": b"x", ".DS_Store": b"x", "photos/._b.png": b"x", "photos/b.png": IMAGES[0]}
    said = client.ask("/predict", zipped(left)).said["images"]
    assert [each["name"] for each in said] == ["photos/b.png"]


def test_a_map_is_of_one_image(client: Client) -> None:
    body, kind = form(("image", "a.png", IMAGES[0]))
    assert (
        client.ask("/explain?class=3", body, Content_Type=kind).said == client.ask("/explain?class=3", IMAGES[0]).said
    )
    assert_refused(ask_json(client, {"images": BASE64}, "/explain"), 400, "one image", "3")


def assert_refused(answer: Answer, status: int, *words: str) -> None:
    assert answer.status == status, answer
    assert list(answer.said) == ["error"] and "\n" not in answer.said["error"], answer
    for word in words:
        assert word in answer.said["error"]


@pytest.mark.parametrize(
    ("parts", "status", "words"),
    [
        ([("photo", "a.png", IMAGES[0])], 400, ["'photo'", "'image'"]),
        ([("image", "a.png", IMAGES[0]), ("top", None, b"3")], 400, ["'top'", "address"]),
        ([("image", None, b"hello")], 400, ["holds text"]),
        ([("image", None, bytes(2 << 20))], 413, ["maximum size"]),
        ([("image", "a.png", b"")] * 1001, 413, ["1000"]),
        ([("image", "a.png", b"hello")], 415, ["a.png: "]),
        ([], 400, ["empty"]),
    ],
)
def test_forms_that_are_wrong(
    parts: list[tuple[str, str | None, bytes]], status: int, words: list[str], client: Client
) -> None:
    body, kind = form(*parts)
    assert_refused(client.ask("/predict", body, Content_Type=kind), status, *words)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=other"])
def test_forms_that_cannot_be_read(kind: str, client: Client) -> None:
    body, _ = form(("image", "a.png", IMAGES[0]))
    assert_refused(client.ask("/predict", body, Content_Type=kind), 400, "form")


@pytest.mark.parametrize(
    "said",
    [b"{", b"\xff", b"[" * 100_000, [], {}, {"image": 3}, {"images": []}, {"images": "x"}, {"images": [None]},
     {"image": "a", "top": 3}, {"photo": BASE64[0]}],
)  # fmt: skip
def test_json_that_is_wrong(said: Any, client: Client) -> None:
    assert_refused(ask_json(client, said), 400, "JSON")


def test_base64_that_is_none(client: Client) -> None:
    assert_refused(ask_json(client, {"image": "ä"}), 415, "base64")
    assert_refused(ask_json(client, {"image": base64.b64encode(b"hello").decode()}), 415, "image: ")


def lying(content: bytes, size: int) -> bytes:
    """A zip whose one member says that it has `size` bytes when unpacked."""
    for at in (content.index(b"PK\1\2") + 24, 22):
        content = content[:at] + size.to_bytes(4, "little") + content[at + 4 :]
    return content


ZIPS = {
    "zip within a zip": (
        zipped({"a.png": IMAGES[0], "inner.bin": zipped({"a.png": IMAGES[0]})}),
        415,
        ["a zip inside a zip"],
    ),
    "bomb": (zipped({"a.png": bytes(40 << 20)}), 413, ["41,943,040", "33,554,432"]),
    "empty": (zipped({}), 415, ["no images"]),
    "torn": (zipped({"a.png": IMAGES[0]})[:-30], 415, ["damaged zip"]),
    "too many": (zipped({str(k): b"x" for k in range(1001)}), 413, ["1,000"]),
}


@pytest.mark.parametrize("name", ZIPS)
def test_zips_that_are_refused(name: str, client: Client) -> None:
    content, status, words = ZIPS[name]
    assert_refused(client.ask("/predict", content), status, *words)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_a_zip_that_unpack_without_a_bound(compression: int, client: Client) -> None:
    [found] = client.ask("/predict", zipped({"a.png": bytes(1 << 20)}, compression)).said["images"]
    assert "deflate" in found["error"]


def test_a_member_of_a_zip_that_lies_about_its_size(client: Client) -> None:
    """No more is unpacked than it says."""
    [found] = client.ask("/predict", lying(zipped({"a.png": bytes(64 << 20)}), 1000)).said["images"]
    assert "a.png: cannot be unpacked" in found["error"]


def test_encoded_bodies_are_not_unpacked(client: Client) -> None:
    assert_refused(client.ask("/predict", IMAGES[0], Content_Encoding="gzip"), 415, "Content-Encoding")


def test_uploads_in_forms_are_not_written_to_disk(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda self: pytest.fail("it was written"))
    large = encoded(noise(1200, 1200, 3))
    body, kind = form(("image", "a.png", large))
    assert len(large) > 2 << 20 and client.ask("/predict", body, Content_Type=kind).status == 200


def test_more_images_than_one_request_may_have(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_PARTS", 2)
    assert_refused(ask_json(client, {"images": BASE64}), 413, "more than 2 images")


# -- several models ----------------------------------------------------------------------------------------------------


def test_each_model_has_its_own_path(client: Client, expected: list[Any]) -> None:
    assert client.ask("/digits/predict", IMAGES[0]).said == expected[0]
    letters = client.ask("/letters/predict", IMAGES[0]).said["classes"]
    assert [each["index"] for each in letters] == [each["index"] for each in expected[0]["classes"]]
    assert {each["class"] for each in letters} <= set("abcdefghij")
    assert client.ask("/letters/explain?class=1", IMAGES[0]).said["class"] == "b"
    assert client.ask("/letters/classes").said == {"model": "letters", "classes": list("abcdefghij")}
    assert client.ask("/classes").said == {"model": "digits", "classes": list("0123456789")}


def test_the_pages_of_several_models_lead_to_each_other(client: Client) -> None:
    for path, up in (("/", ""), ("/digits/", "../"), ("/letters/", "../")):
        said = client.ask(path).said
        assert all(f'href="{up}{name}/"' in said for name in ("digits", "letters"))
        assert f'href="{up}docs"' in said
        assert client.ask(f"{path}page.js").status == client.ask(f"{path}page.css").status == 200
    assert "<h1>letters</h1>" in client.ask("/letters/").said


@pytest.mark.parametrize("prefix", ["", "/photos"])
def test_several_models_behind_a_proxy(prefix: str, digits: Model) -> None:
    """It may take its prefix away before it asks, or leave it."""
    with serving({"a": digits, "b": digits}, access=Access(root_path="/photos")) as client:
        assert client.ask(f"{prefix}/b/predict", IMAGES[0]).status == client.ask(f"{prefix}/b/").status == 200
        status, _, headers = client.ask(f"{prefix}/b")
        assert status == 307 and headers["location"] == "b/"
        assert_refused(client.ask(f"{prefix}/c/predict", IMAGES[0]), 404, "unknown model 'c'")


def test_models_that_are_not_there(client: Client) -> None:
    assert_refused(client.ask("/leters/predict", IMAGES[0]), 404, "unknown model 'leters'", "'letters'")
    assert_refused(client.ask("/v2/models/leters"), 404, "unknown model 'leters'", "'letters'")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["runs/mnist"], ["mnist"]),
        (["a=runs/mnist", "b=x.onnx", "c"], ["a", "b", "c"]),
        (["runs/lr=0.1 é"], ["lr-0.1"]),
        (["a=runs/b=c"], ["a"]),
    ],
)
def test_names_of_models(
    arguments: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/lr=0.1 é").mkdir(parents=True)
    assert list(named_models(arguments)) == names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["v2=x"], "own page"), (["a/predict"], "own page"), (["a=x", "a=y"], "two models are called a"),
     (["x/a", "y/a"], "two models"), (["..=x"], "own page")],
)  # fmt: skip
def test_names_that_cannot_be(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        named_models(arguments)


# -- who runs it -------------------------------------------------------------------------------------------------------


def test_health_and_readiness(client: Client) -> None:
    assert client.ask("/health").said == {"status": "ok"}
    assert client.ask("/ready").said == {"ready": True}


def test_metrics_count_what_was_answered(digits: Model) -> None:
    with serving({"a": digits}) as client:
        for body in (*IMAGES, b"no image"):
            client.ask("/predict", body)
        for number in range(20):
            client.ask(f"/made-up-{number}", b"x")
        status, said, headers = client.ask("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert 'convolve_requests_total{model="a",question="predict",status="200"} 3.0' in said
    assert 'convolve_requests_total{model="a",question="predict",status="415"} 1.0' in said
    assert 'convolve_requests_total{model="",question="other",status="404"} 20.0' in said
    assert 'convolve_request_seconds_count{model="a",question="predict"} 4.0' in said
    assert 'convolve_batch_images_sum{model="a"} 4.0' in said
    assert "made-up" not in said


def test_the_description_is_of_what_is_there(client: Client, digits: Model) -> None:
    document = client.ask("/openapi.json").said
    assert document == openapi(["digits", "letters"]) and document["openapi"].startswith("3.1")
    described = {path.replace("{model}", "digits") for path in document["paths"]}
    routes = create_app({"digits": digits}).routes
    paths = {getattr(route, "path", "") for route in routes}
    asked = {path.replace("/v2/models/{name}", "/v2/models/digits") for path in paths if "/versions/" not in path}
    pages = {"/", "/page.css", "/page.js", "/docs", "/openapi.json"}
    assert described == asked - pages - {f"/digits{page}" for page in pages} - {"/digits"}
    for path, item in document["paths"].items():
        for method in set(item) - {"parameters"}:
            status = client.ask(path.replace("{model}", "digits"), b"x" if method == "post" else None).status
            assert status in (200, 400, 415), (path, method)


def test_the_description_has_a_page(client: Client) -> None:
    status, said, headers = client.ask("/docs")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "POST /predict" in said and "multipart/form-data" in said and "digits, letters" in said


def test_the_description_is_valid() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(openapi(["a"]))
