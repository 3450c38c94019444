"""Readers: minibatches are those of the real CNTK 2.7, which was asked for each table here."""

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import convolve.cntk as C
from convolve.cntk.cntk_py import MinibatchSourceConfig, to_dictionary
from convolve.cntk.io import (
    FULL_DATA_SWEEP,
    Base64ImageDeserializer,
    CTFDeserializer,
    ImageDeserializer,
    MinibatchData,
    MinibatchSource,
    MinibatchSourceFromData,
    StreamDef,
    StreamDefs,
    StreamInformation,
    UserDeserializer,
    UserMinibatchSource,
    sequence_to_cntk_text_format,
    transforms,
)

# Four sequences of 4, 3, 1 and 1 samples of S0, and of 3, 2, 1 and 1 of S1.
SEQUENCES = """\
0 |S0 0 |S1 0
0 |S0 1 |S1 1
0 |S0 2
0 |S0 3 |S1 3
1 |S0 4
1 |S0 5 |S1 1
1 |S0 6 |S1 2
2 |S0 7 |S1 2
3 |S0 8 |S1 2
"""
Cut = Callable[..., Any]


def read(path: Path, text: str, **options: Any) -> MinibatchSource:
    path.write_text(text, encoding="utf-8")
    streams = StreamDefs(x=StreamDef("S0", shape=1), y=StreamDef("S1", shape=1))
    if options.pop("labels_define", False):
        streams = StreamDefs(x=StreamDef("S0", shape=1), y=StreamDef("S1", shape=1, defines_mb_size=True))
    return MinibatchSource(CTFDeserializer(str(path), streams), **options)


def numbers(data: MinibatchData) -> list[int]:
    return data.asarray().ravel().astype(int).tolist()


@pytest.mark.parametrize(
    ("size", "options", "wanted"),
    [
        (1, {}, [(1, 4, 3, False, 4), (1, 3, 2, False, 7), (1, 1, 1, False, 8)]),
        (2, {}, [(1, 4, 3, False, 4), (1, 3, 2, False, 7), (2, 2, 2, True, 9)]),
        (5, {}, [(1, 4, 3, False, 4), (3, 5, 4, True, 9), (1, 4, 3, False, 13)]),
        (8, {}, [(3, 8, 6, False, 8), (3, 8, 6, True, 16), (3, 6, 5, True, 22)]),
        (20, {}, [(8, 18, 14, True, 18), (8, 18, 14, True, 36)]),
        (3, {"max_samples": 6}, [(1, 4, 3, False, 4), (1, 3, 2, False, 7), None]),
        (5, {"max_sweeps": 1}, [(1, 4, 3, False, 4), (3, 5, 4, True, 9), None]),
        (5, {"max_samples": FULL_DATA_SWEEP}, [(1, 4, 3, False, 4), (3, 5, 4, True, 9), None]),
        (3, {"labels_define": True}, [(1, 4, 3, False, 3), (2, 4, 3, False, 6), (1, 1, 1, True, 7)]),
    ],
)
def test_sequences_are_cut_into_minibatches(tmp_path: Path, size: int, options: Any, wanted: list[Any]) -> None:
    source = read(tmp_path / "a.ctf", SEQUENCES, randomize=False, **options)
    for each in wanted:
        found = source.next_minibatch(size)
        if each is None:
            assert found == {}
            continue
        x, y = found[source.streams.x], found[source.streams.y]
        position = source.get_checkpoint_state()["minibatchSourcePosition"]
        assert (x.num_sequences, x.num_samples, y.num_samples, x.end_of_sweep, position) == each


def test_the_longest_sequence_that_is_announced_limits_nothing_in_text(tmp_path: Path) -> None:
    """The real CNTK reads CTF so; the option is for speech."""
    (tmp_path / "a.ctf").write_text(SEQUENCES)
    streams = StreamDefs(x=StreamDef("S0", shape=1, max_sequence_length=2))
    source = MinibatchSource(CTFDeserializer(str(tmp_path / "a.ctf"), streams), randomize=False, max_sweeps=1)
    assert [source.next_minibatch(4)[source.streams.x].num_samples for _ in range(3)] == [4, 4, 1]


