"""Trainings whose target is no single class: several classes of an image, and numbers, from a table to predict."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve.loading import load
from convolve.training.run_folder import RunFolder

SMALL = (
    "--set=model.variant=tiny", "--set=data.image_size=16", "--set=data.train_transforms=[]", "--threads=1",
    "--set=data.progressive_sizes=", "--set=run.precision=fp32", "--set=run.label_smoothing=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 images with a red and a green patch or without, on noise, and one of a brightness that is a number."""
    folder, rng = tmp_path_factory.mktemp("targets"), np.random.default_rng(0)
    tags, numbers = [["path", "split", "tags"]], [["path", "split", "shine", "half"]]
    for index in range(96):
        image_HWC = rng.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        has, shine = rng.random(2) < 0.5, float(rng.random())
        for k in np.flatnonzero(has):
            image_HWC[8 * k : 8 * k + 6, 1:7, 2 - k] = 230
        image_HWC[4:12, 9:15] = 30 + 200 * shine
        name, part = f"{index:02}.png", ("train", "valid", "test")[max(0, index % 8 - 5)]
        cv2.imwrite(str(folder / name), image_HWC)
        tags.append([name, part, json.dumps([c for c, there in zip(("red", "green"), has, strict=True) if there])])
        numbers.append([name, part, f"{1000 + 100 * shine:.2f}", f"{50 * shine:.2f}"])
    for table, rows in (("tags.csv", tags), ("numbers.csv", numbers)):
        with (folder / table).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def trained(convolve: Convolve, pictures: Path, out: Path, *arguments: object) -> dict[str, object]:
    """The result of a small training."""
    typed = ("--epochs", 25, "--out", out, "--json", *SMALL, *arguments)
    outcome = convolve("train", "cifar10-fast", *typed)
    assert outcome.code == 0, outcome.err
    result: dict[str, object] = json.loads(outcome.out)
    return result


def test_several_classes_from_table_to_answer(pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    run, tags = tmp_path / "run", pictures / "tags.csv"
    result = trained(convolve, pictures, run, "--data", tags, "--set=data.target=classes", "--set=run.keep=best")
    assert result["test_error"] is None and result["test_mean_average_precision"] > 0.9  # type: ignore[operator]
    model = load(run)
    assert model.class_names == ("green", "red") and model.target.kind == "classes"
    assert model.target.thresholds is not None and all(0 < limit < 1 for limit in model.target.thresholds)
    events = RunFolder(run).metrics()
    assert any(getattr(event, "validation_mean_average_precision", None) is not None for event in events)

    figures = json.loads(convolve("evaluate", run, "--data", tags, "--json").out)
    assert figures["test_mean_average_precision"] == pytest.approx(result["test_mean_average_precision"], abs=1e-6)
    assert [row["class"] for row in figures["classes"]] == ["green", "red"]
    assert "mean average precision" in convolve("evaluate", run, "--data", tags).out

    answers = json.loads(convolve("predict", run, pictures / "07.png", pictures / "15.png", "--json").out)["images"]
    probabilities_NK = model.probabilities(np.stack([planes(pictures / "07.png"), planes(pictures / "15.png")]))
    for one, p_K in zip(answers, probabilities_NK.tolist(), strict=True):
        limits = zip(model.class_names, p_K, model.target.thresholds, strict=True)
        assert {each["class"] for each in one["classes"]} == {name for name, p, limit in limits if p >= limit}
    both = convolve("predict", run, pictures / "07.png", "--top", 2).out
    assert "red" in both and "green" in both
    convolve("predict", run, pictures, "--csv", tmp_path / "said.csv")
    with (tmp_path / "said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 96 and {row["classes"] for row in rows} <= {"[]", "red", "green", "red;green", "green;red"}
    assert_export_answers(convolve, run, tmp_path / "net.onnx", pictures, tags)
    page = (run / "report.html").read_text()
    assert "average precision" in page and "Confusion matrix" not in page and "Largest misses" in page
    assert_refused(convolve("predict", run, pictures, "--sort-into", tmp_path / "s"), 2, "--sort-into", "one class")


def assert_export_answers(convolve: Convolve, run: Path, file: Path, pictures: Path, table: Path) -> None:
    """The ONNX file gives what people are told, to onnxruntime, and to convolve as the run does."""
    runtime = pytest.importorskip("onnxruntime")
    assert convolve("convert", run, "--to", "onnx", "--out", file, "--with-preprocessing").code == 0
    session, model = runtime.InferenceSession(str(file)), load(run)
    image_CHW = planes(pictures / "07.png")
    [said_NK] = session.run(None, {"images": image_CHW.transpose(1, 2, 0)[None]})
    np.testing.assert_allclose(said_NK, model.probabilities(image_CHW[None]).numpy(), rtol=1e-4)
    [port] = session.get_outputs()
    assert port.name == ("numbers" if model.target.kind == "number" else "probabilities")
    again = load(file)
    assert (again.target.kind, again.target.thresholds) == (model.target.kind, model.target.thresholds)
    assert again.class_names == model.class_names
    ours, theirs = (convolve("evaluate", each, "--data", table, "--json").out for each in (run, file))
    for name, value in json.loads(ours).items():
        if name.startswith("test_") and name != "test_loss" and value is not None:  # the file knows no standard units
            assert json.loads(theirs)[name] == pytest.approx(value, abs=1e-3), name
    name = "for an image" if model.target.kind == "number" else "an image can have several"
    assert name in (file.parent / "net-model-card.md").read_text()


def planes(path: Path) -> np.ndarray:
    """RGB planes of a picture."""
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1].transpose(2, 0, 1))  # type: ignore[index]


