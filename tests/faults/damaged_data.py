"""Images, lists of them and the files of published sets, with what reads them."""

from __future__ import annotations

import base64
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from sound import REPOSITORY, Format, digest, write_cases

import cifar10_files
import shard_files
from convolve.data.dataset import Dataset
from convolve.data.image_files import find_images
from convolve.data.open import open_data
from convolve.data.sources.map_file import open_map_file
from convolve.errors import DataError
from convolve.formats.annotation import read_object_names
from convolve.formats.archive import ByteReader, Location
from convolve.formats.columns import Columns, read_columns
from convolve.formats.ctf import write_ctf
from convolve.formats.decode import Decoding, decode_image
from convolve.formats.labels import read_labels
from convolve.formats.mean_xml import read_color_axes, read_mean_xml, write_mean_xml
from convolve.formats.table import read_table
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.tta import views_of
from idx_files import write_idx

# -- images ------------------------------------------------------------------------------------------------------------


def encode(form: str, picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def heic(picture: Image.Image) -> bytes:
    try:
        import pillow_heif
    except ImportError:
        return encode("PNG", picture)
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file)
    return file.getvalue()


def whole_images() -> list[bytes]:
    """One of every kind and variant that people have."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((64, 48))
    wide = Image.fromarray(rng.integers(0, 65536, (48, 64), dtype=np.uint16))
    frames = [Image.fromarray(np.roll(np.asarray(noise), 8 * k, axis=1)) for k in range(4)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    _, wide_color_png = cv2.imencode(".png", rng.integers(0, 65536, (48, 64, 3), dtype=np.uint16))
    return [
        *(encode("JPEG", noise, **how) for how in ({}, {"progressive": True}, {"restart_marker_blocks": 2})),
        *(encode("JPEG", noise.convert(mode)) for mode in ("CMYK", "L")),
        *(encode("PNG", picture) for picture in (noise, wide, noise.convert("RGBA"), noise.quantize(16))),
        wide_color_png.tobytes(),
        *(encode(form, frames[0], **animated) for form in ("PNG", "GIF", "WEBP", "AVIF")),
        *(encode("BMP", picture) for picture in (noise, noise.quantize(16))),
        encode("GIF", noise),
        *(encode("WEBP", noise, **how) for how in ({}, {"lossless": True})),
        *(encode("PPM", picture) for picture in (noise, noise.convert("1"))),
        *(encode("JPEG2000", noise, **how) for how in ({}, {"no_jp2": True})),
        *(encode("AVIF", picture) for picture in (noise, noise.convert("RGBA"))),
        heic(noise),
    ]


def whole_tiffs() -> list[bytes]:
    noise = Image.open(io.BytesIO(whole_images()[0]))
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (48, 64), dtype=np.uint16))
    return [
        *(encode("TIFF", noise, **how) for how in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"})),
        encode("TIFF", noise.convert("CMYK")),
        encode("TIFF", noise.convert("1"), compression="group4"),
        encode("TIFF", wide),
    ]


def make_images(place: Path) -> None:
    write_cases(place, {f"{number}": {"a.img": content} for number, content in enumerate(whole_images())})


def make_tiffs(place: Path) -> None:
    write_cases(place, {f"{number}": {"a.img": content} for number, content in enumerate(whole_tiffs())})


def read_image(case: Path) -> str:
    with ByteReader() as reader:
        content = reader.read(Location(str(case / "a.img")))
    return digest([decode_image(content, case / "a.img", Decoding(gray=len(content) % 2 == 0))])


def make_loaded(place: Path) -> None:
    """Good images of one gray level each, and between them one of every kind, which may be damaged; a map of all."""
    files, lines = dict[str, bytes](), []
    for number, content in enumerate([*whole_images(), *whole_tiffs()]):
        files[f"{number}.png"] = cv2.imencode(".png", np.full((30, 30), number, np.uint8))[1].tobytes()
        files[f"{number}.img"] = content
        lines += [f".../{number}.png\t0\n", f".../{number}.img\t1\n"]
    write_cases(place, {"0": {**files, "map.txt": "".join(lines)}})


def read_loaded(case: Path) -> str:
    """Each good image comes, whichever thread meets a damaged one; that comes, too, or its line is named."""
    path, want = case / "map.txt", Preprocess(3, 24, 24)
    pictures = open_map_file(path)
    samples = Dataset(pictures, lambda image_HWC, _: views_of(image_HWC, want, 1), threads=2)
    first = 0
    while first < len(pictures):
        try:
            for images_NCHW, labels_N in samples.batches(np.arange(first, len(pictures)), 8):
                for image_CHW, label in zip(images_NCHW, labels_N, strict=True):
                    assert label or (image_CHW == first // 2).all(), f"line {first + 1}: not the image"
                    first += 1
        except DataError as error:
            line = int(str(error).removeprefix(f"{path}: line ").partition(":")[0])
            assert line % 2 == 0, f"a good image is refused: {error}"
            assert "\n" not in str(error), f"more than one line: {str(error)!r}"
            first = line
    return "all good ones"


# -- archives and lists ------------------------------------------------------------------------------------------------


def make_zips(place: Path) -> None:
    for name, kind in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        (place / name).mkdir()
        with zipfile.ZipFile(place / name / "a.zip", "w", kind) as archive:
            for number in range(3):
                archive.writestr(f"{number}.png", shard_files.picture(number))


def read_found(case: Path) -> str:
    """As `predict` does with the images of a zip, a folder, shards."""
    with ByteReader() as reader:
        return digest(decode_image(reader.read(where), where) for where in find_images([*case.iterdir()]))


def read_set(case: Path) -> str:
    """Every image and label of a set, as a training sees them."""
    os.environ["CONVOLVE_CACHE"] = str(case.parent / "cache")
    return images_of(case)


def images_of(case: Path) -> str:
    splits = open_data(str(case), "" if (case / "own").exists() else next((n for n in SETS if n in case.name), ""))
    parts = [part for part in (splits.train, splits.test) if part is not None]
    return digest([*(part.labels_N.numpy() for part in parts),
                   *(part.load(k, Decoding()) for part in parts for k in range(len(part)))])  # fmt: skip


SETS = ("mnist", "cifar10")


def make_cifar(place: Path) -> None:
    for write in (cifar10_files.write_binary, cifar10_files.write_python, cifar10_files.write_ctf):
        write(place / f"cifar10-{write.__name__}")


def make_tars(place: Path) -> None:
    for name, write in (("binary", cifar10_files.write_binary), ("python", cifar10_files.write_python)):
        made = cifar10_files.packed(write, f"cifar-10-{name}.tar.gz", place.parent / f"unpacked-{name}")
        write_cases(place, {f"cifar10-{name}": {made.name: made.read_bytes()}})


def make_photos(place: Path) -> None:
    """Images in folders of classes, packed in each of the ways."""
    photos = {f"{'ab'[n % 2]}/{n}.png": shard_files.picture(n) for n in range(8)}
    write_cases(place.parent, {"photos": photos})
    ways = {"zip": "zip", "tar": "tar", "gztar": "tar.gz", "bztar": "tar.bz2", "xztar": "tar.xz"}
    for form, ending in ways.items():
        (place / ending).mkdir()
        shutil.make_archive(str(place / ending / "photos"), form, place.parent / "photos")


def read_photos(case: Path) -> str:
    """As a training does, which unpacks them into the cache."""
    os.environ["CONVOLVE_CACHE"] = str(case.parent / "cache")
    [*found] = case.glob("photos.*")
    return images_of(found[0] if found else case)


def make_idx(place: Path) -> None:
    rng = np.random.default_rng(0)
    for ending in ("", ".gz"):
        folder = place / f"mnist{ending}"
        for part, count in (("train", 20), ("t10k", 10)):
            images_NHW = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            write_idx(folder / f"{part}-images-idx3-ubyte{ending}", images_NHW)
            write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", (np.arange(count) % 10).astype(np.uint8))


def make_shards(place: Path) -> None:
    shard_files.write_shards(place / "own")


def make_lmdb(place: Path) -> None:
    from test_caffe_lmdb import encoded, plain, write  # type: ignore[import-not-found]

    for name, kind in (("plain", plain), ("encoded", encoded)):
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (5 + number, 7, 3), dtype=np.uint8) for number in range(12)]
        write(place / name, [kind(image, number % 3) for number, image in enumerate(images)])
        (place / name / "lock.mdb").unlink(missing_ok=True)


def read_lmdb(case: Path) -> str:
    return images_of(case)


def make_parquet(place: Path) -> None:
    from test_parquet import write_parquet  # type: ignore[import-not-found]

    write_parquet(place / "0" / "data" / "train-00000-of-00001.parquet", range(15))


def make_maps(place: Path) -> None:
    files: dict[str, Any] = {f"{n}.png": shard_files.picture(n) for n in range(6)}
    lines = {n: base64.b64encode(content).decode() for n, content in enumerate(files.values())}
    maps = {
        "paths": {**files, "map.txt": "".join(f".../{n}.png\t{n % 3}\n" for n in range(6))},
        "base64": {"map.txt": "".join(f"{n}\t{n % 3}\t{line}\n" for n, line in lines.items())},
    }
    write_cases(place, maps)


def read_map(case: Path) -> str:
    return images_of(case / "map.txt")


def make_tables(place: Path) -> None:
    for path in sorted((REPOSITORY / "tests" / "corpus" / "tables" / "valid").iterdir()):
        write_cases(place, {path.name: {f"table{path.suffix}": path.read_bytes()}})


def read_tables(case: Path) -> str:
    [path] = case.glob("table.*[vnl]")
    found = read_table(path)
    return str(list(zip(found.paths, found.labels, strict=True)))


def make_ctf(place: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        (place / "0").mkdir(exist_ok=True)
        features_ND = rng.integers(0, 256, (count, 16), dtype=np.uint8)
        write_ctf(place / "0" / f"{part}.ctf", np.arange(count) % 3, features_ND, 3)


def read_ctf_file(case: Path) -> str:
    return images_of(case / "train.ctf")


def make_small_files(place: Path) -> None:
    annotation = "<annotation><filename>a</filename><object><name>n01751748</name></object></annotation>"
    labels = "".join(f"{number}\tname {number}\n" for number in range(9))
    write_cases(place, {"annotation": {"a.xml": annotation}, "labels": {"a.txt": labels}})
    (place / "mean").mkdir()
    write_mean_xml(place / "mean" / "a.xml", np.arange(48, dtype=np.float32).reshape(4, 4, 3))
    axes = "<EigVal><rows>1</rows><cols>3</cols><dt>f</dt><data>1. 2. 3.</data></EigVal>"
    axes += "<EigVec><rows>3</rows><cols>3</cols><dt>f</dt><data>1. 0. 0. 0. 1. 0. 0. 0. 1.</data></EigVec>"
    write_cases(place, {"axes": {"a.xml": f"<?xml version='1.0'?><opencv_storage>{axes}</opencv_storage>"}})

    write_cases(place, {"columns": {"a.txt": "1 2 3 0\n4 5 6 1\n7 8 9.5 2\n"}})


def read_small_file(case: Path) -> str:
    [path] = case.glob("a.???")
    readers: dict[str, Any] = {
        "annotation": read_object_names, "labels": read_labels, "mean": read_mean_xml, "axes": read_color_axes,
        "columns": lambda path: read_columns(Columns(str(path), 0, 3, 3, 3)),
    }  # fmt: skip
    return str(readers[case.name](path))


DATA = {
    "images of every kind": Format(make_images, read_image, place=r"a\.img: "),
    "TIFF": Format(make_tiffs, read_image, place=r"a\.img: "),
    "images in a loader of two threads": Format(make_loaded, read_loaded, ("*.img",), exact=True),
    "zips": Format(make_zips, read_found),
    "tars": Format(make_tars, read_set),
    "archives of photos, unpacked": Format(make_photos, read_photos),
    "shards": Format(make_shards, read_set),
    "LMDB": Format(make_lmdb, read_lmdb),
    "Parquet": Format(make_parquet, read_set),
    "IDX": Format(make_idx, read_set),
    "CIFAR: binary, pickle, CTF": Format(make_cifar, read_set),
    "map files": Format(make_maps, read_map, ("map.txt",)),
    "tables: CSV, TSV, JSON": Format(make_tables, read_tables),
    "CTF": Format(make_ctf, read_ctf_file, ("train.ctf",)),
    "means, axes, annotations, labels, columns": Format(make_small_files, read_small_file),
}