def test_shorter_sequences_are_filled_up_and_masked(tmp_path: Path) -> None:
    source = read(tmp_path / "a.ctf", SEQUENCES, randomize=False)
    data = source.next_minibatch(9)[source.streams.x]
    assert data.shape == (4, 4, 1)
    assert data.data.mask.tolist() == [[2, 1, 1, 1], [2, 1, 1, 0], [2, 0, 0, 0], [2, 0, 0, 0]]
    assert [each.ravel().tolist() for each in data.as_sequences()] == [[0, 1, 2, 3], [4, 5, 6], [7], [8]]
    assert str(data) == "MinibatchData(data=Value([4 x 4 x 1], CPU), samples=9, seqs=4)"
    along, plain = C.sequence.input_variable(1), C.input_variable(1)
    assert [len(each) for each in (along + 1).eval({along: data})] == [4, 3, 1, 1]
    with pytest.raises(ValueError, match="has no sequence axis"):
        (plain + 1).eval({plain: data})


@pytest.mark.parametrize(
    ("size", "partitions", "rank", "options", "wanted"),
    [
        (4, 2, 0, {"randomize": False}, [([0, 2], 3), ([4, 6], 7), ([8], 10)]),
        (1, 3, 1, {"randomize": False}, [([1], 2), ([4], 5), ([7], 8), ([], 10)]),
        (7, 3, 0, {"randomize": False, "max_sweeps": 2}, [([0, 3, 6], 7), ([9, 2, 5], 16), ([8], 20), ([], 20)]),
        (12, 4, 2, {"randomize": False, "max_sweeps": 2}, [([2, 6, 0], 11), ([4, 8], 20)]),
        (4, 2, 0, {}, [([4, 7], 2), ([3, 9], 4), ([1, 2], 6), ([8, 6], 8)]),
        (4, 2, 1, {}, [([], 10)]),  # the only chunk is the first worker's
        (5, 2, 0, {"max_sweeps": 2}, [([4, 7, 3], 3), ([9, 1, 2], 6), ([8, 6, 5], 9), ([0, 1, 2], 12)]),
    ],
)
def test_workers_share_the_data(
    tmp_path: Path, size: int, partitions: int, rank: int, options: Any, wanted: list[Any]
) -> None:
    text = "".join(f"|S0 {n} |S1 {n}\n" for n in range(10))
    source = read(tmp_path / "a.ctf", text, **{"max_sweeps": 1, **options})
    for samples, position in wanted:
        found = source.next_minibatch(size, num_data_partitions=partitions, partition_index=rank)
        assert (numbers(found[source.streams.x]) if found else []) == samples
        assert source.current_position == {"minibatchSourcePosition": position}


def test_a_source_goes_on_where_its_state_says(tmp_path: Path) -> None:
    text = "".join(f"|S0 {n} |S1 {n}\n" for n in range(6))
    source = read(tmp_path / "a.ctf", text, randomize=False)
    source.restore_from_checkpoint({"minibatchSourcePosition": 5})
    assert numbers(source.next_minibatch(3)[source.streams.x]) == [5, 0, 1]
    with pytest.raises(ValueError, match="misses required field minibatchSourcePosition"):
        source.restore_from_checkpoint({})


def test_the_next_minibatch_is_read_while_one_is_used(tmp_path: Path) -> None:
    source = read(tmp_path / "a.ctf", "".join(f"|S0 {n} |S1 {n}\n" for n in range(6)), randomize=False)
    [file], is_read = source.config.deserializers, threading.Event()
    assert numbers(source.next_minibatch(4)[source.streams.x]) == [0, 1, 2, 3]
    read_now = file.read
    file.read = lambda *arguments: (is_read.set(), read_now(*arguments))[1]
    assert numbers(source.next_minibatch(4)[source.streams.x]) == [4, 5, 0, 1]
    assert is_read.wait(60)  # nobody has asked for it yet
    assert source.current_position == {"minibatchSourcePosition": 8}


