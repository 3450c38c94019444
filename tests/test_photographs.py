"""Photographs as people have them: turned by a note in the file, wide, huge, in forms that are not square."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from caffe_files import caffemodel, noise
from PIL import Image
from serving import serving

from command_line import Convolve, assert_refused
from convolve.data.cut_off import cut_off_in_words
from convolve.data.lists import open_list, open_lists
from convolve.data.sources.base64 import open_base64
from convolve.data.sources.files import FileSource
from convolve.data.sources.map_file import open_map_file
from convolve.formats.decode import Decoding
from convolve.formats.image_map import write_image_map
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.scale import Scale

GOLDEN = Path(__file__).parent / "golden" / "img"
# EXIF's number -> how Pillow turns the upright picture into what is stored with it.
BACK = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
NAMES = ("left", "top")


def pictures(folder: Path, numbers: tuple[int, ...] = (1,), count: int = 12) -> Path:
    """PNG files, one class bright at the left, the other at the top, stored as EXIF's `numbers` have it, in turn."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels_HWC = rng.integers(0, 90, (32, 48, 3), dtype=np.uint8)
            bright = (slice(None), slice(0, 24)) if name == "left" else (slice(0, 16), slice(None))
            pixels_HWC[bright] += 120
            number, exif = numbers[index % len(numbers)], Image.Exif()
            exif[0x112] = number
            picture = Image.fromarray(pixels_HWC)
            stored = picture.transpose(BACK[number]) if number != 1 else picture
            stored.save(folder / name / f"{index:02}.png", exif=exif)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same pictures twice: stored upright, and as phones store them."""
    folder = tmp_path_factory.mktemp("sets")
    return pictures(folder / "up" / "photos"), pictures(folder / "turned" / "photos", (6, 8, 3, 1))


SETTINGS = [
    "--set=model.variant=tiny", "--set=run.epochs=2", "--set=run.threads=1", "--set=run.precision=fp32",
    "--set=run.global_batch_size=8", "--set=data.image_size=24", "--set=data.train_transforms=[]",
]  # fmt: skip


def weights(run: Path) -> str:
    return str(json.loads((run / "model" / "model.json").read_text())["weights_sha256"])


def test_training_evaluation_prediction_and_the_server_turn_them(
    sets: tuple[Path, Path], tmp_path: Path, convolve: Convolve
) -> None:
    runs = []
    for place in sets:
        runs.append(tmp_path / place.parent.name)
        trained = convolve("train", "cifar10-aug", "--data", place, "--out", runs[-1], *SETTINGS)
        assert trained.code == 0 and "turned as EXIF says" in trained.err
    model = load(runs[0])
    assert model.preprocess.orientation == "exif"
    up, turned = (model.evaluate(model.dataset(open_list(place))).probabilities_NK for place in sets)
    np.testing.assert_array_equal(up, turned)
    answers = [[each.classes for each in model.predict([place / name for name in NAMES])] for place in sets]
    assert answers[0] == answers[1]
    with serving(model) as client:
        for name in ("left/00.png", "top/02.png"):
            seen = [client.ask("/predict?seen=1", (place / name).read_bytes())[1]["seen"] for place in sets]
            assert decoded(seen[0]).shape == (24, 24, 3)
            np.testing.assert_array_equal(decoded(seen[0]), decoded(seen[1]))


def decoded(data_url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url.split(",")[1]))).convert("RGB"))


def test_the_same_bits_are_trained_from_turned_pictures(
    sets: tuple[Path, Path], tmp_path: Path, convolve: Convolve
) -> None:
    """With parts of their own, so that the same pictures are trained on."""
    found = []
    for place in sets:
        for part in ("train", "test"):
            write_image_map(
                place.parent / f"{part}_map.txt",
                [(str(file), NAMES.index(file.parent.name)) for file in sorted(place.rglob("*.png"))],
            )
        out = tmp_path / place.parent.name
        assert convolve("train", "cifar10-aug", "--data", place.parent, "--out", out, *SETTINGS).code == 0
        found.append(weights(out))
    assert found[0] == found[1]


def test_stored_is_a_choice_that_the_model_carries(sets: tuple[Path, Path], tmp_path: Path, convolve: Convolve) -> None:
    turned = sets[1]
    stored = "--set=data.orientation=stored"
    assert convolve("train", "cifar10-aug", "--data", turned, "--out", tmp_path, *SETTINGS, stored).code == 0
    assert "as stored, whatever EXIF says" in convolve("show", tmp_path).out
    assert json.loads(convolve("show", tmp_path, "--json").out)["preprocess"]["orientation"] == "stored"
    assert_refused(
        convolve("train", "cifar10-aug", "--data", turned, "--set=data.orientation=up"), 2, "data.orientation", "stored"
    )


def test_cntks_readers_turn_files_of_their_own_alone(tmp_path: Path) -> None:
    """Golden: what CNTK made of these eight pictures, from files, and from a zip archive, where EXIF did not count."""
    theirs, folder = np.load(GOLDEN / "exif" / "turned.npz"), GOLDEN / "exif"
    names = [f"o{number}" for number in range(1, 9)]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in names:
            archive.write(folder / f"{name}.jpg", f"{name}.jpg")
    write_image_map(tmp_path / "files.txt", [(str(folder / f"{name}.jpg"), 0) for name in names])
    write_image_map(tmp_path / "zip.txt", [(f"{tmp_path}/all.zip@/{name}.jpg", 0) for name in names])
    texts = [base64.b64encode((folder / f"{name}.jpg").read_bytes()).decode() for name in names]
    (tmp_path / "base64.txt").write_text("".join(f"0\t{text}\n" for text in texts))
    parts: dict[str, FileSource] = {
        "files": open_map_file(tmp_path / "files.txt"), "zip": open_map_file(tmp_path / "zip.txt"),
        "base64": open_base64(tmp_path / "base64.txt"),
    }  # fmt: skip
    for kind, part in parts.items():
        for index, name in enumerate(names):
            image_HWC = Scale(64, 64).apply(part.load(index, Decoding(orientation="cntk")))
            expected_CHW = theirs[name if kind == "files" else "o1"]
            np.testing.assert_array_equal(image_HWC.transpose(2, 0, 1), expected_CHW)
            upright_HWC = Scale(64, 64).apply(part.load(index, Decoding()))
            np.testing.assert_array_equal(upright_HWC.transpose(2, 0, 1), theirs[name])


# -- size and form -----------------------------------------------------------------------------------------------------


def test_large_pictures(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    """A photograph of 67.2 megapixels is decoded at a half; another kind needs to be allowed."""
    image_HWC = np.zeros((8200, 8200), np.uint8)
    image_HWC[4000:5000, 4000:5000] = 255
    (tmp_path / "set" / "0").mkdir(parents=True)
    for ending in (".jpg", ".png"):
        assert cv2.imwrite(str(tmp_path / "set" / "0" / f"a{ending}"), image_HWC, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    jpeg, png = tmp_path / "set" / "0" / "a.jpg", tmp_path / "set" / "0" / "a.png"
    assert convolve("predict", model, jpeg).code == 0
    refused = (
        "8200 x 8200 pixels, more than the limit of 67,108,864; make it smaller, or raise the limit with --max-meg"
    )
    for command in (("predict", model, png), ("evaluate", model, "--data", tmp_path / "set")):
        outcome = convolve(*command)
        assert outcome.code == 3 and refused in outcome.err
        assert convolve(*command, "--max-megapixels", 68).code == 0
    assert refused not in convolve("check-data", tmp_path / "set", "--max-megapixels", 68).out


@pytest.fixture
def ends(tmp_path: Path) -> tuple[str, Path]:
    """A Caffe network of 40x20 that tells which end of a picture is bright, and such pictures, of that size."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(8):
        pixels_HWC = rng.integers(0, 100, (20, 40, 3), dtype=np.uint8)
        pixels_HWC[:, slice(0, 8) if number % 2 == 0 else slice(32, 40)] += 150
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), pixels_HWC)
        lines.append((str(tmp_path / f"{number}.png"), number % 2))
    write_image_map(tmp_path / "map.txt", lines)
    weight = np.zeros((2, 3, 20, 40), np.float32)
    weight[0, :, :, :8] = weight[1, :, :, 32:] = 1e-4
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"ip": [weight.reshape(2, -1)]}))
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" '
        "input_param { shape: { dim: 1 dim: 3 dim: 20 dim: 40 } } }\n"
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        "inner_product_param { num_output: 2 bias_term: false } }\n"
        'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }\n'
    )
    return f"{tmp_path / 'net.prototxt'}+{tmp_path / 'net.caffemodel'}", tmp_path / "map.txt"


