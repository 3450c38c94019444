"""Planted faults: all are found, each with its place; nothing is found where nothing is wrong."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import cifar10_files
from command_line import Convolve, assert_refused
from convolve.checking.alike import SAME
from convolve.checking.check import check_data
from convolve.checking.finding import KINDS, MOST_KEPT, Findings
from convolve.data.options import DataOptions
from convolve.formats.ctf import write_ctf
from convolve.formats.idx import read_idx
from convolve.formats.mean_xml import write_mean_xml
from convolve.formats.table import Columns
from idx_files import write_idx

# Legend: H rows, W columns, C channels (B, G, R).

COUNT, CLASSES = 40, 4


def picture(number: int, size: tuple[int, int] = (72, 96)) -> np.ndarray:
    """A scene like no other: a few soft spots of color on a slope, darker below, as photographs have them."""
    rng = np.random.default_rng(number)
    spots = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image_HWC = cv2.resize(spots, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
    slope_H = np.linspace(40, -40, size[0], dtype=np.float32)[:, None, None]
    return np.clip(image_HWC + slope_H + np.float32([0, 20, 40]), 0, 255).astype(np.uint8)


def save(path: Path, image_HWC: np.ndarray, quality: int = 95) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path


def mapped(folder: Path, part: str, numbers: range) -> Path:
    """Pictures and a map file of them: class = number modulo CLASSES."""
    for number in numbers:
        save(folder / part / f"{number}.jpg", picture(number))
    lines = (f".../{part}/{number}.jpg\t{number % CLASSES}\n" for number in numbers)
    (folder / f"{part}_map.txt").write_text("".join(lines))
    return folder / f"{part}_map.txt"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    mapped(folder, "train", range(COUNT))
    mapped(folder, "test", range(COUNT, COUNT + 10))
    (folder / "labels.txt").write_text("ant\nbee\ncat\ndog\n")
    mean_HWC = np.mean([cv2.resize(picture(n), (24, 18), interpolation=cv2.INTER_AREA) for n in range(COUNT)], axis=0)
    write_mean_xml(folder / "mean.xml", mean_HWC)
    return folder


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    """A copy to plant faults in."""
    return Path(shutil.copytree(clean, tmp_path / "data"))


def edit(path: Path, line: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[line - 1] = text
    path.write_text("".join(lines), encoding="utf-8")


def found(source: Path, **options: Path) -> list[tuple[str, str]]:
    """(kind, place) of each finding, places relative to the folder."""
    base = f"{source if source.is_dir() else source.parent}/"
    findings = check_data(source, **options).findings
    assert sum(findings.counts.values()) == len(findings.kept)
    assert all(finding.mend and finding.what for finding in findings.kept)
    return sorted((finding.kind, finding.place.replace(base, "")) for finding in findings.kept)


def test_nothing_is_found_where_nothing_is_wrong(clean: Path, convolve: Convolve) -> None:
    outcome = convolve("check-data", clean)
    assert outcome == (0, "40 training images and 10 test images: nothing found\n", "")
    assert found(clean / "train_map.txt", test=clean / "test_map.txt") == []


def test_planted_faults_of_a_map_file(folder: Path) -> None:
    train, test = folder / "train", folder / "test"
    train_map = folder / "train_map.txt"
    (train / "0.jpg").write_bytes((train / "0.jpg").read_bytes()[:-200])  # cut off
    (train / "1.jpg").write_bytes(b"no image at all")
    (train / "2.jpg").write_bytes(b"")
    (train / "3.jpg").unlink()
    shutil.copy(train / "4.jpg", train / "8.jpg")  # exact, one class
    save(train / "12.jpg", picture(16), quality=75)  # saved anew, one class
    save(train / "9.jpg", cv2.resize(picture(6), (48, 36), interpolation=cv2.INTER_AREA))  # half the size, two classes
    shutil.copy(test / "40.jpg", train / "20.jpg")
    save(train / "21.jpg", picture(41), quality=80)
    shutil.copy(test / "42.jpg", test / "46.jpg")
    save(train / "extra.jpg", picture(999))
    edit(train_map, 30, ".../train/29.jpg   1\n")  # blanks
    edit(train_map, 31, ".../train/30.jpg\tdog\n")
    edit(train_map, 32, ".../train/31.jpg\t4\n")  # labels.txt names four classes
    edit(train_map, 33, ".../train/32.jpg\t\n")
    edit(train_map, 34, ".../train/35.jpg\t3\n")  # listed twice
    assert found(folder) == sorted([
        ("damaged image", "train_map.txt: line 1"), ("damaged image", "train_map.txt: line 2"),
        ("damaged image", "train_map.txt: line 3"), ("missing image", "train_map.txt: line 4"),
        ("duplicate", "train_map.txt: line 9: train/8.jpg"), ("duplicate", "train_map.txt: line 17: train/16.jpg"),
        ("two labels", "train_map.txt: line 10: train/9.jpg"), ("leak", "train_map.txt: line 21: train/20.jpg"),
        ("leak", "train_map.txt: line 22: train/21.jpg"), ("duplicate", "test_map.txt: line 7: test/46.jpg"),
        ("unlabeled", "train"), ("blanks for tabs", "train_map.txt: line 30"), ("bad line", "train_map.txt: line 31"),
        ("bad line", "train_map.txt: line 32"), ("bad line", "train_map.txt: line 33"),
        ("duplicate", "train_map.txt: line 36: train/35.jpg"),
    ])  # fmt: skip


def test_what_a_finding_says(folder: Path, convolve: Convolve) -> None:
    shutil.copy(folder / "test" / "40.jpg", folder / "train" / "21.jpg")
    edit(folder / "train_map.txt", 30, ".../train/29.jpg 1\n")
    outcome = convolve("check-data", folder)
    assert (outcome.code, outcome.err) == (3, "")
    lines = outcome.out.splitlines()
    place = f"{folder}/train_map.txt: line"
    assert lines[0] == "blanks instead of tabs: 1"
    assert lines[1].startswith(f"  {place} 30: two or three columns") and "sed -i" in lines[1]
    leak = f"{place} 22: {folder}/train/21.jpg: is the same as {folder}/test_map.txt: line 1: {folder}/test/40.jpg"
    assert f"  {leak}; labels: here bee, there ant; take it out of the training part" in lines
    assert lines[-1] == "40 training images and 10 test images: 2 findings"  # 29.jpg counts as listed
    result = json.loads(convolve("check-data", folder, "--json").out)
    assert result["images"] == {"training": 40, "test": 10}
    assert result["counts"] == {"blanks for tabs": 1, "leak": 1}
    assert {"kind", "place", "what", "mend"} == result["findings"][0].keys()


def test_the_mend_for_blanks_mends_them(folder: Path) -> None:
    folder = folder.rename(folder.with_name("photos of bees"))
    path = folder / "train_map.txt"
    path.write_text(path.read_text().replace("\t", "  "))
    findings = check_data(path, folder / "test_map.txt").findings
    assert findings.counts == {"blanks for tabs": COUNT}
    command = findings.kept[0].mend.partition(": ")[2]
    assert os.system(command) == 0  # it names the file
    assert found(folder) == []


def test_a_bad_line_is_one_finding(folder: Path) -> None:
    """Its image is listed, its class may be the one that is missing, and what is no path is no folder to look into."""
    long_name = "a_name_of_more_than_forty_letters_and_a_blank_behind.jpg"
    (folder / "train" / "39.jpg").rename(folder / "train" / long_name)
    edit(folder / "train_map.txt", 40, f".../train/{long_name} 3\n")
    edit(folder / "train_map.txt", 31, ".../train/30.jpg\n")
    edit(folder / "train_map.txt", 1, "# a photograph a line\n")
    (folder / "train" / "0.jpg").unlink()
    assert found(folder) == [
        ("bad line", "train_map.txt: line 1"), ("bad line", "train_map.txt: line 31"),
        ("blanks for tabs", "train_map.txt: line 40"),
    ]  # fmt: skip
    (folder / "train_map.txt").write_text("".join(f".../train/{n}.jpg\t{n}\n" for n in (1, 2)) + ".../train/3.jpg\t\n")
    (folder / "labels.txt").unlink()
    assert [kind for kind, _ in found(folder / "train_map.txt")] == ["bad line", "unlabeled"]


def test_one_class_only(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "ant" / f"{number}.png", picture(number))
    (tmp_path / "train_map.txt").write_text("".join(f".../ant/{number}.png\t0\n" for number in range(3)))
    assert found(tmp_path / "train_map.txt") == [("gap", "train_map.txt: line 1")]
    (tmp_path / "train_map.txt").unlink()
    assert found(tmp_path) == [("gap", "ant/0.png")]


def test_a_name_that_is_no_text(folder: Path, convolve: Convolve) -> None:
    with (folder / "train_map.txt").open("ab") as file:
        file.write(b".../train/caf\xe9.jpg\t0\n")
    outcome = convolve("check-data", folder)
    assert (outcome.code, outcome.err) == (3, "") and r"caf\udce9.jpg" in outcome.out
    assert json.loads(convolve("check-data", folder, "--json").out)["counts"] == {"missing image": 1}


@pytest.mark.parametrize(
    ("labels", "kinds"), [("0 1 3", 1), ("1 2", 1), ("0 1 2", 0), ("0 7000000", 1)]
)  # of three pictures
def test_gaps_in_labels(labels: str, kinds: int, tmp_path: Path) -> None:
    lines = []
    for number, label in enumerate(labels.split()):
        save(tmp_path / "a" / f"{number}.png", picture(number))
        lines.append(f".../a/{number}.png\t{label}\n")
    (tmp_path / "train_map.txt").write_text("".join(lines))
    assert found(tmp_path) == [("gap", f"train_map.txt: line {len(lines)}")][:kinds]


def test_planted_faults_of_a_table(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "in" / f"{number}.png", picture(number))
    rows = [f"in/{number}.png,{'ant' if number % 2 else 'bee'}\n" for number in range(8)]
    rows[3], rows[5] = "in/3.png,\n", "in/5.png\n"
    rows[6] = "in/60.png,bee\n"
    (tmp_path / "train.csv").write_text("path,label\n" + "".join(rows))
    save(tmp_path / "in" / "8.png", picture(8))
    (tmp_path / "test.csv").write_text("path,label\nin/8.png,cow\n")
    assert found(tmp_path) == [
        ("bad line", "train.csv: line 5"), ("bad line", "train.csv: line 7"), ("gap", "test.csv: line 2"),
        ("missing image", "train.csv: line 8"), ("unlabeled", "in"),
    ]  # fmt: skip


def test_planted_faults_of_class_folders(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / ("ant" if number % 2 else "bee") / f"{number}.png", picture(number))
    save(tmp_path / "ant" / "copy.png", picture(0))
    save(tmp_path / "stray.png", picture(50))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bee" / "4.png").write_bytes((tmp_path / "bee" / "4.png").read_bytes()[:500])
    assert found(tmp_path) == [
        ("damaged image", "bee/4.png"), ("gap", "empty"), ("two labels", "bee/0.png"),
        ("unlabeled", str(tmp_path)),
    ]  # fmt: skip


def test_members_of_an_archive_that_are_in_no_list(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"in/{number}.png", cv2.imencode(".png", picture(number))[1].tobytes())
    (tmp_path / "train_map.txt").write_text("".join(f".../all.zip@/in/{n}.png\t{n}\n" for n in (0, 1, 2)))
    assert found(tmp_path) == [("unlabeled", "all.zip")]


@pytest.mark.parametrize("layout", ["rgb planes", "bgr planes", "rgb pixels", "bgr pixels"])
def test_the_layout_of_a_mean_file(layout: str, clean: Path, tmp_path: Path) -> None:
    mean_HWC = np.mean([cv2.resize(picture(n), (24, 18), interpolation=cv2.INTER_AREA) for n in range(COUNT)], axis=0)
    if layout.startswith("rgb") == layout.endswith("pixels"):
        mean_HWC = mean_HWC[:, :, ::-1]
    path = tmp_path / "other.xml"
    write_mean_xml(path, mean_HWC, "planar_rgb" if layout.endswith("planes") else "interleaved_bgr")
    findings = check_data(clean / "train_map.txt", clean / "test_map.txt", path).findings
    assert dict(findings.counts) == ({} if layout == "bgr pixels" else {"mean layout": 1})
    words = {"rgb planes": "planes of red, green", "bgr planes": "planes of blue", "rgb pixels": "blue of each"}
    assert all(words[layout] in finding.what for finding in findings.kept)


def test_planted_faults_of_mnist(tiny_mnist: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_mnist, tmp_path / "mnist"))
    assert found(folder) == []
    images_NHW = read_idx(folder / "train-images-idx3-ubyte").copy()
    images_NHW[17] = read_idx(folder / "t10k-images-idx3-ubyte")[5]
    write_idx(folder / "train-images-idx3-ubyte", images_NHW)
    labels_N = read_idx(folder / "t10k-labels-idx1-ubyte")
    write_idx(folder / "t10k-labels-idx1-ubyte", labels_N[:-1])
    expected = [("leak", "train-images-idx3-ubyte: image 17"), ("unlabeled", "t10k-labels-idx1-ubyte")]
    assert found(folder) == expected
    assert found(folder / "train-images-idx3-ubyte", test=folder / "t10k-images-idx3-ubyte") == expected
    packed = gzip.compress((folder / "train-images-idx3-ubyte").read_bytes())
    (folder / "train-images-idx3-ubyte").write_bytes(packed[:-100])
    assert found(folder)[-1] == ("unreadable", "train-images-idx3-ubyte")


CIFAR10_FORMS = ("write_binary", "write_python", "write_ctf", "write_maps", "write_tree")


@pytest.mark.parametrize("form", [*CIFAR10_FORMS, "packed"])
def test_cifar10_in_every_form(form: str, tmp_path: Path) -> None:
    if form == "packed":
        place = cifar10_files.packed(cifar10_files.write_python, "a.tar.gz", tmp_path)
    else:
        place = getattr(cifar10_files, form)(tmp_path / "data")
    checked = check_data(place)
    assert checked.images == {"training": 20, "test": 4} and not checked.findings.counts


def test_planted_faults_of_cifar10(tmp_path: Path) -> None:
    folder = cifar10_files.write_binary(tmp_path) / "cifar-10-batches-bin"
    records = {path.name: bytearray(path.read_bytes()) for path in folder.glob("*.bin")}
    size = 3073
    records["data_batch_3.bin"][size + 1 : 2 * size] = records["test_batch.bin"][2 * size + 1 : 3 * size]
    records["data_batch_2.bin"].pop()
    records["data_batch_4.bin"][3 * size] = 10  # a label that CIFAR-10 does not have
    for name, content in records.items():
        (folder / name).write_bytes(content)
    assert found(folder) == [
        ("leak", "data_batch_3.bin: image 1"), ("unreadable", "data_batch_2.bin"), ("unreadable", "data_batch_4.bin"),
    ]  # fmt: skip


def test_planted_faults_of_ctf(tmp_path: Path) -> None:
    pixels_ND = np.stack([cv2.resize(picture(n)[:, :, 0], (28, 28)).ravel() for n in range(12)])
    path = tmp_path / "Train-28x28_cntk_text.txt"
    write_ctf(path, np.arange(12) % 3, pixels_ND, 3)
    assert found(path) == [] and found(tmp_path) == []
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].rsplit(b" ", 1)[0] + b"\n"  # a pixel is missing
    lines[2] = lines[2].replace(b"|labels 0 0 1", b"|labels 0 1 1")
    lines[4] = lines[4].replace(b"|features ", b"|features x ")
    lines[5] = lines[5].partition(b" |features")[0] + b"\n"
    lines[6] = lines[6].replace(b"|features ", b"|features 9")  # 9 hundreds
    lines[8] = lines[7].replace(b"|labels 0 1 0", b"|labels 0 0 1")
    lines[11] = lines[11][:-20]
    path.write_bytes(b"".join(lines))
    assert [(kind, place.partition(",")[0]) for kind, place in found(path)] == sorted([
        *(("bad line", f"{path.name}: line {line}") for line in (2, 3, 5, 6, 7, 12)),
        ("two labels", f"{path.name}: line 9"),
    ])  # fmt: skip


def test_many_copies_and_flat_images_take_no_more_than_a_pass(tmp_path: Path) -> None:
    """Hundreds of images in one cell: each copy is found once, and flat images are no copies."""
    lines = []
    for number in range(300):
        image_HWC = np.full((40, 40, 3), number % 256, np.uint8) if number < 100 else picture(7)
        save(tmp_path / "a" / f"{number}.png", image_HWC)
        lines.append(f".../a/{number}.png\t{int(number < 100)}\n")
    (tmp_path / "train_map.txt").write_text("".join(lines))
    counts = Counter(kind for kind, _ in found(tmp_path))
    assert counts == {"duplicate": 199, "dark": 90, "empty": 10}


def test_findings_are_bounded_and_counted() -> None:
    findings = Findings()
    for number in range(MOST_KEPT + 5):
        findings.add("gap", str(number), "a", "b")
    assert (len(findings.kept), findings.counts["gap"]) == (MOST_KEPT, MOST_KEPT + 5)
    assert [kind for kind, _ in findings.by_kind()] == ["gap"] and set(findings.counts) <= set(KINDS)


def test_what_cannot_be_checked(tmp_path: Path, convolve: Convolve) -> None:
    assert_refused(convolve("check-data", tmp_path / "nothing"), 3, "does not exist")
    assert_refused(convolve("check-data", tmp_path), 3, "holds no labeled images")
    assert_refused(convolve("check-date", tmp_path), 2, "did you mean 'check-data'?")
    photo = save(tmp_path / "photo.jpg", picture(0))
    assert_refused(convolve("check-data", photo), 3, "photo.jpg: byte 4: a zero byte: a binary or UTF-16 file")
    assert_refused(convolve("check-data", tmp_path / "photo.jpg", "--test", photo), 3, "not a list of images")


@pytest.mark.slow
@pytest.mark.skipif("CONVOLVE_DATA" not in os.environ, reason="needs MNIST and CIFAR-10 in $CONVOLVE_DATA")
@pytest.mark.parametrize(
    ("name", "counts"), [("mnist", {}), ("cifar10", {"leak": 3, "duplicate": 7, "dark": 5, "bright": 3})]
)
def test_the_real_sets(name: str, counts: dict[str, int]) -> None:
    """Every pair was looked at (docs/explanation/faults-found.md): no false alarm. CIFAR-10: the official files."""
    checked = check_data(Path(os.environ["CONVOLVE_DATA"]) / name)
    assert dict(checked.findings.counts) == counts and SAME == 0.9975


def test_groups_in_both_parts(tmp_path: Path) -> None:
    for part, patients in (("train", (1, 2)), ("test", (2, 3))):
        for patient in patients:
            for shot in range(2):
                number = 100 * len(part) + 10 * patient + shot
                save(tmp_path / part / "ab"[shot] / f"patient{patient}-{shot}.jpg", picture(number))
    options = DataOptions(columns=Columns(group="patient[0-9]+"))
    findings = check_data(tmp_path, options=options).findings
    assert [(finding.kind, finding.what.partition(" part too")[0]) for finding in findings.kept] == [
        ("torn group", "group patient2 is in the test")
    ]
    for part in ("train", "test"):
        save(tmp_path / part / "a" / f"clip7_frame_{len(part)}.jpg", picture(1000 + len(part)))
        save(tmp_path / part / "a" / f"frame_{len(part)}.jpg", picture(2000 + len(part)))
    assert [finding.what.partition(" part too")[0] for finding in check_data(tmp_path).findings.kept] == [
        "group a/clip7 is in the test"
    ]


def test_what_is_in_no_part(tmp_path: Path) -> None:
    for part in ("train", "val", "raw"):
        for number in range(6):
            save(tmp_path / "set" / part / "ab"[number % 2] / f"{number}.jpg", picture(100 * len(part) + number))
    save(tmp_path / "set" / "test" / "1.jpg", picture(1))
    checked = check_data(tmp_path)
    kinds = [(finding.kind, finding.what) for finding in checked.findings.kept]
    assert kinds == [
        ("layout", "set holds everything, and is opened"),
        ("left out", "test is ignored: its images are not in class folders"),
        ("left out", "raw beside the parts is left out"),
    ]
    assert checked.findings.total == 2 and checked.images == {"training": 6, "test": 6}


@pytest.mark.skipif(sys.platform not in ("win32", "darwin"), reason="names that differ in case alone are two")
def test_a_list_may_write_names_in_other_capitals(tmp_path: Path) -> None:
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(3))
    (tmp_path / "t.csv").write_text("path,label\nA.PNG,x\nB.png,y\n", encoding="utf-8")
    assert not check_data(tmp_path / "t.csv", threads=1).findings.counts["unlabeled"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names that differ in case alone are one")
def test_names_that_differ_in_capitals_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/IMG_2.jpg", "b/img_2.JPG")):
        save(tmp_path / name, picture(number))
    (finding,) = check_data(tmp_path).findings.kept
    assert finding.kind == "near file names" and finding.place.endswith("b/img_2.JPG") and "b/IMG_2.jpg" in finding.what