def test_what_was_read_ahead_is_used_only_where_it_is_what_comes_next(tmp_path: Path) -> None:
    text = "".join(f"|S0 {n} |S1 {n}\n" for n in range(50))
    source, rng = read(tmp_path / "a.ctf", text), np.random.default_rng(0)
    for _ in range(60):
        size, workers = int(rng.choice([3, 7])), int(rng.choice([1, 1, 1, 2]))
        at = source.position if rng.random() < 0.7 else int(rng.integers(120))
        source.restore_from_checkpoint({"minibatchSourcePosition": at})
        fresh = read(tmp_path / "a.ctf", text)
        fresh.restore_from_checkpoint({"minibatchSourcePosition": at})
        of_part = {"num_data_partitions": workers, "partition_index": 0}
        ours, wanted = (each.next_minibatch(size, **of_part)[each.streams.x] for each in (source, fresh))
        assert (numbers(ours), ours.end_of_sweep, source.position) == (
            numbers(wanted), wanted.end_of_sweep, fresh.position,
        )  # fmt: skip


def two(tmp_path: Path, first: str, second: str, **options: Any) -> list[Any]:
    (tmp_path / "first.ctf").write_text(first)
    (tmp_path / "second.ctf").write_text(second)
    source = MinibatchSource(
        [
            CTFDeserializer(str(tmp_path / "first.ctf"), StreamDefs(x=StreamDef("S0", shape=1))),
            CTFDeserializer(str(tmp_path / "second.ctf"), StreamDefs(y=StreamDef("S1", shape=1))),
        ],
        max_sweeps=2,
        **options,
    )
    found = []
    while data := source.next_minibatch(4):
        x, y = data[source.streams.x], data[source.streams.y]
        assert numbers(x) == numbers(y)
        found.append((numbers(x), x.end_of_sweep))
    return found


def test_several_files_go_together_by_their_keys(tmp_path: Path) -> None:
    first, backwards = [f"{n} |S0 {n}\n" for n in range(6)], [f"{n} |S1 {n}\n" for n in range(5, -1, -1)]
    wanted = [([0, 1, 2, 3], False), ([4, 5, 0, 1], True), ([2, 3, 4, 5], True)]
    assert two(tmp_path, "".join(first), "".join(backwards), randomize=False) == wanted
    without_ids = "".join(f"|S0 {n}\n" for n in range(6))
    assert two(tmp_path, without_ids, "".join(backwards), randomize=False) == wanted
    wanted = [([3, 2, 1, 0], False), ([4, 5, 4, 2], True), ([1, 5, 3, 0], True)]
    assert two(tmp_path, "".join(first), "".join(backwards)) == wanted


def test_what_only_one_file_has_is_left_out(tmp_path: Path) -> None:
    first, fewer = (
        "".join(f"{n} |S0 {n}\n" for n in range(6)),
        "".join(f"{n} |S1 {n}\n" for n in range(4)),
    )
    with pytest.warns(UserWarning, match="2 sequences are left out"):
        assert two(tmp_path, first, fewer) == [([2, 0, 1, 3], True), ([0, 2, 3, 1], True)]


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"max_samples": 5, "max_sweeps": 1}, RuntimeError, "max samples and max sweeps are mutually exclusive"),
        ({"randomization_window_in_samples": 3}, RuntimeError, "randomization window in chunks and .* in samples"),
        ({"frame_mode": True, "truncation_length": 2}, RuntimeError, "truncation and frame mode are"),
        ({"truncation_length": 2}, NotImplementedError, "leave it out"),
        ({"epoch_size": 3}, TypeError, "unexpected keyword argument 'epoch_size'"),
        ({"max_samples": 0}, RuntimeError, "Epoch size cannot be 0"),
        ({"frame_mode": True}, RuntimeError, "Detected a non-frame sequence of size 4 in frame mode"),
    ],
)
def test_options_that_cntk_refuses_are_refused(tmp_path: Path, options: Any, error: type, what: str) -> None:
    with pytest.raises(error, match=what):
        read(tmp_path / "a.ctf", SEQUENCES, **options).next_minibatch(3)