def test_a_network_that_is_not_square_sees_whole_pictures(
    ends: tuple[str, Path], tmp_path: Path, convolve: Convolve
) -> None:
    pair, place = ends
    assert json.loads(convolve("evaluate", pair, "--data", place, "--json").out)["errors"] == 0
    predicted = convolve("predict", pair, tmp_path / "0.png")
    assert predicted.code == 0 and "cropped" not in predicted.err
    said = convolve("show", pair).out
    assert "whole image scaled to 40x20 BGR" in said and "as stored, whatever EXIF says" in said
    assert json.loads(convolve("evaluate", pair, "--data", place, "--json", "--resize", "square").out)["errors"] > 0
    asked = convolve("show", pair, "--resize", "cover", "--crop-ratio", 0.5)
    assert "image scaled to cover 80x40, of which the central 40x20" in asked.out
    assert "assumed" in asked.out  # the mean still is
    assert_refused(convolve("show", pair, "--resize", "fill"), 2, "preprocess.resize", "letterbox")
    assert_refused(convolve("show", pair, "--crop-ratio", 2), 2, "crop_ratio", "(0, 1]")


def test_what_a_prototxt_says_of_the_size(tmp_path: Path) -> None:
    """Caffe's ImageData scales whole pictures to new_width x new_height, then cuts crop_size from the center."""
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"ip": [noise("w", (5, 3, 20, 20)), noise("b", (5,))]}))

    def opened(settings: str) -> Model:
        (tmp_path / "net.prototxt").write_text(
            'layer { name: "data" type: "ImageData" top: "data" top: "label" '
            f'transform_param {{ crop_size: 20 mean_value: 9 }} image_data_param {{ source: "list" {settings} }} }}\n'
            'layer { name: "ip" type: "Convolution" bottom: "data" top: "ip" '
            "convolution_param { num_output: 5 kernel_size: 20 } }\n"
            'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
        )
        return load(f"{tmp_path / 'net.prototxt'}+{tmp_path / 'net.caffemodel'}")

    found = opened("new_height: 25 new_width: 25").preprocess
    assert (found.resize, found.crop_ratio, found.orientation) == ("squash", 0.8, "stored")
    assert opened("").preprocess.resize == "square"
    other: Any = opened("new_height: 25 new_width: 50")
    assert other.preprocess.resize == "square"
    assert any("choose with --resize and --crop-ratio" in note for note in other.architecture.notes)


