"""The program of `convert --snippet` names the class that `predict` names: in Python it is run, elsewhere read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_any_size import confident, model_of, photographs

from command_line import Convolve, assert_refused, files_in
from convolve.errors import UnsupportedError
from convolve.export.inputs import natural_images
from convolve.export.snippets import LANGUAGES, File, snippet
from convolve.model import Model
from convolve.records import Metadata, Target, TargetKind
from convolve.transforms.preprocess import Preprocess, fit_image

# (height, width) of images for 24 x 32: tall, wide, smaller, larger, the same, twice the size, one way shrinks. Of the
# last two, a scale that is not rounded as OpenCV rounds it takes another pixel.
SIZES = ((90, 41), (37, 120), (9, 7), (151, 203), (24, 32), (48, 64), (20, 200), (194, 186), (68, 20))
FILTERS = ("area", "linear", "linear_antialiased", "nearest", "cubic", "lanczos")
OFF = {"linear": 0, "nearest": 0, "cubic": 0.001}  # of cubic, halves
WAYS = [("cover", 1.0), ("cover", 0.85), ("squash", 0.85), ("square", 1.0), ("square", 0.85), ("letterbox", 1.0)]
NAMES = ("daisy", 'a "b" \\', "Löwenzahn", "two\nlines", "??/", "🌻")


@pytest.fixture(autouse=True)
def opencv_itself() -> Iterator[None]:
    """Intel's library, which OpenCV's packages for x86 have inside, rounds one pixel of ten in its own way in cubic."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def metadata(names: tuple[str, ...] = ("a", "b", "c"), **more: Any) -> Metadata:
    return replace(model_of().metadata, class_names=names, **more)


def pictures() -> list[np.ndarray]:
    made = [natural_images(1, (3, *size), np.random.default_rng(0))[0] for size in SIZES]
    return [np.ascontiguousarray(image_CHW.transpose(1, 2, 0)) for image_CHW in made]


def assert_fits(got_HWC: np.ndarray, image_HWC: np.ndarray, preprocess: Preprocess) -> None:
    """The same to one level of 255, and to the level but in a few pixels."""
    wanted_CHW, _ = fit_image(np.ascontiguousarray(image_HWC[..., ::-1]), preprocess)
    off = np.abs(got_HWC.astype(int).transpose(2, 0, 1) - wanted_CHW)
    assert off.max() <= 1
    assert (off > 0).mean() <= OFF.get(preprocess.filter, 0.02)


def cases() -> list[Preprocess]:
    sides = {"height": 24, "width": 32}
    made = [
        Preprocess(3, **sides, resize=resize, crop_ratio=ratio, interpolation=way, padding_value=-(resize != "cover"))  # type: ignore[arg-type]
        for resize, ratio in WAYS
        for way in FILTERS
    ]
    return [*made, Preprocess(1, **sides), Preprocess(1, **sides, resize="letterbox", padding_value=114)]


@pytest.mark.parametrize("language", ["python-cv2", "python-pillow"])
def test_python_fits_images_as_the_model_does(language: str) -> None:
    if language == "python-pillow":
        pytest.importorskip("PIL")
    for preprocess in cases():
        text = snippet(language, preprocess, metadata(), File(""))
        values: dict[str, Any] = {}
        exec(text[: text.index("session = ")], values)
        for image_HWC in pictures():
            assert_fits(values["fit"](image_HWC), image_HWC, preprocess)


