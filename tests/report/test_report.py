"""The report of synthetic run folders: structure, numbers against independent formulas, escaping, unfinished runs."""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convolve.errors import DataError, ModelError, UsageError
from convolve.recipe import Recipe, to_mapping
from convolve.report import write_report
from convolve.specs.data import DataSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.transforms.shift import Shift

VOID = {"meta", "img"}  # the elements of the page that have no end tag
MOST_KEPT = 216  # 24, and 8 for each of 24 pairs
NASTY = "<script>alert('x')</script>&\"quoted\""


class Page(HTMLParser):
    """The page as text, tables, images and attributes; fails on a tag that is not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # tag, attribute, value
        self.images: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(f"{text} " for text in self.texts).replace("\u202f", " ").split())

    def table(self, first_head: str) -> list[list[str]]:
        """The rows below the head of the table whose first column is called so."""
        return next(rows[1:] for rows in self.tables if rows[0][0] == first_head)


def make_run(
    folder: Path, *, epochs: int = 6, classes: int = 10, names: list[str] | None = None,
    channels: int = 1, side: int = 8, split: str = "test", name: str = "mnist", images: int = 300,
) -> Path:  # fmt: skip
    """A finished run; tests remove what theirs lacks."""
    (folder / "model").mkdir(parents=True)
    schedule = ScheduleSpec(learning_rates=(0.2, 0.2, 0.05))
    data, run = DataSpec(train_transforms=(Shift(2),)), RunSpec(epochs=epochs)
    write_json(
        folder / "recipe.json", to_mapping(Recipe(name, data, schedule=schedule, run=run, published_error=0.005))
    )
    write_json(folder / "state.json", {"state": "finished"})
    found = {
        "recipe": name, "precision": "bf16", "threads": 2, "device": "cpu", "parameters": 98778,
        "versions": {"convolve": "0.1.0", "torch": "2.13.0"}, "data_name": "mnist", "data_fingerprint": "0f",
        "hardware": {"cpu": "Imaginary 9000", "cores": 2, "memory_gib": 7.5, "gpu": None},
    }  # fmt: skip
    write_json(folder / "start.json", found | {
        "precision_reason": "the self-test agreed", "workers": 1, "from_model": None, "mean_image_sha256": None,
        "data": "the sample", "train_samples": 600, "test_samples": images,
    })  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in make_events(epochs, split)))
    error = save_evaluation(folder, images, classes, side, channels)
    weights = {"conv1.weight": np.ones((5, channels, 3, 3), np.float32), "fc.weight": np.ones((9, 20), np.float32)}
    save_file(weights, folder / "model" / "weights.safetensors")
    write_json(folder / "model" / "model.json", {
        "format": 1, "preprocess": {}, "class_names": names or [str(k) for k in range(classes)], "data": "",
        "training_info": {}, "weights_sha256": "",
    })  # fmt: skip
    write_json(folder / "result.json", found | {
        "test_error": error, "test_error_top5": 0.0123, "test_loss": 0.4567, "epochs": epochs, "model_epoch": None,
        "samples_seen": 600 * epochs, "train_seconds": 83.0, "total_seconds": 90.0, "images_per_second": 7968.4,
        "data_wait_fraction": 0.01, "world_size": 1, "bytes_sent": 0, "seed": 0,
    })  # fmt: skip
    return folder


def make_events(epochs: int, split: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"event": "start", "time": "2026-05-20T10:11:12+00:00", "step": 0}]
    within = {"event": "progress", "batch": 1, "step": 1, "momentum": 0.9}
    for epoch in range(1, epochs + 1):
        events += [
            within | {"epoch": epoch, "samples_seen": 600 * (epoch - 1) + 300, "loss": 1 / epoch,
             "error": 0.2 / epoch, "learning_rate": 0.2, "images_per_second": 200.0},
            within | {"epoch": epoch, "samples_seen": 600 * epoch, "loss": 0.9 / epoch,
             "error": 0.3 / epoch, "learning_rate": 0.1, "images_per_second": 300.0},
            {"event": "epoch", "epoch": epoch, "samples_seen": 600 * epoch, "train_loss": 0.9 / epoch,
             "train_error": 0.3 / epoch, f"{split}_loss": 0.8 / epoch, f"{split}_error": 0.21 / epoch,
             "learning_rate": 0.05, "seconds": 2.0, "evaluation_seconds": 0.0, "images_per_second": 300.0,
             "data_wait_fraction": 0.01},
        ]  # fmt: skip
    return events


def save_evaluation(folder: Path, images: int, classes: int, side: int, channels: int) -> float:
    """A plausible evaluation with random pictures; returns its error."""
    random = np.random.default_rng(7)
    labels_N = random.integers(0, classes, images)
    scores_NK = random.normal(size=(images, classes)) + 2.5 * np.eye(classes)[labels_N]
    probabilities_NK = (np.exp(scores_NK) / np.exp(scores_NK).sum(1, keepdims=True)).astype(np.float32)
    wrong = np.flatnonzero(probabilities_NK.argmax(1) != labels_N)
    kept_M = random.permutation(wrong)[:MOST_KEPT]
    save_file({
        "labels_N": labels_N, "probabilities_NK": probabilities_NK, "kept_indices_M": kept_M,
        "kept_images_MHWC": random.integers(0, 256, (len(kept_M), side, side, channels), dtype=np.uint8),
    }, folder / "evaluation.safetensors")  # fmt: skip
    return len(wrong) / images


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def counted(run: Path) -> tuple[list[int], list[int], list[list[int]]]:
    """Labels, answers and confusion matrix of the run, counted one image at a time."""
    tensors = load_file(run / "evaluation.safetensors")
    labels = [int(label) for label in tensors["labels_N"]]
    answers = [max(range(len(row)), key=row.__getitem__) for row in tensors["probabilities_NK"].tolist()]
    classes = len(tensors["probabilities_NK"][0])
    matrix = [[0] * classes for _ in range(classes)]
    for label, answer in zip(labels, answers, strict=True):
        matrix[label][answer] += 1
    return labels, answers, matrix


def number(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_page_is_one_self_contained_accessible_file(run: Path) -> None:
    path = write_report(run)
    page = Page(path)

    assert path == run / "report.html" and [p.name for p in run.glob("*report*")] == ["report.html"]
    assert page.source.startswith('<!doctype html>\n<html lang="en">')
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|//\w|url\(|@import", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page.source))
    assert all(value.startswith("data:image/png;base64,") for _, name, value in page.attributes if name == "src")
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert page.images and all(image["alt"] for image in page.images)
    drawings = page.tags.count("svg")
    assert drawings == 8 == sum(tag == "svg" and name == "aria-label" for tag, name, _ in page.attributes)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_header_tells_the_result(run: Path) -> None:
    labels, answers, _ = counted(run)
    wrong, text = sum(a != b for a, b in zip(labels, answers, strict=True)), Page(write_report(run)).text

    assert f"{100 * wrong / 300:.2f} % test error {wrong} of 300 wrong" in text
    assert "0.50 % published error" in text
    for expected in ("7,968", "1 min 23 s", "98,778", "0.4567", "1.23 %", "bf16", "20 May 2026"):
        assert expected in text


def test_interval_is_wilsons(run: Path) -> None:
    """Its ends p solve |p - error| = 1.96 sqrt(p (1 - p) / n), the score test that the interval inverts."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    low, high = re.search(r"interval ([\d.]+)–([\d.]+) %", Page(write_report(run)).text).groups()  # type: ignore[union-attr]

    for end in (float(low) / 100, float(high) / 100):
        assert abs(end - result["test_error"]) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / 300), rel=2e-3)


