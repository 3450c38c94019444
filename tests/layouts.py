"""Eighty pictures of four classes, laid out as people, tools and systems leave them.

Each layout is a function that writes the pictures below an empty folder and returns what is given to `--data`. Its
row says how the pictures are divided: in no parts, in two, in three; and what else the command line needs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from convolve.data.options import DataOptions
from convolve.formats.table import Columns

CLASSES = ("beetle", "cat", "dog", "koala")
A_CLASS = 20  # pictures
SIDE = 12  # pixels


class Picture(NamedTuple):
    """`number` counts the pictures of a class; every fifth is of the test part, every fifth of the validation part."""

    number: int
    label: str
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.label[0]}{self.number:03}.jpg"

    def part(self, parts: int) -> str:
        if parts == 3 and self.number % 5 == 3:
            return "validation"
        return "test" if parts > 1 and self.number % 5 == 4 else "train"


@cache
def pictures() -> tuple[Picture, ...]:
    """Colored noise of low frequencies, no two alike, as JPEG files; each class has a color of its own."""
    rng = np.random.default_rng(0)
    found = []
    for label, color in zip(CLASSES, ((200, 60, 60), (60, 200, 60), (60, 60, 200), (160, 160, 60)), strict=True):
        for number in range(A_CLASS):
            coarse = rng.integers(-60, 60, (4, 4, 3)) + np.array(color)
            image = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            encoded = cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8))[1]
            found.append(Picture(number, label, encoded.tobytes()))
    return tuple(found)


@dataclass(frozen=True)
class Layout:
    """One way to lay the pictures out; `options` are `--columns` and the like, `{}` stands for the folder.

    `refused` is what the error says of a layout that has more than one reading. `other_names`: files or classes are
    called otherwise, or hold other bytes, so that only labels and pixels can be compared.
    """

    make: Callable[[Path], Path]
    parts: int = 1
    options: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    other_names: bool = False
    class_names: tuple[str, ...] = CLASSES
    encode: str = ""  # the ending of a format without loss, where the pictures are not the JPEG files

    def class_of(self, picture: Picture) -> str:
        return self.class_names[CLASSES.index(picture.label)]


def written(layout: Layout, picture: Picture) -> bytes:
    """What the file of `picture` holds."""
    return encoded(picture.content, layout.encode) if layout.encode else picture.content


def data_options(layout: Layout, root: Path) -> DataOptions:
    """`--columns` and `--root` as the layout needs them; the pictures lie below `root`."""
    columns, place = layout.options.get("columns"), layout.options.get("root")
    return DataOptions(Columns.parse(columns) if columns else Columns(), Path(place.format(root)) if place else None)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# -- folders -----------------------------------------------------------------------------------------------------------


def class_folders(
    root: Path,
    inside: str = "{label}/{name}",
    names: dict[str, str] | None = None,
    parts: int = 1,
    rename: Callable[[str], str] = str,
    label_of: Callable[[str], str] = str,
    encode: str = "",
) -> Path:
    """`inside` is where a picture lies; `names` what the folders of the parts are called."""
    for picture in pictures():
        part = (names or {}).get(picture.part(parts), "")
        place = inside.format(label=label_of(picture.label), name=rename(picture.name), part=part)
        write(root / place.lstrip("/"), encoded(picture.content, encode) if encode else picture.content)
    return root


def encoded(content: bytes, ending: str) -> bytes:
    """The same pixels in a format without loss."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return cv2.imencode(ending, pixels)[1].tobytes()


def with_files(root: Path, extra: dict[str, bytes], **layout: str) -> Path:
    class_folders(root, **layout)  # type: ignore[arg-type]
    for name, content in extra.items():
        write(root / name, content)
    return root


def linked_classes(root: Path) -> Path:
    class_folders(root / "store")
    (root / "set").mkdir()
    for label in CLASSES:
        (root / "set" / label).symlink_to(root / "store" / label)
    return root / "set"