@pytest.mark.skipif(not shutil.which("node"), reason="node runs it")
def test_javascript_fits_images_as_the_model_does(tmp_path: Path) -> None:
    images, asked = pictures(), cases()
    for number, image_HWC in enumerate(images):
        image_HWC.tofile(tmp_path / f"{number}.raw")
    sizes = json.dumps([image.shape[:2] for image in images])
    for number, preprocess in enumerate(asked):
        text = snippet("javascript", preprocess, metadata(), File(""))
        functions = text[text.index("export async") : text.index("if (globalThis")]
        run = f"""
            import fs from "node:fs";
            {sizes}.forEach(([height, width], i) => {{
              const made = fit({{ data: fs.readFileSync(`${{i}}.raw`), width, height }});
              fs.writeFileSync(`{number}-${{i}}.fit`, made);
            }});"""
        (tmp_path / f"{number}.mjs").write_text(functions + run)
    (tmp_path / "all.mjs").write_text("".join(f'await import("./{number}.mjs");' for number in range(len(asked))))
    subprocess.run(["node", "all.mjs"], cwd=tmp_path, check=True)
    for number, preprocess in enumerate(asked):
        for i, image_HWC in enumerate(images):
            made = np.fromfile(tmp_path / f"{number}-{i}.fit", np.uint8).reshape(24, 32, preprocess.channels)
            assert_fits(made, image_HWC, preprocess)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`said(text, file, paths)`: what the program prints of each image."""

    def run(text: str, file: Path, paths: list[Path]) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["ask.py", str(file), *map(str, paths)])
        capsys.readouterr()
        exec(compile(text, "ask.py", "exec"), {"__name__": "__main__"})
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(": ")[0] for line in lines] == [str(path) for path in paths]
        return [line.split(": ", 1)[1] for line in lines]

    return run


def turned(folder: Path) -> Path:
    """A JPEG image on its side, which EXIF says."""
    [image_CHW] = natural_images(1, (3, 60, 90), np.random.default_rng(9))
    _, encoded = cv2.imencode(".jpg", image_CHW.transpose(1, 2, 0))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    path = folder / "turned.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded.tobytes()[2:])
    return path


def expected(model: Model, paths: list[Path]) -> list[str]:
    found = []
    for one in model.predict(paths):
        name, probability = one.classes[0]
        found.append(f"{'none of these; ' if one.none_of_these else ''}{name} {probability:.3f}")
    return found


@pytest.mark.parametrize("language", ["python-cv2", "python-pillow"])
@pytest.mark.parametrize("form", ["", "--with-preprocessing", "--any-size"])
def test_it_says_what_predict_says(language: str, form: str, said: Any, tmp_path: Path, convolve: Convolve) -> None:
    if language == "python-pillow":
        pytest.importorskip("PIL")
    model = confident(model_of(channel_order="bgr", mean=(120.0, 110.0, 100.0), crop_ratio=0.9))
    model.save(tmp_path / "model")
    file, paths = tmp_path / "net.onnx", [*photographs(tmp_path), turned(tmp_path)]
    words = [form] if form else []
    assert convolve("convert", tmp_path / "model", "--to", "onnx", "--out", file, *words).code == 0
    wanted = expected(model, paths)
    assert len({line.startswith("none") for line in wanted}) == 2
    for asked in ([tmp_path / "model", *words], [file]):  # a file of ours says itself what it takes
        text = convolve("convert", *asked, "--snippet", language).out
        lines = said(text, file, paths)
        assert [line.rsplit(" ", 1)[0] for line in lines] == [line.rsplit(" ", 1)[0] for line in wanted]
        for line, want in zip(lines, wanted, strict=True):
            assert abs(float(line.rsplit(" ", 1)[1]) - float(want.rsplit(" ", 1)[1])) < 2e-3


def test_of_several_classes_it_names_those_over_their_thresholds(said: Any, tmp_path: Path, convolve: Convolve) -> None:
    model = replace(model_of(), target=Target(TargetKind.CLASSES, thresholds=(0.45, 0.5, 0.55)))
    file, paths = tmp_path / "net.onnx", photographs(tmp_path)
    model.export(file)
    lines = said(convolve("convert", file, "--snippet", "python-cv2").out, file, paths)
    found = [[name for name, _ in one.classes] for one in model.predict(paths)]
    assert [re.findall(r"[abc](?= )", line) for line in lines] == found
    assert {len(names) for names in found} != {0}


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_has_the_numbers_of_the_model(language: str) -> None:
    preprocess = Preprocess(3, 224, 160, mean=(1.5, 2.5, 3.5), scale=0.25, crop_ratio=0.875, orientation="stored")
    text = snippet(language, preprocess, metadata(), File("For net.onnx."))
    for number in ("1.5", "2.5", "3.5", "0.25", "256", "183", "224", "160", '"b"', "For net.onnx.", "logits"):
        assert number in text
    assert not any(words in text for words in ("rotate", "exif_transpose", "FARTHEST", "Farthest", "{%", "{{ "))
    known = confident(model_of(channel_order="bgr"))
    assert known.confidence
    farthest = replace(known.confidence.record, farthest=12.75)
    sure = snippet(language, known.preprocess, metadata(confidence=farthest), File("", "any size"))
    assert "12.75" in sure and "probabilities" in sure and "distance" in sure and "120.0" not in sure


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_of_classes_are_strings_of_the_language(language: str) -> None:
    text = snippet(language, Preprocess(3, 8, 8), metadata(NAMES * 20), File(""))
    assert max(map(len, text.splitlines())) < 170
    assert all(line.isprintable() for line in text.splitlines())
    escaped = r'"daisy", "a \042b\042 \134", "Löwenzahn", "two\012lines", "\077\077/", "🌻"'  # C++ knows only these
    plain = r'"daisy", "a \"b\" \\", "Löwenzahn", "two\nlines", "??/", "🌻"'
    assert (escaped if language == "cpp" else plain) in text
    if language.startswith("python"):
        values: dict[str, Any] = {}
        exec(text[text.index("CLASSES") : text.index("def decode")], values)
        assert tuple(values["CLASSES"]) == NAMES * 20


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_path_in_it_is_a_comment(language: str) -> None:
    """Back slashes of Windows escape nothing there, and line breaks of Linux begin no line of the program."""
    path = 'C:\\Users\\new\\"""\n\u2028*/ raise SystemExit'
    text = snippet(language, Preprocess(3, 8, 8), metadata(), File(path))
    assert len(text.splitlines()) == len(snippet(language, Preprocess(3, 8, 8), metadata(), File("")).splitlines())
    [line] = [line for line in text.splitlines() if "SystemExit" in line]
    assert line.startswith(("# C:\\Users", "// C:\\Users"))
    if language.startswith("python"):
        compile(text, "ask.py", "exec")


