"""Packages add networks, recipes and loaders by entry points; a broken one is named and disturbs nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import convolve
from command_line import Convolve
from convolve.errors import ConvolveError, UsageError
from convolve.importers.loaders import LOADERS, find_loader
from convolve.loading import load
from convolve.models import MODELS
from convolve.recipes import RECIPES, load_recipe
from convolve.records import TrainingInfo

CODE = '''
from dataclasses import replace

from torch import nn

from convolve.graph.draft import Draft
from convolve.importers.loader import Imported
from convolve.recipes import load_recipe


def network(spec, shape_CHW, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape_CHW[0] * shape_CHW[1] * shape_CHW[2], classes))


def recipe():
    base = load_recipe("mnist-fast")
    return replace(base, name="acme-digits", model=replace(base.model, name="acme-net", variant=""))


class Book:
    lines = []

    def begin(self, run, folder, parameters):
        self.lines.append(parameters["name"])

    def minibatch(self, step, figures):
        pass

    def epoch(self, epoch, figures):
        self.lines.append(figures["train_loss"] > 0)

    def finish(self, report, model, figures):
        self.lines.append(model.name)

    def close(self, failed):
        self.lines.append(failed)


class SizesLoader:
    """A file that begins with "sizes": an average over each channel of an RGB image of that size."""

    def recognizes(self, path):
        return path.is_file() and path.read_bytes().startswith(b"sizes")

    def read(self, path, overrides):
        draft, size = Draft(), int(path.read_text().split()[1])
        image = draft.input((3, size, size), "image")
        mean = draft.add("reduce_mean", [image], axes=(1, 2), keep_dims=False)
        return Imported(draft.finish([mean], "Acme"), {"channel_order": "rgb", "known_from": "the file"})


loader = SizesLoader()
'''
POINTS = """
[convolve.models]
acme-net = acme_nets:network
alexnet = acme_nets:nothing
[convolve.recipes]
acme-digits = acme_nets:recipe
[convolve.loaders]
acme = acme_nets:loader
[convolve.trackers]
acme-book = acme_nets:Book
"""


def install(folder: Path, name: str, points: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip leaves it, on the path for this test."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(points)
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "acme_nets", POINTS, CODE, monkeypatch)


@pytest.mark.usefixtures("acme")
def test_a_recipe_with_its_network_trains_and_opens_again(tmp_path: Path) -> None:
    assert "acme-digits" in RECIPES and "acme-net" in MODELS and [*MODELS][-1] == "acme-net"
    convolve.train("acme-digits", data="sample", out=tmp_path / "run", epochs=1)
    opened = load(tmp_path / "run")
    assert opened.architecture.name == "acme-net"


@pytest.mark.usefixtures("acme")
def test_a_tracker_follows_a_training(convolve: Convolve, tiny: list[str], tmp_path: Path) -> None:
    outcome = convolve("train", "mnist-fast", *tiny, "--log", "acme-book", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert sys.modules["acme_nets"].Book.lines == ["mnist-fast", True, True, "model", False]


@pytest.mark.usefixtures("acme")
def test_own_rows_come_first() -> None:
    assert MODELS["alexnet"].__module__ == "convolve.models.alexnet"


@pytest.mark.usefixtures("acme")
def test_a_loader_reads_its_files(tmp_path: Path) -> None:
    (tmp_path / "net.sizes").write_text("sizes 8")
    model = load(tmp_path / "net.sizes")
    assert model.preprocess.shape_CHW == (3, 8, 8)
    assert (model.preprocess.channel_order, model.preprocess.known_from) == ("rgb", "the file")
    assert model.training_info == TrainingInfo(imported_from="net.sizes (Acme)")
    (tmp_path / "other.txt").write_text("other")
    assert find_loader(tmp_path / "other.txt") is None


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "\n".join(f"[convolve.{group}]\nodd = odd_nets:net" for group in ("models", "recipes", "loaders"))
    install(tmp_path / "site", "odd_nets", points, "import no_such", monkeypatch)
    words = r"'odd' in convolve.{} comes from the package odd_nets 1.0, which cannot be loaded \(Module.*: .*no_such"
    with pytest.raises(ConvolveError, match=words.format("recipes")):
        load_recipe("odd")
    with pytest.raises(ConvolveError, match=words.format("models")):
        _ = MODELS["odd"]
    (tmp_path / "some.model").write_bytes(b"something")
    with pytest.raises(ConvolveError, match=words.format("loaders")):
        find_loader(tmp_path / "some.model")
    (tmp_path / "net.prototxt").write_text("")
    assert find_loader(tmp_path / "net.prototxt") is LOADERS["caffe"]  # what others take is not disturbed
    with pytest.raises(UsageError, match="did you mean 'odd'"):
        load_recipe("ood")
