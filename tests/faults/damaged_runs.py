"""What convolve itself wrote and reads again: run folders, recipes, caches, tables that go on, signatures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from damaged_data import images_of
from sound import Format, digest, digest_of_files, tiny_model, write_cases
from test_report import make_run  # type: ignore[import-not-found]
from trials import command

from convolve import cache
from convolve.data.build import build_data
from convolve.data.lists import open_lists
from convolve.data.packed import PackedSource
from convolve.data.sources import shard_index
from convolve.errors import DataError
from convolve.formats.idx import read_idx
from convolve.recipe import to_mapping
from convolve.recipes import RECIPES, load_recipe, resolve
from convolve.report import write_report
from idx_files import write_idx
from shard_files import picture, write_shards

KILLED = 113


def until(ending: str, do: Callable[[], Any]) -> None:
    """`do` in a process that is killed before a file gets a name of that `ending`."""
    number = os.fork()
    if not number:

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "os.rename" and str(arguments[1]).endswith(ending):
                os._exit(KILLED)

        sys.addaudithook(hook)
        do()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == KILLED


# -- run folders -------------------------------------------------------------------------------------------------------


def training(case: Path) -> list[object]:
    """Two updates an epoch and a checkpoint after each."""
    settings = ("model.variant=tiny", "run.global_batch_size=32", "run.checkpoint_seconds=0.000001")
    words = [*(f"--set={setting}" for setting in settings), "--epochs", "2", "--threads", "1", "--precision", "fp32"]
    return ["train", "mnist", "--data", case / "data", *words, "--out", case / "run"]


def make_unfinished(place: Path) -> None:
    case, sample = place / "0", resources.files("convolve") / "data" / "sample"
    for part, count in {"train": 64, "t10k": 32}.items():
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            write_idx(case / "data" / name, read_idx(Path(str(sample / f"{name}.gz")))[:count])
    until("step-00000003.json", lambda: command(training(case)))


def go_on(case: Path) -> str:
    command(training(case))
    return digest([(case / "run" / "model" / "weights.safetensors").read_bytes()])


def make_finished(place: Path) -> None:
    make_run(place / "0", epochs=3, images=40)


# -- recipes -----------------------------------------------------------------------------------------------------------


def make_recipes(place: Path) -> None:
    for name in RECIPES:
        mapping = json.dumps(to_mapping(load_recipe(name)))
        write_cases(place, {f"{name}-json": {"a.json": mapping}})
        write_cases(place, {f"{name}-yaml": {"a.yaml": yaml.safe_dump(json.loads(mapping))}})


def read_recipe(case: Path) -> str:
    [path] = case.glob("a.*[ln]")
    return str(to_mapping(resolve(str(path), {})))


# -- caches ------------------------------------------------------------------------------------------------------------


def make_indices(place: Path) -> None:
    write_shards(place / "0" / "own")
    read_indexed(place / "0")


def read_indexed(case: Path) -> str:
    os.environ["CONVOLVE_CACHE"] = str(case / "cache")
    return images_of(case / "own")


def make_beside(place: Path) -> None:
    """As `prepare shards` writes it, to lie beside shards at an address."""
    write_shards(place / "0")
    shard_index.save_index(place / "0" / "set-index.npz", shards_in(place / "0"))


def shards_in(case: Path) -> list[shard_index.Shard]:
    return [shard_index.Shard(str(path), f"{path.stat().st_size} 0") for path in sorted(case.glob("*.tar"))]


def read_beside(case: Path) -> str:
    """As of shards at an address, which here is the folder."""
    os.environ["CONVOLVE_CACHE"] = str(case / "cache")
    replaced: dict[str, Any] = {"address": str, "exists": lambda url: True, "local": Path}
    for name, by in replaced.items():
        setattr(shard_index, name, by)
    found = shard_index.open_index(shards_in(case))
    return str([(found.place(number), found.labels) for number in range(len(found.rows_N))])


def make_features(place: Path) -> None:
    os.environ["CONVOLVE_CACHE"] = str(place / "0")
    cache.update("features", "a" * 64, lambda _: b"what was kept")


def read_features(case: Path) -> bytes:
    os.environ["CONVOLVE_CACHE"] = str(case)
    found = cache.read("features", "a" * 64)
    if found is None:
        raise DataError("nothing is kept")
    return found


def make_packed(place: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        part, name = "train" if number < 9 else "val", "ab"[number % 2]
        small = rng.integers(0, 256, (12, 9 + number % 5, 3), np.uint8)
        content = cv2.imencode(".jpg", cv2.resize(small, (110 + number, 150), interpolation=cv2.INTER_CUBIC))[
            1
        ].tobytes()
        write_cases(place, {"0": {f"photos/{part}/{name}/{number}.jpg": content}})
    read_packed(place / "0")


def read_packed(case: Path) -> str:
    crop = {"kind": "crop", "crop_type": "randomside", "side_ratio": 0.9}
    crops = [crop, {"kind": "scale", "width": 32, "height": 32}]
    known = {
        "data.image_size": 32, "data.mean_image": "", "data.train_transforms": json.dumps(crops),
        "run.global_batch_size": 4, "data.cache": str(case / "cache"),
    }  # fmt: skip
    loader = build_data(resolve("cifar10-aug", known), open_lists(case / "photos"), 1, warn=lambda message: None).loader
    found = digest(images.contiguous().numpy() for epoch in (0, 1) for images, _ in loader.epoch(epoch))
    source = loader.datasets[0].source
    assert isinstance(source, PackedSource)
    source.pack.flush()
    return found


# -- tables that go on, signatures -------------------------------------------------------------------------------------


def answers(case: Path) -> list[object]:
    return ["predict", case / "model", case / "images", "--csv", case / "t.csv", "--top", "2"]


def make_partial(place: Path) -> None:
    case = place / "0"
    tiny_model().save(case / "model")
    write_cases(place, {"0": {f"images/{number}.png": picture(number) for number in range(6)}})
    until("t.csv", lambda: command(answers(case)))
    for left in case.glob(".t.csv*"):
        left.unlink()


def answer_on(case: Path) -> str:
    command(answers(case))
    return digest([(case / "t.csv").read_bytes()])


def make_signed(place: Path) -> None:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec

    case, key = place / "0", ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    tiny_model().save(case / "model")
    write_cases(place, {"0": {"key.pem": private, "key.pub": public}})
    command(["convert", case / "model", "--sign", case / "key.pem"])


def verify(case: Path) -> str:
    """What was signed: a folder that is as it was, whatever else its signature says."""
    command(["convert", case / "model", "--verify", case / "key.pub"])
    return digest_of_files(case / "model", ("weights.safetensors", "*.json", "*.md"))


RUNS = {
    "run folders, reported": Format(make_finished, lambda case: bool(write_report(case))),
    "run folders and checkpoints, gone on with": Format(
        make_unfinished, go_on, ("run/**/*", "run/checkpoints/*", "run/*.json*"), exact=True
    ),
    "recipes: JSON, YAML": Format(make_recipes, read_recipe),
    "indices of shards": Format(make_indices, read_indexed, ("cache/**/*",), exact=True),
    "indices beside shards": Format(make_beside, read_beside, ("*.npz",)),
    "kept features": Format(make_features, read_features, exact=True),
    "packed caches": Format(make_packed, read_packed, ("cache/**/*",), exact=True),
    "FILE.partial": Format(make_partial, answer_on, ("*.partial",)),
    "signed models": Format(make_signed, verify, ("model/*", "model/*.sig"), exact=True, sealed=True),
}
