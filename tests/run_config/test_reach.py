"""A configuration from a stranger: where it may write, over what, and what its files must be."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from command_line import Convolve, assert_failed, assert_refused, files_in
from convolve.errors import UsageError
from convolve.formats.ctf import write_ctf
from convolve.run_config.reach import reach_of

NETWORK = """
BrainScriptNetworkBuilder = [ features = Input {784} ; labels = Input {10} ; z = LinearLayer {10} (features)
    py = Softmax (z) ; ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
    featureNodes = (features) ; labelNodes = (labels) ; criterionNodes = (ce) ; evaluationNodes = (errs)
    outputNodes = (z) ]
"""
OLDER = {
    "BrainScript": NETWORK,
    "NDL": """NDLNetworkBuilder = [ run = net ; net = [ features = Input(784) ; labels = Input(10)
        W = Parameter(10, 784) ; b = Parameter(10) ; z = Plus(Times(W, features), b)
        ce = CrossEntropyWithSoftmax(labels, z) ; FeatureNodes = (features) ; LabelNodes = (labels)
        CriteriaNodes = (ce) ; OutputNodes = (z) ] ]""",
    "Simple": """SimpleNetworkBuilder = [ layerSizes = 784:10 ; trainingCriterion = CrossEntropyWithSoftmax
        evalCriterion = ErrorPrediction ; layerTypes = Sigmoid ; addDropoutNodes = false ]""",
}
FRAME = """
command = Train:Out
{more}
modelPath = "{model}"
reader = [ readerType = CNTKTextFormatReader ; file = "train.txt"
    input = [ features = [ dim = 784 ; format = dense ] ; labels = [ dim = 10 ; format = dense ] ] ]
Train = [
    action = train
    {network}
    SGD = [ epochSize = 16 ; minibatchSize = 16 ; maxEpochs = 1 ; learningRatesPerSample = 0.01 ]
]
Out = [ action = write ; epochSize = 3 ; outputPath = "{out}" ; outputNodeNames = z ; {form} ]
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data, beside the folder of somebody."""
    (tmp_path / "work").mkdir()
    (tmp_path / "victim").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    write_ctf(Path("train.txt"), np.arange(16) % 10, np.zeros((16, 784), np.uint8), 10)
    return tmp_path


def config(*, network: str = NETWORK, more: str = "", model: str = "net", out: str = "out", form: str = "") -> str:
    Path("net.cntk").write_text(
        FRAME.format(network=network, more=more, model=model, out=out, form=form), encoding="utf-8"
    )
    return "net.cntk"


@pytest.mark.parametrize("language", OLDER)
@pytest.mark.parametrize("what", ["model", "out", "more"])
def test_nothing_is_written_elsewhere(language: str, what: str, places: Path, convolve: Convolve) -> None:
    text = f'stderr = "{places}/victim/x"' if what == "more" else f"{places}/victim/x"
    name = config(network=OLDER[language], **{what: text})
    before = files_in(places)
    assert_failed(convolve("run", name), 2, "victim/x", "--allow-outside permits it")
    assert files_in(places) == before


@pytest.mark.parametrize("way", ["../victim/x", "$rootDir$/x", "link/x"])
def test_ways_out(way: str, places: Path, convolve: Convolve) -> None:
    """Up, through a rootDir that is somebody's home, through a link."""
    (places / "home").mkdir()
    Path("link").symlink_to(places / "victim")
    name = config(model=way, more=f'rootDir = "{places}/home"')
    assert_failed(convolve("run", name), 2, "--allow-outside")
    assert files_in(places / "victim") == files_in(places / "home") == []


def test_what_the_user_names_is_written(places: Path, convolve: Convolve) -> None:
    elsewhere = places / "else"
    settings = (f"modelPath={elsewhere}/net", f"stderr={elsewhere}/log", f"Out=[outputPath={elsewhere}/out]")
    assert convolve("run", config(), *settings).code == 0
    assert {"net", "out.z", "log_Train_Out.log"} <= {path.name for path in elsewhere.iterdir()}
    assert convolve("run", config(model=f"{places}/victim/net"), "--allow-outside", "command=Train").code == 0
    assert (places / "victim/net/model.json").exists()
    assert convolve("run", config(model="$rootDir$/net", more=f'rootDir = "{places}/root"'), "command=Train").code == 0
    assert (places / "root/net/model.json").exists()