def test_confusion_and_classes_are_counted_right(run: Path) -> None:
    labels, answers, matrix = counted(run)
    page = Page(write_report(run))

    shown = [[int(cell or 0) for cell in row[1:]] for row in page.table("true")]
    assert shown == matrix
    recalls = []
    for k, (name, images, errors, precision, recall, f1) in enumerate(page.table("class")):
        hits = sum(a == b == k for a, b in zip(labels, answers, strict=True))
        assert (name, int(images), int(errors)) == (str(k), labels.count(k), labels.count(k) - hits)
        assert number(precision) == pytest.approx(100 * hits / answers.count(k), abs=0.005)
        assert number(recall) == pytest.approx(100 * hits / labels.count(k), abs=0.005)
        assert number(f1) == pytest.approx(200 * hits / (labels.count(k) + answers.count(k)), abs=0.005)
        recalls.append(hits / labels.count(k))
    balanced = re.search(r"balanced error ([\d.]+)", page.text)
    assert balanced and float(balanced[1]) == pytest.approx(100 * (1 - sum(recalls) / 10), abs=0.005)


def test_class_never_said_has_no_precision(run: Path) -> None:
    path = run / "evaluation.safetensors"
    save_file({
        "labels_N": np.array([0, 0, 1]), "probabilities_NK": np.eye(10, dtype=np.float32)[[0, 2, 0]],
        "kept_indices_M": np.array([1, 2]), "kept_images_MHWC": np.zeros((2, 8, 8, 1), np.uint8),
    }, path)  # fmt: skip
    rows = [[cell.replace("\u202f", " ") for cell in row] for row in Page(write_report(run)).table("class")]

    assert rows[0] == ["0", "2", "1", "50.00 %", "50.00 %", "50.00 %"]
    assert rows[1] == ["1", "1", "1", "–", "0.00 %", "0.00 %"]
    assert rows[2] == ["2", "0", "0", "0.00 %", "–", "0.00 %"]


