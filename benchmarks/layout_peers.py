"""Which of the layouts of tests/layouts.py other tools read rightly: torchvision, Hugging Face datasets and fastai.

    python benchmarks/layout_peers.py --peers PYTHON_OF_AN_ENVIRONMENT_WITH_THEM --out benchmarks/results/layouts.json

and writes the table of docs/explanation/layouts.md.

Each tool gets the very path that `--data` gets, by its plain call, and what its documentation says for a table. It
reads a layout rightly if each of the eighty pictures has its class, and none is in another part than it was put in.
ImageFolder knows no parts: of a set in parts it gets the folder of each. torchvision does not work beside the torch of
constraints.txt, so that the tools run in an environment of their own:

    pip install torch==2.8.0 torchvision==0.23.0 datasets==5.2.0 fastai==2.8.12
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from unicodedata import normalize

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "layouts.md"
PLACE = re.compile(r"(?<=<!-- layouts -->).*?(?=<!-- end of layouts -->)", re.DOTALL)
Row = tuple[str, str, str]  # digest of the file, class, part ("" where the tool makes none)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the interpreter that has the other tools")
    parser.add_argument("--out", type=Path, help="where the table goes, as JSON")
    parser.add_argument("--read", nargs=2, metavar=("TOOL", "PLAN"), help="(used by the script itself)")
    asked = parser.parse_args()
    if asked.read:
        print(json.dumps(read_all(asked.read[0], json.loads(Path(asked.read[1]).read_text(encoding="utf-8")))))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = compare(Path(folder), asked.peers)
    print("\n".join(in_markdown(table)))
    if asked.out:
        asked.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        text = PLACE.sub("\n".join(["", *in_markdown(table), ""]), PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(text, encoding="utf-8")


def in_markdown(table: dict[str, dict[str, str]]) -> Iterator[str]:
    """How many layouts each tool reads rightly, and a row for all layouts of which they make the same."""
    tools = list(next(iter(table.values())))
    counts = [sum(answers[tool] == "right" for answers in table.values()) for tool in tools]
    yield f"| layout | {' | '.join(tools)} |"
    yield "|" + " --- |" * (1 + len(tools))
    yield f"| read rightly, of {len(table)} | {' | '.join(map(str, counts))} |"
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, answers in table.items():
        alike.setdefault(tuple(answers.values()), []).append(name)
    for answered, names in sorted(alike.items(), key=lambda row: -len(row[1])):
        yield f"| {'; '.join(names)} | {' | '.join(answered)} |"


# -- here: the layouts, our own answer, and the judgment ---------------------------------------------------------------


def compare(root: Path, peers: str) -> dict[str, dict[str, str]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from layouts import LAYOUTS

    plan: dict[str, Any] = {}
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        folder = root / str(number)
        folder.mkdir()
        place = layout.make(folder)
        plan[name] = {"place": str(place), "root": str(folder), "parts": layout.parts}
    (root / "plan.json").write_text(json.dumps(plan))
    table = {name: {"convolve": ours(layout, plan[name])} for name, layout in LAYOUTS.items()}
    for tool in TOOLS:
        words = [peers, __file__, "--read", tool, str(root / "plan.json")]
        answers = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        for name, layout in LAYOUTS.items():
            table[name][tool] = judge(answers[name], layout)
    return table


def ours(layout: Any, planned: dict[str, Any]) -> str:
    from convolve.data.open import open_data
    from convolve.errors import ConvolveError
    from layouts import data_options

    try:
        splits = open_data(planned["place"], options=data_options(layout, Path(planned["root"])))
    except ConvolveError:
        return "refused"
    rows = [
        (sha256(part.read(number)).hexdigest(), splits.class_names[label], name)
        for name, part in (("train", splits.train), ("test", splits.test), ("validation", splits.validation))
        if part is not None
        for number, label in enumerate(part.labels_N.tolist())
    ]
    return judge(rows, layout)


def judge(answer: list[Row] | str, layout: Any) -> str:
    """ "right", "wrong", or "refused" for an exception."""
    from layouts import pictures, written

    if isinstance(answer, str):
        return "refused"
    truth = [
        (sha256(written(layout, picture)).hexdigest(), layout.class_of(picture), picture.part(layout.parts))
        for picture in pictures()
    ]
    return "right" if by_part(answer, layout.parts) == by_part(truth, layout.parts) else "wrong"


def by_part(rows: list[Row], parts: int) -> set[tuple[tuple[str, str], ...]]:
    """The images of each part with their classes; what a part is called does not matter, and of one part nothing."""
    names = {part for *_, part in rows} if parts > 1 else {""}
    return {
        tuple(sorted((digest, normalize("NFC", label)) for digest, label, part in rows if parts == 1 or part == name))
        for name in names
    }


# -- there: the other tools --------------------------------------------------------------------------------------------


def read_all(tool: str, plan: dict[str, Any]) -> dict[str, list[Row] | str]:
    answers: dict[str, list[Row] | str] = {}
    for name, planned in plan.items():
        try:
            answers[name] = list(TOOLS[tool](Path(planned["place"]), planned["parts"]))
        except Exception as error:  # whatever a tool says of what it cannot read
            answers[name] = f"{type(error).__name__}: {error}"[:200]
    return answers


def digest_of(file: str | Path) -> str:
    return sha256(Path(file).read_bytes()).hexdigest()


def image_folder(place: Path, parts: int) -> Iterator[Row]:
    from torchvision.datasets import ImageFolder

    for folder in filter(Path.is_dir, place.iterdir()) if parts > 1 else [place]:
        found = ImageFolder(str(folder))
        yield from ((digest_of(file), found.classes[label], folder.name) for file, label in found.samples)


def hugging_face(place: Path, parts: int) -> Iterator[Row]:
    from datasets import Image, load_dataset

    where = {"data_dir": str(place)} if place.is_dir() else {"data_files": str(place)}
    with tempfile.TemporaryDirectory() as cache:
        found = load_dataset("imagefolder", cache_dir=cache, **where)
        for part, rows in found.items():
            names = rows.features["label"].names if hasattr(rows.features["label"], "names") else None
            for row in rows.cast_column("image", Image(decode=False)):
                content = row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
                label = names[row["label"]] if names else row["label"]
                yield sha256(content).hexdigest(), label, part


def fastai(place: Path, parts: int) -> Iterator[Row]:
    from fastai.vision.all import ImageDataLoaders

    if place.is_file():
        loaders = ImageDataLoaders.from_csv(place.parent, place.name, bs=4, num_workers=0)
    elif parts > 1:
        loaders = ImageDataLoaders.from_folder(place, bs=4, num_workers=0)
    else:
        loaders = ImageDataLoaders.from_folder(place, valid_pct=0.2, bs=4, num_workers=0)
    for part, dataset in (("train", loaders.train_ds), ("test", loaders.valid_ds)):
        for index, item in enumerate(dataset.items if place.is_dir() else dataset.items.index):
            label = loaders.vocab[int(dataset[index][1])]
            file = item if place.is_dir() else place.parent / str(dataset.items.loc[item].iloc[0])
            yield digest_of(file), str(label), part


TOOLS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "ImageFolder": image_folder,
    "Hugging Face": hugging_face,
    "fastai": fastai,
}

if __name__ == "__main__":
    main()