@pytest.mark.parametrize("criterion", ["square_error", "l1"])
def test_numbers_from_table_to_answer(criterion: str, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    run, table = tmp_path / "run", pictures / "numbers.csv"
    columns = ("--data", table, "--columns", "label=shine,label=half")
    settings = ("--set=data.target=number", f"--set=run.criterion={criterion}", "--set=schedule.learning_rates=0.3")
    result = trained(convolve, pictures, run, *columns, *settings)
    assert result["test_error"] is None and result["test_r2"] > 0.3  # type: ignore[operator]
    assert result["test_mean_absolute_error"] < 30  # type: ignore[operator]  # of 100 and of 50 that they span
    model = load(run)
    assert model.class_names == ("shine", "half") and model.target.mean is not None
    assert 1000 < model.target.mean[0] < 1100  # the answers are in the units of the table

    figures = json.loads(convolve("evaluate", run, "--data", table, "--json").out)
    assert figures["test_r2"] == pytest.approx(result["test_r2"], abs=1e-6)
    assert [row["number"] for row in figures["numbers"]] == ["shine", "half"]
    [one] = json.loads(convolve("predict", run, pictures / "07.png", "--json").out)["images"]
    assert 950 < one["numbers"]["shine"] < 1150 and -30 < one["numbers"]["half"] < 80
    convolve("predict", run, pictures / "07.png", "--csv", tmp_path / "said.csv")
    title, row, *_ = (tmp_path / "said.csv").read_text().splitlines()
    assert title == "path,shine,half,error" and float(row.split(",")[1]) == pytest.approx(one["numbers"]["shine"])
    assert_export_answers(convolve, run, tmp_path / "net.onnx", pictures, table)
    page = (run / "report.html").read_text()
    assert "shine: answer by label" in page and "root mean squared error" in page
    assert_refused(convolve("predict", run, pictures / "07.png", "--top", 2), 2, "--top", "numbers")
    other = convolve("evaluate", run, run, "--data", table)
    assert_refused(other, 2, "only models that give each image one class")


@pytest.mark.parametrize("target", ["classes", "number"])
def test_a_fitted_head(target: str, model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    """On frozen features; thresholds come from cross-validation, so that nothing is held out for them."""
    table = ("tags.csv", ()) if target == "classes" else ("numbers.csv", ("--columns", "label=shine"))
    start = ("--from", model, "--set=model.freeze=all", "--set=model.head=linear", "--set=run.epochs=0", "--threads=1")
    typed = ("--data", pictures / table[0], *table[1], f"--set=data.target={target}", "--out", tmp_path / "run", *start)
    outcome = convolve("train", "mnist", *typed, "--json", "--accept", "0.9")
    assert outcome.code == 0, outcome.err
    known = load(tmp_path / "run").confidence
    assert known is not None and (known.record.learned_from, known.record.accept) == ("cross-validation", 0.9)
    assert "held out for validation" not in outcome.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "total time" in page and "images per second" not in page
    found = load(tmp_path / "run").target
    if target == "number":
        assert found.mean is not None and 1000 < found.mean[0] < 1100
    else:
        assert found.thresholds is not None and all(0 < limit < 1 for limit in found.thresholds)
        assert json.loads(outcome.out)["test_mean_average_precision"] > 0.5


def test_a_report_of_two_epochs(pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    """Few epochs are drawn with what was noted within them, where numbers have no error."""
    settings = ("--columns", "label=shine", "--set=data.target=number", "--epochs", 2)
    trained(convolve, pictures, tmp_path / "run", "--data", pictures / "numbers.csv", *settings)
    assert "shine: answer by label" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("epochs", [0, 12])
def test_numbers_come_with_intervals_that_hold_the_true_one(
    epochs: int, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    """From the folds of a fitted head, or from a part that is held out; in all that is said of an image."""
    run, table, columns = tmp_path / "run", pictures / "numbers.csv", ("--columns", "label=shine,label=half")
    start, data = tmp_path / "start", ("--data", table, *columns, "--set=data.target=number")
    trained(convolve, pictures, start, *data, "--epochs", 8, "--set=schedule.learning_rates=0.3")
    slowly = ("--set=optimizer.name=torch.adamw", "--set=schedule.learning_rates=0.003")
    sure = ("--accept", "0.9", "--coverage", "0.8", "--set=model.head=linear", *slowly)
    trained(convolve, pictures, run, *data, "--epochs", epochs, "--from", start, *sure)
    record = json.loads((run / "model" / "model.json").read_text())["confidence"]
    assert record["learned_from"] == ("validation" if epochs else "cross-validation")
    assert len(record["within"]) == 2 and record["temperature"] == 1 and "least_probability" not in record
    told = json.loads(convolve("evaluate", run, "--data", table, *columns, "--json").out)
    assert min(told["within"]) >= 0.4 and told["coverage"] == 0.8 and told["accepted"] >= 0.5
    assert "intervals contain the true number" in convolve("evaluate", run, "--data", table, *columns).out

    cv2.imwrite(str(tmp_path / "strange.png"), np.tile(np.uint8([[[255, 0, 255]], [[0, 255, 0]]]), (8, 16, 1)))
    asked = [pictures / "07.png", tmp_path / "strange.png"]
    own, strange = json.loads(convolve("predict", run, *asked, "--json").out)["images"]
    for name, most in zip(("shine", "half"), record["within"], strict=True):
        low, high = own["intervals"][name]
        assert (high - low) / 2 == pytest.approx(most, rel=1e-4)
        assert (low + high) / 2 == pytest.approx(own["numbers"][name], rel=1e-4)
    for one in (own, strange):
        assert one["none_of_these"] is (one["distance"] > record["farthest"])
    assert strange["none_of_these"] or epochs  # so few steps may forget what the start told apart
    shown = convolve("predict", run, *asked).out.splitlines()
    assert " to " in shown[0] and ("none of these; shine" in shown[1]) is strange["none_of_these"]
    convolve("predict", run, *asked, "--csv", tmp_path / "said.csv")
    row, other = csv.DictReader((tmp_path / "said.csv").open(newline=""))
    assert float(row["shine_from"]) == pytest.approx(own["intervals"]["shine"][0], rel=1e-4)
    assert (other["none_of_these"] == "yes", other["error"]) == (strange["none_of_these"], "")
    assert "possible" not in other
    page = (run / "report.html").read_text()
    assert "How sure it is" in page and "intervals contain the true numbers for" in page and "temperature" not in page
    assert_file_is_as_sure(convolve, run, tmp_path / "sure.onnx", asked)


def assert_file_is_as_sure(convolve: Convolve, run: Path, file: Path, asked: list[Path]) -> None:
    pytest.importorskip("onnxruntime")
    assert convolve("convert", run, "--to", "onnx", "--out", file, "--with-preprocessing").code == 0
    for ours, theirs in zip(load(run).predict(asked), load(file).predict(asked), strict=True):
        assert ours.none_of_these == theirs.none_of_these
        assert ours.distance == pytest.approx(theirs.distance, rel=1e-3)
        if ours.intervals:
            for name, ends in ours.intervals.items():
                assert theirs.intervals and ends == pytest.approx(theirs.intervals[name], rel=1e-4)


def test_several_classes_know_what_is_none_of_them(pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    run, tags, data = tmp_path / "run", pictures / "tags.csv", ("--set=data.target=classes",)
    trained(convolve, pictures, run, "--data", tags, *data, "--accept", "0.9", "--epochs", 8)
    cv2.imwrite(str(tmp_path / "strange.png"), np.tile(np.uint8([[[255, 0, 255]], [[0, 255, 0]]]), (8, 16, 1)))
    asked = [pictures / "07.png", tmp_path / "strange.png"]
    own, strange = json.loads(convolve("predict", run, *asked, "--json").out)["images"]
    assert strange["none_of_these"] and strange["distance"] > own["distance"] and "possible" not in own
    assert json.loads(convolve("evaluate", run, "--data", tags, "--json").out)["accept"] == 0.9
    assert "none of these" in convolve("predict", run, *asked).out
    assert "How sure it is" in (run / "report.html").read_text()
    assert_refused(convolve("predict", run, *asked, "--coverage", "0.8"), 2, "--coverage is for models of one class")
    assert_file_is_as_sure(convolve, run, tmp_path / "sure.onnx", asked)