def test_most_confident_errors_are_the_given_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", channels=3, names=[f"kind {k}" for k in range(10)])
    tensors, (labels, answers, _) = load_file(run / "evaluation.safetensors"), counted(run)
    place = {int(index): position for position, index in enumerate(tensors["kept_indices_M"])}
    surest = sorted(place, key=lambda index: -tensors["probabilities_NK"][index].max())[:24]
    page = Page(write_report(run))
    shown = [image for image in page.images if (image["alt"] or "").startswith("Image")][-24:]

    for image, index in zip(shown, surest, strict=True):
        assert (image["alt"] or "").startswith(
            f"Image {index}: labeled kind {labels[index]}, taken for kind {answers[index]} ("
        )
        np.testing.assert_array_equal(decoded(image), tensors["kept_images_MHWC"][place[index]])


def test_pairs_show_their_own_pictures(run: Path) -> None:
    labels, answers, matrix = counted(run)
    source = write_report(run).read_text(encoding="utf-8").replace("\u202f", " ")
    confused = re.findall(r'<figure class="confused">.*?</figure>', source, re.DOTALL)
    pairs = [
        re.search(r"<b>(.)</b> taken for <b>(.)</b>.*?<small>(\d+) of (\d+) · ([\d.]+) %", text) for text in confused
    ]

    assert len(pairs) == 24
    numbers = [tuple(map(int, pair.groups()[:4])) for pair in pairs if pair]
    for (truth, said, images, of_class), figure in zip(numbers, confused, strict=True):
        assert (images, of_class) == (matrix[truth][said], labels.count(truth))
        shown = [int(index) for index in re.findall(r'alt="Image (\d+)', figure)]
        assert 1 <= len(shown) <= min(8, images)
        assert all((labels[index], answers[index]) == (truth, said) for index in shown)
    counts = [images for _, _, images, _ in numbers]
    assert counts == sorted((matrix[t][s] for t in range(10) for s in range(10) if t != s), reverse=True)[:24]


def test_calibration_is_the_definition(run: Path) -> None:
    """Counted one image at a time: sum over the bins of n_b / N * |accuracy_b - confidence_b|."""
    tensors, (labels, answers, _) = load_file(run / "evaluation.safetensors"), counted(run)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label, answer in zip(tensors["probabilities_NK"].tolist(), labels, answers, strict=True):
        bins.setdefault(math.ceil(15 * max(row)) - 1, []).append((max(row), label == answer))
    gaps = [abs(sum(sure for sure, _ in images) - sum(right for _, right in images)) for images in bins.values()]
    page = Page(write_report(run))

    assert f"{100 * sum(gaps) / 300:.2f} % expected calibration error On average" in page.text
    rows = page.table("confidence")
    assert [int(row[1]) for row in rows] == [len(bins[b]) for b in sorted(bins)]
    for row, b in zip(rows, sorted(bins), strict=True):
        assert number(row[2]) == pytest.approx(100 * sum(sure for sure, _ in bins[b]) / len(bins[b]), abs=0.006)
        assert number(row[3]) == pytest.approx(100 * sum(right for _, right in bins[b]) / len(bins[b]), abs=0.006)


