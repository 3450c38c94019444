import filecmp
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.data.locate import locate
from convolve.data.mnist import load_mnist
from convolve.errors import ConvolveError, FormatError, UsageError
from convolve.prepare.mnist import prepare_mnist
from idx_files import write_idx
from preparations import prepare_and_die, state

SAMPLE = locate("mnist", "sample")
TOP_LEVEL = {
    "Train-28x28_cntk_text.txt", "Test-28x28_cntk_text.txt", "train", "test", "train_map.txt", "test_map.txt",
    "labels.txt", "prepared.json",
}  # fmt: skip


def prepare(source: Path, out: Path) -> list[str]:
    return [*map(str, prepare_mnist(source, out))]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve training digits (0, 1, ..., 9, 0, 1) and three test digits of noise."""
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("t10k", 3)):
        images_NHW = random.integers(0, 256, (count, 28, 28), np.uint8)
        write_idx(tmp_path / "source" / f"{part}-images-idx3-ubyte", images_NHW)
        write_idx(tmp_path / "source" / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path / "source"


def test_all_files_hold_the_digits_of_the_source(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(source, out)
    assert {path.name for path in out.iterdir()} == TOP_LEVEL
    data = load_mnist(str(source))
    for part, table, ctf in (("train", data.train, "Train"), ("test", data.test, "Test")):
        pixels_ND, labels_N = table.images_NCHW.numpy().reshape(len(table), 784), table.labels_N.tolist()
        expected = [
            f"|labels {' '.join('1' if k == label else '0' for k in range(10))} |features {' '.join(map(str, row))}"
            for row, label in zip(pixels_ND.tolist(), labels_N, strict=True)
        ]
        assert (out / f"{ctf}-28x28_cntk_text.txt").read_text().splitlines() == expected

        rows = [line.split("\t") for line in (out / f"{part}_map.txt").read_text().splitlines()]
        assert [path for path, _ in rows] == [f"{out}/{part}/{label}/{n:05d}.png" for n, label in enumerate(labels_N)]
        assert [int(label) for _, label in rows] == labels_N
        images_NHW = np.stack([cv2.imread(path, cv2.IMREAD_UNCHANGED) for path, _ in rows])
        assert np.array_equal(images_NHW, table.images_NCHW[:, 0].numpy())
    assert (out / "labels.txt").read_text().split() == list("0123456789")


def test_what_was_prepared_is_the_same_data_set(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    assert load_mnist(str(tmp_path / "out")).fingerprint() == load_mnist(str(source)).fingerprint()
    prepare(tmp_path / "out", tmp_path / "again")  # CTF is a source as good as any
    assert filecmp.cmp(tmp_path / "out" / "Train-28x28_cntk_text.txt", tmp_path / "again" / "Train-28x28_cntk_text.txt")


def test_a_folder_called_sample_is_no_other_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.rename(tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    prepare(Path("sample"), Path("out"))
    assert len((tmp_path / "out" / "train_map.txt").read_text().splitlines()) == 12


def test_a_finished_output_is_left_alone(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    before = state(tmp_path / "out")
    lines = prepare(source, tmp_path / "out")
    assert state(tmp_path / "out") == before
    assert all("already there" in line or " 0 of " in line for line in lines)


def test_an_output_that_was_moved_gets_new_maps_only(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    before = state(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    prepare(source, tmp_path / "moved")
    after = state(tmp_path / "moved")
    assert {name for name in after if after[name] != before[name]} == {"train_map.txt", "test_map.txt"}
    assert (tmp_path / "moved" / "test_map.txt").read_text().startswith(f"{tmp_path}/moved/test/0/00000.png\t0\n")


def test_a_killed_run_leaves_whole_files_and_is_continued(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_and_die("mnist", SAMPLE, out, files=1000)
    killed = state(out)
    (half_written,) = (name for name in killed if name.endswith(".tmp"))
    del killed[half_written]
    assert len(killed) == 999
    lost_in_a_power_cut = next(path for path in (out / "train" / "7").iterdir())
    lost_in_a_power_cut.write_bytes(b"")

    prepare(SAMPLE, out)
    prepare(SAMPLE, tmp_path / "undisturbed")
    finished, undisturbed = state(out), state(tmp_path / "undisturbed")
    assert {name for name in killed if finished[name] != killed[name]} == {str(lost_in_a_power_cut.relative_to(out))}
    assert finished.keys() == undisturbed.keys()
    differing = {name for name in finished if finished[name][1] != undisturbed[name][1]}
    assert differing == {"train_map.txt", "test_map.txt"}  # the paths in them


def test_other_data_is_not_mixed_in(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    before = state(tmp_path / "out")
    with pytest.raises(UsageError, match="prepared from other data; choose another --out"):
        prepare(SAMPLE, tmp_path / "out")
    assert state(tmp_path / "out") == before


def test_files_of_somebody_else_are_not_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train_map.txt").write_text("mine\n")
    with pytest.raises(UsageError, match=r"holds train_map\.txt already, which convolve did not write"):
        prepare(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train_map.txt"]


def test_a_path_that_no_map_file_can_hold(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tab or line break: .*; choose another --out"):
        prepare(source, tmp_path / "a\tb")
    assert not (tmp_path / "a\tb").exists()


def test_damaged_sources_write_nothing(source: Path, tmp_path: Path) -> None:
    whole = (source / "train-images-idx3-ubyte").read_bytes()
    (source / "train-images-idx3-ubyte").write_bytes(whole[:-1])
    with pytest.raises(FormatError):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvolveError, match=r"cannot write .*; free space there or choose another place"):
        prepare(source, tmp_path / "file" / "out")


def test_pictures_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "test" / "1")
    (tmp_path / "out" / "test" / "1").touch()
    with pytest.raises(ConvolveError, match=r"out/test/1 is not a folder; choose another place"):
        prepare(source, tmp_path / "out")


def test_a_full_disk_leaves_nothing_half_written(source: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on the size of a file fails like a full disk, for root too
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(ConvolveError, match=r"cannot write .*Train-28x28_cntk_text\.txt: File too large; "):
            prepare(source, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"prepared.json", "labels.txt"}
    prepare(source, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == TOP_LEVEL