def test_files_and_streams_that_are_not_there_are_named(tmp_path: Path) -> None:
    streams = StreamDefs(x=StreamDef("S0", shape=1))
    with pytest.raises(RuntimeError, match=r"nope\.ctf' is not open"):
        MinibatchSource(CTFDeserializer("nope.ctf", streams))
    with pytest.raises(ValueError, match="Could not find deserializers"):
        MinibatchSource([])
    with pytest.raises(ValueError, match="stream name for key x must be specified"):
        CTFDeserializer("a.ctf", StreamDefs(x=StreamDef(shape=1)))
    source = read(tmp_path / "a.ctf", SEQUENCES)
    with pytest.raises(RuntimeError, match="No stream found matching given name 'q'"):
        source.stream_info("q")
    file = CTFDeserializer(str(tmp_path / "a.ctf"), streams)
    with pytest.raises(RuntimeError, match="Two streams with the same name 'x'"):
        MinibatchSource([file, file])


def test_sparse_streams_feed_sparse_and_dense_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.ctf").write_text("|S0 1:2 3:4\n|S0 0:1\n")
    streams = StreamDefs(x=StreamDef("S0", shape=5, is_sparse=True))
    source = MinibatchSource(CTFDeserializer(str(tmp_path / "a.ctf"), streams), randomize=False)
    wanted = [[0, 2, 0, 4, 0], [1, 0, 0, 0, 0]]
    sparse, dense = C.input_variable(5, is_sparse=True), C.input_variable(5)
    data = source.next_minibatch(2)[source.streams.x]
    assert data.is_sparse
    assert data.asarray().tolist() == [[row] for row in wanted]
    assert (dense + 0).eval({dense: data}).tolist() == wanted
    assert C.times(sparse, np.eye(5, dtype=np.float32)).eval({sparse: data}).tolist() == wanted
    with pytest.raises(ValueError, match="without the corresponding variable"):
        data.as_sequences()