def test_filters_put_zero_at_mid_gray(run: Path) -> None:
    weights = np.zeros((2, 1, 3, 3), np.float32)
    weights[0, 0, 0, 0], weights[1, 0, 2, 1] = 0.5, -1.0
    save_file({"a.bias": np.zeros(2, np.float32), "b.weight": weights}, run / "model" / "weights.safetensors")
    filters = [decoded(image) for image in Page(write_report(run)).images if image["alt"] in ("Filter 1", "Filter 2")]

    assert [int(f[y, x, 0]) for f, y, x in ((filters[0], 0, 0), (filters[1], 2, 1), (filters[0], 1, 1))] == [
        191,
        0,
        128,
    ]


def decoded(image: dict[str, str | None]) -> np.ndarray:
    """The picture of an <img> in RGB, by OpenCV's decoder."""
    data = np.frombuffer(base64.b64decode((image["src"] or "").partition(",")[2]), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels[..., ::-1]


def test_epoch_table_repeats_the_metrics(run: Path) -> None:
    rows = Page(write_report(run)).table("epoch")

    assert len(rows) == 6
    assert [number(cell) for cell in rows[2]] == [3, 0.3, 10, 0.2667, 7, 0.05, 2, 0, 300, 1]


def test_text_from_data_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "<b>run</b>", names=[NASTY, *"123456789"], name="& {{ 7 - 6 }}")
    start = json.loads((run / "start.json").read_text(encoding="utf-8"))
    write_json(run / "start.json", start | {"data": NASTY})
    page = Page(write_report(run))

    assert "script" not in page.tags and "b>run" not in page.source
    for heading in ("h1", "title"):
        assert f"<{heading}>&amp; {{{{" in page.source
    assert page.table("true")[0][0] == NASTY == page.table("class")[0][0]
    assert any(f"labeled {NASTY}" in (image["alt"] or "") or f"taken for {NASTY}" in (image["alt"] or "")
               for image in page.images)  # fmt: skip
    assert page.text.count("{{ 7 - 6 }}") == 3  # heading, title, recipe: data never meets the template


def test_unfinished_run_shows_what_is_there(run: Path) -> None:
    for name in ("result.json", "evaluation.safetensors", "model/model.json", "model/weights.safetensors"):
        (run / name).unlink()
    write_json(run / "state.json", {"state": "running"})
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:8]) + "\n")  # two epochs and a half
    page = Page(write_report(run))

    assert "Unfinished: 2 of 6 epochs." in page.text
    assert "10.50 % test error" in page.text
    assert len(page.tables) == 1 and len(page.table("epoch")) == 2 and not page.images


def test_run_killed_before_its_first_report(run: Path) -> None:
    for path in (
        *run.glob("*.safetensors"),
        *run.glob("model/*"),
        run / "result.json",
        run / "start.json",
        run / "metrics.jsonl",
    ):
        path.unlink()
    write_json(run / "state.json", {"state": "new"})
    page = Page(write_report(run))

    assert "Unfinished: 0 of 6 epochs." in page.text and "svg" not in page.tags


def test_validation_split_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", split="validation")
    assert "test error" in Page(write_report(run)).text  # the last figure is measured on the test set
    write_json(run / "state.json", {"state": "running"})
    text = Page(write_report(run)).text

    assert "3.50 % validation error" in text and "of 300 wrong" not in text  # an interval is for the test set


def test_short_run_draws_the_progress_within_its_epoch(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "run", epochs=1)))
    train = [value for tag, name, value in page.attributes if (tag, name) == ("path", "d")]

    assert "M50.00" in " ".join(train)  # the point at half an epoch