def test_a_mean_image_is_left_to_the_file(tmp_path: Path, convolve: Convolve) -> None:
    mean_image_CHW = np.full((3, 24, 32), 100, np.float32)
    model = model_of(mean=0.0, mean_image_CHW=mean_image_CHW)
    model.save(tmp_path / "model")
    text = convolve("convert", tmp_path / "model", "--snippet", "cpp").out
    assert "--with-preprocessing --out model.onnx" in text and "MEAN" not in text
    with pytest.raises(UnsupportedError, match="mean image"):
        snippet("cpp", model.preprocess, model.metadata, File(""))


def test_it_is_written_to_a_file(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    out = tmp_path / "ask.cs"
    outcome = convolve("convert", model, "--snippet", "csharp", "--out", out)
    assert (outcome.code, outcome.err) == (0, "") and "--to onnx --out model.onnx" in outcome.out
    assert out.read_text() == convolve("convert", model, "--snippet", "csharp").out
    assert_refused(convolve("convert", model, "--snippet", "csharp", "--out", out), 2, "exists already")


def test_what_has_no_snippet_is_refused(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    assert_refused(convolve("convert", model, "--snippet", "pyton-cv2"), 2, "--snippet", "python-cv2")
    together = convolve("convert", model, "--snippet", "cpp", "--to", "onnx", "--out", tmp_path / "net.onnx")
    assert_refused(together, 2, "--snippet only prints a program")
    assert_refused(convolve("convert", model, "--snippet", "cpp", "--any-size"), 4, "ONNX's Resize lacks")
    numbers = replace(model_of(), target=Target(TargetKind.NUMBER, mean=(0.0,) * 3, spread=(1.0,) * 3))
    numbers.save(tmp_path / "numbers")
    assert_refused(convolve("convert", tmp_path / "numbers", "--snippet", "cpp"), 2, "this model gives numbers")
    four = tmp_path / "four.onnx"
    assert convolve("convert", model, "--to", "onnx", "--out", four, "--batch-size", 4).code == 0
    assert_refused(convolve("convert", four, "--snippet", "cpp"), 2, "takes 4 images at once")
    assert files_in(tmp_path / "out") == []
