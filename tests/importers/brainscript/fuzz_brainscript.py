"""Damaged configurations by the thousand: each is read, or ends in an error with line and column, in bounded time.

python tests/importers/brainscript/fuzz_brainscript.py 5000 [brainscript|ndl|simple|mel]
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from convolve.errors import ConvolveError
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.job import EditStep, TrainStep, read_job
from convolve.importers.brainscript.lower import lower

REPOSITORY = Path(__file__).parents[3]
SOURCES = [
    *sorted((REPOSITORY / "examples" / "BrainScript").glob("*.cntk")),
    *sorted((REPOSITORY / "tests" / "corpus" / "brainscript" / "valid").glob("*.cntk")),
    *sorted((REPOSITORY / "tests" / "corpus" / "language").glob("*.cntk")),
]
MACROS = [
    *sorted((REPOSITORY / "tests" / "corpus" / "brainscript" / "valid").glob("*.bs")),
    *sorted(file for file in (REPOSITORY / "tests" / "corpus" / "language").iterdir() if file.suffix != ".cntk"),
]
OLDER = REPOSITORY / "tests" / "corpus" / "ndl"
SIMPLE = [*sorted(OLDER.glob("Simple*.cntk"))]
EDITED = [OLDER / "TopTwo.cntk", OLDER / "Transfer.cntk"]
# language -> the configurations, the files that lie beside them, and how often one of these is damaged
LANGUAGES = {
    "brainscript": (SOURCES, MACROS, 0.3),
    "ndl": (
        [file for file in sorted(OLDER.glob("*.cntk")) if file not in SIMPLE + EDITED],
        sorted(OLDER.glob("*.ndl")),
        0.5,
    ),
    "simple": (SIMPLE, [], 0.0),
    "mel": (EDITED, [*sorted(OLDER.glob("*.mel")), *sorted(OLDER.glob("*.ndl"))], 0.9),
}
PLACE = re.compile(r": line \d+, column \d+: ")
MOST_SECONDS = 30.0  # of processor time, for one configuration

_PIECES = [
    "(", ")", "{", "}", "[", "]", "[|", "|]", ":", ";", ",", "=", "=>", "..", ".", ".*", "*", "**", "/", "%", "+", "-",
    "!", ">>", "<<", "==", "&&", "||", '"', "'", "#", "//", "/*", "*/", "$", "$imageW$", "if", "then", "else", "new",
    "array", "with", "include", "true", "None", "0", "-1", "1e9", "1e-9", "1e400", "0x7f", "x", "i", "z", "features",
    "run", "Plus", "Parameter", "tag",
    "ReLU", "Sequential", "base", "BS", "Network", "Load", "CloneFunction", "Edit", "node",
    "PastValue", "\n", "\t", "\x00", "\ufeff", "é",
]  # fmt: skip


def damaged(text: str, rng: random.Random) -> str:
    """`text` with one to four mistakes in it."""
    for _ in range(rng.randint(1, 4)):
        words = re.findall(r"\w+|\s+|.", text)
        place, length = rng.randrange(len(words)), rng.randint(1, 4)
        match rng.randrange(5):
            case 0:
                words[place : place + length] = []
            case 1:
                words.insert(place, rng.choice(_PIECES))
            case 2:
                words[place] = rng.choice(_PIECES)
            case 3:
                words[place : place + length] = words[place : place + length] * 2
            case _:
                other = rng.randrange(len(words))
                words[place], words[other] = words[other], words[place]
        text = "".join(words)
    return text


def read_all(file: Path) -> None:
    """What `convolve show` does with a configuration, but for building the module."""
    for step in read_job([str(file), f"out={file.parent}", "data=."]).steps:
        for _, network in step.saved if isinstance(step, EditStep) else ():
            lower(trained(network).outputs, None, "BrainScript")
        if isinstance(step, TrainStep):
            lower(trained(step.network).outputs, None, "BrainScript")


def check(seed: int, folder: Path, language: str = "brainscript") -> str:
    """What became of one damaged configuration; raises AssertionError for what should not happen."""
    rng = random.Random(seed)
    sources, macros, share = LANGUAGES[language]
    source = rng.choice(sources)
    in_macro = rng.random() < share
    broken = rng.choice(macros) if in_macro else source
    for macro in macros:
        (folder / macro.name).write_text(macro.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "net.cntk").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    target = folder / (broken.name if in_macro else "net.cntk")
    target.write_text(damaged(broken.read_text(encoding="utf-8"), rng), encoding="utf-8")
    start = time.process_time()
    try:
        read_all(folder / "net.cntk")
    except ConvolveError as error:
        assert PLACE.search(str(error)), f"seed {seed}: no place in: {error}"
        outcome = type(error).__name__
    else:
        outcome = "read"
    assert time.process_time() - start < MOST_SECONDS, f"seed {seed}: too slow"
    return outcome


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        language = sys.argv[2] if len(sys.argv) > 2 else "brainscript"
        print(Counter(check(seed, Path(name), language) for seed in range(int(sys.argv[1]))))