def spoken(page: Page) -> list[str]:
    return [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]


def test_schedule_is_drawn_from_the_recipe_with_its_corners(run: Path) -> None:
    page = Page(write_report(run))

    assert "Learning rate by epoch. last: 0.2 to 0.05" in spoken(page)
    assert "Momentum by epoch. last: 0.9 to 0.9" in spoken(page)
    steps = next(value for tag, name, value in page.attributes if (tag, name) == ("path", "d") and "L33.31" in value)
    assert re.search(r"L33\.31 7\.41L33\.33 76\.85", steps)  # from 0.2 to 0.05 at two of six epochs, axis to 0.216


def test_unfinished_run_shows_the_schedule_to_come(run: Path) -> None:
    write_json(run / "state.json", {"state": "running"})
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:8]) + "\n")  # two epochs and a half

    assert "Learning rate by epoch. last: 0.2 to 0.05; to come: 0.05 to 0.05" in spoken(Page(write_report(run)))


def test_time_is_split(run: Path) -> None:
    text = Page(write_report(run)).text

    assert "computing 11.9 s 99 % waiting for data 0.1 s 1 % Images" in text  # six epochs of 2 s, 1 %
    assert "On Imaginary 9000 with 2 threads in bf16." in text


def test_loss_that_is_not_finite_is_left_out(run: Path) -> None:
    metrics = (run / "metrics.jsonl").read_text(encoding="utf-8")
    (run / "metrics.jsonl").write_text(metrics.replace('"train_loss": 0.15', '"train_loss": NaN'))
    page = Page(write_report(run))

    assert not any("nan" in value for tag, name, value in page.attributes if tag == "path")
    assert page.table("epoch")[5][1] == "nan"


@pytest.mark.parametrize("classes", [2, 30, 1000])
def test_any_number_of_classes_stays_bounded(tmp_path: Path, classes: int) -> None:
    names = [f"a rather long name of class number {k}" for k in range(classes)]
    run = make_run(tmp_path / "run", classes=classes, names=names, channels=3, side=256, images=4000)
    _, _, matrix = counted(run)
    page = Page(write_report(run))

    assert len(page.source) < 4_500_000  # noise is what JPEG is worst at; photographs take a third
    assert len(page.table("class")) == min(classes, 30)
    if classes > 30:
        most = sorted((matrix[t][s] for t in range(classes) for s in range(classes) if s != t), reverse=True)[:30]
        assert [int(row[2]) for row in page.table("label")] == most
        truth, said, images, share = page.table("label")[0]
        assert matrix[names.index(truth)][names.index(said)] == int(images)
        assert number(share) == pytest.approx(100 * int(images) / sum(matrix[names.index(truth)]), abs=0.05)
    else:
        assert len(page.table("true")) == classes


def test_recipe_is_shown_under_the_paths_of_set(run: Path) -> None:
    text = Page(write_report(run)).text
    assert "learning_rates 0.2*2:0.05" in text
    assert "train_transforms shift (pixels 2)" in text
    assert "cpu Imaginary 9000" in text and "torch 2.13.0" in text and "gpu" not in text


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.json is missing"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "error"), [("evaluation.safetensors", DataError), ("model/weights.safetensors", ModelError)]
)
def test_damaged_tensors_are_named(run: Path, name: str, error: type[Exception]) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(error, match=rf"{Path(name).name} is damaged .*; "):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_weights_that_no_memory_can_map(run: Path) -> None:
    (run / "model" / "weights.safetensors").unlink()
    (run / "model" / "weights.safetensors").symlink_to("/proc/self/status")
    with pytest.raises(ModelError, match=r"weights\.safetensors is damaged .*; "):
        write_report(run)


def test_names_that_do_not_match_the_evaluation(run: Path) -> None:
    head = json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))
    write_json(run / "model" / "model.json", head | {"class_names": ["one"]})
    with pytest.raises(DataError, match=r"\(300, 10\); model.json names 1 classes"):
        write_report(run)


def test_the_report_needs_neither_torch_nor_matplotlib() -> None:
    command = "import sys, convolve.report; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