@pytest.fixture
def pictures(tmp_path: Path) -> list[np.ndarray]:
    """Six images of 9 x 11 to 14 x 11 pixels, in `map.txt`, and in `base64.txt` backwards, by key."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (9 + n, 11, 3), np.uint8) for n in range(6)]
    lines = []
    for n, image in enumerate(images):
        _, encoded = cv2.imencode(".png", image)
        (tmp_path / f"{n}.png").write_bytes(encoded.tobytes())
        lines.append(f"{n + 2**63}\t{n % 3}\t{base64.b64encode(encoded.tobytes()).decode()}\n")
    (tmp_path / "map.txt").write_text("".join(f".../{n}.png\t{n % 3}\n" for n in range(6)))
    (tmp_path / "base64.txt").write_text("".join(lines[::-1]))
    return images


def image_source(path: Path, listed: Any, **options: Any) -> MinibatchSource:
    streams = StreamDefs(image=StreamDef("image", transforms=listed), label=StreamDef("label", shape=3))
    return MinibatchSource(ImageDeserializer(str(path), streams), **options)


def test_images_are_blue_green_red_planes_with_sparse_labels(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    source = image_source(tmp_path / "map.txt", [], randomize=False)
    data = source.next_minibatch(1)
    images, labels = data[source.streams.image], data[source.streams.label]
    assert images.asarray()[0, 0].tolist() == pictures[0].transpose(2, 0, 1).tolist()
    assert (images.shape, images.is_sparse, labels.shape, labels.is_sparse) == (
        (1, 1, 3, 9, 11),
        False,
        (1, 1, 3),
        True,
    )
    assert labels.asarray().tolist() == [[[1, 0, 0]]]
    with pytest.raises(RuntimeError, match=r"3x10x11 and 3x11x11 .*add transforms\.scale"):
        source.next_minibatch(3)


def test_images_are_cut_scaled_and_freed_of_their_mean(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    from convolve.formats.mean_xml import write_mean_xml

    mean_HWC = np.random.default_rng(1).random((6, 5, 3), np.float32)
    write_mean_xml(tmp_path / "mean.xml", mean_HWC)
    listed = [transforms.crop(crop_size=(7, 8)), transforms.scale(5, 6, 3, "nearest")]
    source = image_source(
        tmp_path / "map.txt", [*listed, transforms.mean(str(tmp_path / "mean.xml"))], randomize=False, max_sweeps=1
    )
    assert str(source.streams.image) == "image([3 x 6 x 5])"
    images = source.next_minibatch(9)[source.streams.image].asarray()[:, 0]
    assert len(images) == 6
    for picture, image in zip(pictures, images, strict=True):
        top = (len(picture) - 8) // 2
        scaled = cv2.resize(picture[top : top + 8, 2:9], (5, 6), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(image, (scaled - mean_HWC).transpose(2, 0, 1))


def test_random_crops_are_said_to_be_ours_and_the_same_for_all_files(
    tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    listed = [transforms.crop("randomside", side_ratio=(0.4, 0.8), jitter_type="uniratio"), transforms.scale(5, 5, 3)]

    def opened() -> MinibatchSource:
        files = [
            ImageDeserializer(str(tmp_path / "map.txt"), StreamDefs(**{name: StreamDef("image", transforms=listed)}))
            for name in ("a", "b")
        ]
        return MinibatchSource(files)

    with pytest.warns(UserWarning, match="random draws .* are convolve's, not CNTK's"):
        source = opened()
    first, second = source.next_minibatch(6), source.next_minibatch(6)
    for data in (first, second):
        assert np.array_equal(data[source.streams.a].asarray(), data[source.streams.b].asarray())
    with pytest.warns(UserWarning):
        again = opened()
    again.restore_from_checkpoint({"minibatchSourcePosition": 6})
    now = again.next_minibatch(6)[again.streams.a].asarray()
    assert np.array_equal(now, second[source.streams.a].asarray())
    assert len({image.tobytes() for data in (first, second) for image in data[source.streams.a].asarray()}) == 12


def test_base64_images_go_together_with_text_by_their_keys(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    (tmp_path / "a.ctf").write_text("".join(f"{n + 2**63} |height {9 + n}\n" for n in range(6)))
    streams = StreamDefs(image=StreamDef("image", transforms=[]), label=StreamDef("label", shape=3))
    source = MinibatchSource(
        [
            CTFDeserializer(str(tmp_path / "a.ctf"), StreamDefs(height=StreamDef("height", shape=1))),
            Base64ImageDeserializer(str(tmp_path / "base64.txt"), streams),
        ]
    )
    for _ in range(8):
        data = source.next_minibatch(1)
        [height] = numbers(data[source.streams.height])
        image = data[source.streams.image].asarray()[0, 0]
        assert np.array_equal(image, pictures[height - 9].transpose(2, 0, 1))
        assert data[source.streams.label].asarray().argmax() == height % 3


def test_bad_map_files_are_refused_with_their_line(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    (tmp_path / "bad.txt").write_text(".../0.png\t3\n")
    with pytest.raises(RuntimeError, match=r"bad\.txt: line 1: the label is 3"):
        image_source(tmp_path / "bad.txt", []).next_minibatch(1)
    (tmp_path / "bad.txt").write_text(".../none.png\t0\n")
    with pytest.raises(RuntimeError, match=r"none\.png"):
        image_source(tmp_path / "bad.txt", []).next_minibatch(1)
    (tmp_path / "bad.txt").write_text(".../0.png\t0\n.../none.png\t0\n")
    source = image_source(tmp_path / "bad.txt", [], randomize=False)
    assert len(source.next_minibatch(1)[source.streams.image].asarray()) == 1  # the other one was read ahead
    with pytest.raises(RuntimeError, match=r"none\.png"):
        source.next_minibatch(1)
    with pytest.raises(RuntimeError, match=r"Could not open .*none\.txt"):
        image_source(tmp_path / "none.txt", [])
    with pytest.raises(ValueError, match="invalid field name 'labels', allowed are 'image' and 'label'"):
        ImageDeserializer("map.txt", StreamDefs(a=StreamDef("image"), b=StreamDef("labels", shape=3)))


def test_arrays_in_memory_are_a_source() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    source = MinibatchSourceFromData({"x": rows}, max_samples=8)
    found = [source.next_minibatch(4).get(source.streams.x) for _ in range(4)]
    assert [each and (each.shape, each.num_samples, each.end_of_sweep) for each in found] == [
        ((4, 2), 4, False),
        ((2, 2), 2, True),
        ((2, 2), 2, True),
        None,
    ]
    assert source.get_checkpoint_state() == {"cursor": 2, "total_num_samples": 8}
    source = MinibatchSourceFromData({"x": ([rows[:2], rows[2:3], rows[3:]], C.layers.typing.Sequence[2])})
    found = [source.next_minibatch(4)[source.streams.x] for _ in range(2)]
    assert [(each.shape, each.num_samples, each.num_sequences) for each in found] == [
        ((2, 2, 2), 3, 2),
        ((1, 3, 2), 3, 1),
    ]
    with pytest.raises(TypeError, match="same first dimension"):
        MinibatchSourceFromData({"x": rows, "y": rows[:3]})


class Own(UserMinibatchSource):
    def __init__(self) -> None:
        self.info = StreamInformation("x", 0, "dense", np.float32, (2,))
        super().__init__()

    def stream_infos(self) -> list[Any]:
        return [self.info]

    def next_minibatch(self, num_samples: int, number_of_workers: int, worker_rank: int, device: Any = None) -> Any:
        value = C.Value(np.ones((num_samples, 2), np.float32))
        return {self.info: MinibatchData(value, num_samples, num_samples, False)}


def test_a_session_trains_on_a_source_of_the_programs_own() -> None:
    source, x = Own(), C.input_variable(2)
    z = C.layers.Dense(1)(x)
    trainer = C.Trainer(z, (C.squared_error(z, C.Constant([3.0])), None), C.sgd(z.parameters, 0.01))
    C.training_session(trainer, source, 4, {x: source.streams.x}, max_samples=12).train()
    assert trainer.total_number_of_samples_seen == 12


class Chunks(UserDeserializer):
    def stream_infos(self) -> list[Any]:
        return [
            StreamInformation("x", 0, "dense", np.float32, (2,)),
            StreamInformation("y", 1, "dense", np.float32, (1,), True),
        ]

    def num_chunks(self) -> int:
        return 2

    def get_chunk(self, chunk_id: int) -> Any:
        return {"x": [np.full((3, 2), 10 * chunk_id + n) for n in range(4)], "y": np.arange(4)[:, None]}


def test_a_deserializer_of_the_programs_own_gives_chunks() -> None:
    source = MinibatchSource(Chunks(), randomize=False)
    data = source.next_minibatch(6)
    x, y = data[source.streams.x], data[source.streams.y]
    assert (x.shape, x.num_samples, x.num_sequences) == ((6, 3, 2), 18, 6)
    assert x.asarray()[:, 0, 0].tolist() == [0, 1, 2, 3, 10, 11]
    assert numbers(y) == [0, 1, 2, 3, 0, 1]


def test_settings_as_cntks_dictionary() -> None:
    listed = [transforms.crop(side_ratio=(0.2, 0.5), aspect_ratio=0.75), transforms.mean("mean.xml")]
    image = ImageDeserializer("map.txt", StreamDefs(f=StreamDef("image", transforms=listed)))
    config = to_dictionary(MinibatchSourceConfig([image], randomize=False))
    assert (config["randomize"], config["multiThreadedDeserialization"], len(config)) == (False, True, 5)
    crop, mean, last = config["deserializers"][0]["input"]["f"]["transforms"]
    assert (crop["sideRatio"], crop["aspectRatio"], crop["cropSize"]) == ("0.2:0.5", "0.75:0.75", "0:0")
    assert (mean, last) == ({"type": "Mean", "meanFile": "mean.xml"}, {"type": "Transpose"})


def test_sequences_as_text() -> None:
    text = sequence_to_cntk_text_format
    assert text(3, {"B": [[1.5, 2], [3, 4]], "A": np.array([[2]])}) == "3\t|A 2 |B 1.5 2.0\n3\t|B 3.0 4.0"
    assert text(0, {"A": [{7: 1, 2: 0.5}]}) == "0\t|A 2:0.5 7:1"
    with pytest.raises(ValueError, match="expected a tensor"):
        text(0, {"A": [object()]})