def test_wide_pictures_can_be_seen_whole(tmp_path: Path, convolve: Convolve) -> None:
    """What tells the classes apart lies at one end: a cut to a square leaves chance, and it is said."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a", "b")):
        (tmp_path / "wide" / name).mkdir(parents=True)
        for index in range(20):
            pixels_HWC = rng.integers(0, 90, (24, 96, 3), dtype=np.uint8)
            pixels_HWC[:, :20] += np.uint8(120 * number)
            assert cv2.imwrite(str(tmp_path / "wide" / name / f"{index}.png"), pixels_HWC)
    errors = {}
    for words in ("resize=cover", "resize=letterbox", "resize=squash", "image_size=64x16"):
        out = tmp_path / words
        settings = [*SETTINGS, f"--set=data.{words}", "--set=run.epochs=6", "--set=data.progressive_sizes="]
        trained = convolve("train", "cifar10-fast", "--data", tmp_path / "wide", "--out", out, *settings, "--json")
        assert trained.code == 0, trained.err
        errors[words] = json.loads(trained.out)["test_error"]
        assert ("75% of a typical picture is cut off; data.resize=letterbox" in trained.err) == (
            words == "resize=cover"
        )
    assert errors["resize=cover"] > 0.2 > max(error for words, error in errors.items() if words != "resize=cover")


def test_how_much_is_cut_off(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            assert cv2.imwrite(str(tmp_path / name / f"{index}.png"), np.full((30, 100, 3), index, np.uint8))
    (tmp_path / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    source = open_lists(tmp_path).train
    assert "70% of a typical picture is cut off" in cut_off_in_words(source, Preprocess(3, 32, 32))
    assert "70% of" in cut_off_in_words(source, Preprocess(3, 32, 32, resize="square"))
    assert "75% of" in cut_off_in_words(source, Preprocess(3, 30, 100, crop_ratio=0.5))
    for whole in ({"resize": "letterbox"}, {"resize": "squash"}, {"width": 64}):
        values: dict[str, Any] = {"width": 32} | whole
        assert cut_off_in_words(source, Preprocess(3, 32, **values)) == ""


def test_an_override_is_for_the_size_alone(model: Path) -> None:
    opened = load(model, PreprocessOverrides(resize="letterbox"))
    found = opened.preprocess
    assert (found.resize, found.padding_value, found.known_from) == ("letterbox", 114, "training")