def linked_inside_classes(root: Path) -> Path:
    class_folders(root / "store")
    for label in CLASSES:
        (root / "set" / label).mkdir(parents=True)
        (root / "set" / label / "camera").symlink_to(root / "store" / label)
    return root / "set"


def linked_files(root: Path) -> Path:
    for picture in pictures():
        write(root / "store" / picture.label / picture.name, picture.content)
        (root / "set" / picture.label).mkdir(parents=True, exist_ok=True)
        (root / "set" / picture.label / picture.name).symlink_to(root / "store" / picture.label / picture.name)
    return root / "set"


def link_to_all(root: Path) -> Path:
    class_folders(root / "store")
    (root / "set").symlink_to(root / "store")
    return root / "set"


def link_in_a_loop(root: Path) -> Path:
    class_folders(root)
    (root / "cat" / "again").symlink_to(root / "cat")
    return root


def empty_class(root: Path) -> Path:
    (root / "spare").mkdir()
    return class_folders(root)


def thumbnails(root: Path) -> Path:
    """What file managers, notebooks and storage systems leave beside the pictures."""
    class_folders(root)
    content = pictures()[0].content
    for junk in (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails"):
        write(root / "dog" / junk / "d000.jpg", content)
        write(root / junk / "d000.jpg", content)
    write(root / "koala" / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    write(root / "koala" / ".DS_Store", b"\0\0\0\1Bud1")
    write(root / "koala" / "._k000.jpg", b"\0\5\26\7")
    write(root / "koala" / "notes.txt", b"taken in May")
    return root


def flat_test(root: Path) -> Path:
    """Kaggle's: pictures to be classified lie beside the parts, without labels."""
    class_folders(root, "{part}/{label}/{name}", {"train": "train", "test": "val"}, 2)
    for picture in pictures()[:5]:
        write(root / "test" / f"{picture.number}.jpg", picture.content[:-2] + b"\0\xff\xd9")
    return root


# -- archives ----------------------------------------------------------------------------------------------------------


def zipped(root: Path, inside: str = "{label}/{name}", names: dict[str, str] | None = None, parts: int = 1) -> Path:
    class_folders(root / "loose", inside, names, parts)
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for file in sorted((root / "loose").rglob("*.jpg")):
            archive.write(file, file.relative_to(root / "loose"))
    return root / "set.zip"


def tarred(root: Path, ending: str, mode: str, inside: str = "{label}/{name}") -> Path:
    class_folders(root / "loose", inside)
    with tarfile.open(root / f"set{ending}", mode) as archive:  # type: ignore[call-overload]
        for file in sorted((root / "loose").rglob("*.jpg")):
            archive.add(file, str(file.relative_to(root / "loose")))
    return root / f"set{ending}"


def archives_of_classes(root: Path) -> Path:
    (root / "set").mkdir()
    for label in CLASSES:
        with zipfile.ZipFile(root / "set" / f"{label}.zip", "w") as archive:
            for picture in pictures():
                if picture.label == label:
                    archive.writestr(picture.name, picture.content)
    return root / "set"


# -- tables ------------------------------------------------------------------------------------------------------------


def table(
    root: Path,
    head: Sequence[str] | None,
    row: Callable[[Picture], Sequence[str]],
    delimiter: str = ",",
    name: str = "set.csv",
    encoding: str = "utf-8",
    line_end: str = "\n",
) -> Path:
    """The pictures in one folder, and a table of them beside it."""
    flat(root)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([head] if head else [])
    writer.writerows(row(picture) for picture in pictures())
    write(root / name, text.getvalue().encode(encoding))
    return root / name


def flat(root: Path) -> None:
    for picture in pictures():
        write(root / "images" / picture.label / picture.name, picture.content)


def path_of(picture: Picture) -> str:
    return f"images/{picture.label}/{picture.name}"


def plain(picture: Picture) -> list[str]:
    return [path_of(picture), picture.label]


def one_hot(picture: Picture) -> list[str]:
    return [path_of(picture), *(str(int(label == picture.label)) for label in CLASSES)]


def in_part(words: dict[str, str], parts: int) -> Callable[[Picture], list[str]]:
    return lambda picture: [*plain(picture), words[picture.part(parts)]]


def json_table(root: Path, name: str, in_lines: bool) -> Path:
    flat(root)
    rows = [{"image": path_of(picture), "label": picture.label} for picture in pictures()]
    text = "\n".join(map(json.dumps, rows)) if in_lines else json.dumps(rows)
    write(root / name, text.encode())
    return root / name


def metadata(root: Path, name: str, parts: bool = False) -> Path:
    """Hugging Face's `imagefolder`: metadata.csv or .jsonl beside the pictures that it names."""
    for part in ("train", "test") if parts else ("",):
        chosen = [picture for picture in pictures() if not parts or picture.part(2) == part]
        for picture in chosen:
            write(root / part / picture.name, picture.content)
        rows = [{"file_name": picture.name, "label": picture.label} for picture in chosen]
        if name.endswith(".csv"):
            text = "\n".join(["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)])
        else:
            text = "\n".join(map(json.dumps, rows))
        write(root / part / name, text.encode())
    return root


def two_tables(root: Path, names: tuple[str, ...], parts: int = 2) -> Path:
    flat(root)
    for part, name in zip(("train", "test", "validation"), names, strict=False):
        lines = [",".join(plain(picture)) for picture in pictures() if picture.part(parts) == part]
        write(root / name, "\n".join(["path,label", *lines]).encode())
    return root


def map_file(root: Path, slashes: str = "/", before: str = ".../images/") -> Path:
    """CNTK's: path TAB number, and a list of the class names; `...` is the folder of the map file."""
    flat(root)
    write(root / "labels.txt", "\n".join(CLASSES).encode())
    lines = [
        before + f"{picture.label}/{picture.name}".replace("/", slashes) + f"\t{CLASSES.index(picture.label)}"
        for picture in pictures()
    ]
    write(root / "map.txt", "\n".join(lines).encode())
    return root / "map.txt"


def two_maps(root: Path) -> Path:
    flat(root)
    write(root / "labels.txt", "\n".join(CLASSES).encode())
    for part in ("train", "test"):
        rows = [(f".../{path_of(p)}", CLASSES.index(p.label)) for p in pictures() if p.part(2) == part]
        write(root / f"{part}_map.txt", "\n".join(f"{path}\t{number}" for path, number in rows).encode())
    return root


# -- the table of layouts ----------------------------------------------------------------------------------------------


def of_parts(train: str, test: str, validation: str = "", inside: str = "{part}/{label}/{name}") -> Layout:
    names = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    return Layout(partial(class_folders, inside=inside, names=names, parts=len(names)), parts=len(names))


def of_table(head: Sequence[str] | None, row: Callable[[Picture], Sequence[str]] = plain, **form: str) -> Layout:
    return Layout(partial(table, head=head, row=row, **form))  # type: ignore[arg-type]


def _split_tables() -> Iterable[tuple[str, Layout]]:
    two = {"train": "train", "test": "test"}
    for name, words, parts in (
        ("split", two, 2),
        ("subset", {"train": "Training", "test": "TEST"}, 2),
        ("set", {"train": "train", "test": "val"}, 2),
        ("is_valid", {"train": "False", "test": "True"}, 2),
        ("split", two | {"validation": "valid"}, 3),
    ):
        made = partial(table, head=["image", "label", name], row=in_part(words, parts))
        yield f"column {name} of {parts} parts", Layout(made, parts=parts)


NFD = {label: unicodedata.normalize("NFD", label.replace("a", "ä")) for label in CLASSES}
UMLAUTS = tuple(unicodedata.normalize("NFC", name) for name in NFD.values())

LAYOUTS: dict[str, Layout] = {
    "class folders": Layout(class_folders),
    "one wrapping folder": Layout(partial(class_folders, inside="images/{label}/{name}")),
    "two wrapping folders": Layout(partial(class_folders, inside="download/images/{label}/{name}")),
    "folders in the classes": Layout(partial(class_folders, inside="{label}/camera/{name}")),
    "links to classes": Layout(linked_classes),
    "links in classes": Layout(linked_inside_classes),
    "links to files": Layout(linked_files),
    "a link to the whole": Layout(link_to_all),
    "a link in a loop": Layout(link_in_a_loop),
    "what file managers leave": Layout(thumbnails),
    "an empty class folder beside": Layout(empty_class, refused="spare"),
    "a readme beside": Layout(partial(with_files, extra={"README.md": b"# Animals", "LICENSE": b"CC0"})),
    "endings in capitals": Layout(partial(class_folders, rename=str.upper), other_names=True),
    "jpeg": Layout(partial(class_folders, rename=lambda name: name.replace(".jpg", ".jpeg")), other_names=True),
    "jfif": Layout(partial(class_folders, rename=lambda name: name.replace(".jpg", ".jfif")), other_names=True),
    "jpe": Layout(partial(class_folders, rename=lambda name: name.replace(".jpg", ".jpe")), other_names=True),
    "no endings": Layout(partial(class_folders, rename=lambda name: name.removesuffix(".jpg")), other_names=True),
    "a wrong ending": Layout(partial(class_folders, rename=lambda name: f"{name[:-4]}.png"), other_names=True),
    "spaces": Layout(partial(class_folders, rename=lambda name: f"my photo {name}"), other_names=True),
    "png": Layout(
        partial(class_folders, rename=lambda n: f"{n[:-4]}.png", encode=".png"), other_names=True, encode=".png"
    ),
    "bmp": Layout(
        partial(class_folders, rename=lambda n: f"{n[:-4]}.bmp", encode=".bmp"), other_names=True, encode=".bmp"
    ),
    "tiff": Layout(
        partial(class_folders, rename=lambda n: f"{n[:-4]}.tif", encode=".tiff"), other_names=True, encode=".tiff"
    ),
    "class names in NFD": Layout(
        partial(class_folders, label_of=NFD.__getitem__), other_names=True, class_names=UMLAUTS
    ),
    "train + test": of_parts("train", "test"),
    "Train + Test": of_parts("Train", "Test"),
    "TRAIN + VAL": of_parts("TRAIN", "VAL"),
    "train + val": of_parts("train", "val"),
    "train + valid": of_parts("train", "valid"),
    "train + dev": of_parts("train", "dev"),
    "train + validation": of_parts("train", "validation"),
    "training + validation": of_parts("training", "validation"),
    "training + testing": of_parts("training", "testing"),
    "training_set + test_set": of_parts("training_set", "test_set"),
    "train_set + test_set": of_parts("train_set", "test_set"),
    "seg_train + seg_test": of_parts("seg_train", "seg_test"),
    "seg_train/seg_train + seg_test/seg_test": of_parts("seg_train/seg_train", "seg_test/seg_test"),
    "train + val + test": of_parts("train", "test", "val"),
    "Train + Valid + Test": of_parts("Train", "Test", "Valid"),
    "training + dev + testing": of_parts("training", "testing", "dev"),
    "parts in a wrapping folder": of_parts("train", "test", inside="animals/{part}/{label}/{name}"),
    "train + val + unlabeled test": Layout(flat_test, parts=2),
    "parts of unknown names": Layout(
        partial(class_folders, inside="{part}/{label}/{name}", names={"train": "red", "test": "blue"}, parts=2),
        refused="red",
    ),
    "parts in the classes": Layout(
        partial(class_folders, inside="{label}/{part}/{name}", names={"train": "train", "test": "test"}, parts=2),
        refused="train",
    ),
    "zip": Layout(zipped),
    "zip with a wrapping folder": Layout(partial(zipped, inside="animals/{label}/{name}")),
    "zip of parts": Layout(
        partial(zipped, inside="{part}/{label}/{name}", names={"train": "train", "test": "val"}, parts=2), parts=2
    ),
    "tar": Layout(partial(tarred, ending=".tar", mode="w")),
    "tar.gz": Layout(partial(tarred, ending=".tar.gz", mode="w:gz")),
    "tgz with a wrapping folder": Layout(partial(tarred, ending=".tgz", mode="w:gz", inside="a/{label}/{name}")),
    "a zip for each class": Layout(archives_of_classes),
    "table path, label": of_table(["path", "label"]),
    "table image, label": of_table(["image", "label"]),
    "table filename, class": of_table(["filename", "class"]),
    "table file_name, category": of_table(["file_name", "category"]),
    "table Path, Label": of_table(["Path", "Label"]),
    "table label, image": of_table(["label", "image"], lambda picture: plain(picture)[::-1]),
    "table with an index": of_table(["", "image", "label"], lambda picture: [str(picture.number), *plain(picture)]),
    "table with other columns": of_table(
        ["image", "width", "label", "source"], lambda p: [path_of(p), "12", p.label, "camera, one"]
    ),
    "table id, species without endings": of_table(["id", "species"], lambda p: [path_of(p)[:-4], p.label]),
    "table without a head": of_table(None),
    "table of semicolons": of_table(["image", "label"], delimiter=";"),
    "table of tabs": of_table(["image", "label"], delimiter="\t", name="set.tsv"),
    "table of one-hot columns": of_table(["image", *CLASSES], one_hot),
    "table of Excel": of_table(["image", "label"], encoding="utf-8-sig", line_end="\r\n"),
    "table of backslashes": of_table(["image", "label"], lambda p: [path_of(p).replace("/", "\\"), p.label]),
    "table of another drive": Layout(
        partial(table, head=["image", "label"], row=lambda p: [f"D:\\data\\{p.label}\\{p.name}", p.label]),
        options={"root": "{}/images"},
    ),
    "table of own columns": Layout(
        partial(table, head=["where", "what"], row=plain), options={"columns": "image=where,label=what"}
    ),
    **dict(_split_tables()),
    "json": Layout(partial(json_table, name="set.json", in_lines=False)),
    "jsonl": Layout(partial(json_table, name="set.jsonl", in_lines=True)),
    "metadata.csv": Layout(partial(metadata, name="metadata.csv"), other_names=False),
    "metadata.jsonl": Layout(partial(metadata, name="metadata.jsonl"), other_names=False),
    "metadata.csv of two parts": Layout(partial(metadata, name="metadata.csv", parts=True), parts=2),
    "train.csv + test.csv": Layout(partial(two_tables, names=("train.csv", "test.csv")), parts=2),
    "train.csv + valid.csv": Layout(partial(two_tables, names=("train.csv", "valid.csv")), parts=2),
    "train.csv + test.csv + val.csv": Layout(
        partial(two_tables, names=("train.csv", "test.csv", "val.csv"), parts=3), parts=3
    ),
    "map file": Layout(map_file),
    "map file of Windows": Layout(partial(map_file, slashes="\\", before="...\\images\\")),
    "map file of another drive": Layout(
        partial(map_file, slashes="\\", before="D:\\data\\"), options={"root": "{}/images"}
    ),
    "train_map.txt + test_map.txt": Layout(two_maps, parts=2),
}


def absolute(root: Path, scheme: str = "") -> Path:
    return table(root, ["image", "label"], lambda p: [f"{scheme}{os.path.join(root, path_of(p))}", p.label])  # noqa: PTH118


LAYOUTS |= {
    "table of absolute paths": Layout(absolute),
    "table of file://": Layout(partial(absolute, scheme="file://")),
}