def test_a_file_that_convolve_did_not_write_stays(places: Path, convolve: Convolve) -> None:
    Path("out.z").write_text("mine", encoding="utf-8")
    assert_failed(convolve("run", config()), 2, "out.z exists, and convolve did not write it")
    assert Path("out.z").read_text(encoding="utf-8") == "mine"
    Path("out.z").unlink()
    assert convolve("run", config(), "command=Out").code == 0
    assert convolve("run", config(), "command=Out").code == 0  # its own, again
    Path("out.z").write_text("mine, now", encoding="utf-8")
    assert_failed(convolve("run", config(), "command=Out"), 2, "move it away")
    Path("out.z").unlink()
    Path("out.z").symlink_to("another")
    assert_failed(convolve("run", config(), "command=Out"), 2, "move it away")


@pytest.mark.parametrize(("system", "folder"), [("win32", "Roaming/Start"), ("darwin", "Library/LaunchAgents")])
def test_a_root_is_not_where_programs_look(
    system: str, folder: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in the one is started with Windows, with macOS in the other."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("APPDATA", str(places / "home/Roaming"))
    for root, is_one in ((folder, False), ("pictures", True)):
        reach = reach_of([config(more=f'rootDir = "{places}/home/{root}"')], allow_outside=False)
        with nullcontext() if is_one else pytest.raises(UsageError, match="--allow-outside"):
            reach.require(places / "home" / root / "net")


@pytest.mark.parametrize("name", ["model.json", "model-card.md"])
@pytest.mark.parametrize("ending", ["", ".0", ".1"])
def test_a_folder_of_somebody_else_gets_no_model(name: str, ending: str, places: Path, convolve: Convolve) -> None:
    folder = Path(f"net{ending}")
    folder.mkdir()
    (folder / name).write_text("{}")
    assert_failed(convolve("run", config(), "command=Train", "makeMode=false"), 2, "convolve did not write")
    assert (folder / name).read_text() == "{}"


def test_a_file_of_labels_is_one(places: Path, convolve: Convolve) -> None:
    assert convolve("run", config(), "command=Train").code == 0
    form = "format = [ type = category ; labelMappingFile = {} ]"
    for name, content in {"passwd": b"root:x:0\n" * 25, "zero": b"", "bytes": b"\xff\xfe\n" * 10}.items():
        Path(name).write_bytes(content)
        assert_failed(convolve("run", config(form=form.format(name)), "command=Out"), 3, name, "labelMappingFile")
        assert not Path("out.z").exists()
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
        assert_failed(convolve("run", config(form=form.format("pipe")), "command=Out"), 3, "pipe")
    Path("names").write_text("\n".join("abcdefghij"), encoding="utf-8")
    assert convolve("run", config(form=form.format("names")), "command=Out").code == 0
    assert set(Path("out.z").read_text(encoding="utf-8").split()) <= set("abcdefghij")


def test_a_log_that_cannot_be_written_is_said(places: Path, convolve: Convolve) -> None:
    Path("file").write_text("", encoding="utf-8")
    assert_refused(convolve("run", config(more='stderr = "file/log"')), 1, "cannot write", "file")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe_Train_Out.log")
        assert_refused(convolve("run", config(more='stderr = "pipe"')), 1, "cannot write", "pipe_Train_Out.log")
    Path("link_Train_Out.log").symlink_to(places / "victim/log")
    assert_refused(convolve("run", config(more='stderr = "link"'), "--allow-outside"), 1, "link_Train_Out.log")
    assert files_in(places / "victim") == []


def test_a_hidden_or_high_root_is_none(places: Path) -> None:
    for root in ("/", str(places / "home"), str(places), str(places / "home/.config/autostart")):
        config(more=f'rootDir = "{root}"')
        with pytest.raises(UsageError, match="--allow-outside"):
            reach_of(["net.cntk"], allow_outside=False).require(Path(root) / "x")
