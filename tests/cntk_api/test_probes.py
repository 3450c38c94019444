"""What the real CNTK 2.7 answered to probes of its API, line by line: tests/golden/cntk_api.

A line is a question and the answer, or `!!` and the refusal. Addresses and the numbers in uids are left out.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROBES = Path(__file__).parents[1] / "golden/cntk_api"
NUMBERED = re.compile(
    r"(0x|(?:Input|Output|Parameter|Constant|Placeholder|Block|CompositeFunction|Plus|Minus|Slice))[0-9a-f]+"
)

# Question -> why the answer is another one here.
OF_CLASSES = "Python names the class: Input is one of its own here"
OF_BLOCKS = "within a block CNTK's placeholders have numbers, ours the names of arguments"
OF_OBJECTS = "CNTK shows an object of its binary module"
LAST_BITS = "the sum is taken in another order"
DIFFERENT = {
    "second binding other shape": OF_BLOCKS,
    "x**2": OF_CLASSES,
    "x>0": OF_CLASSES,
    "len": OF_CLASSES,
    "conv attrs": "attributes are as they were given; CNTK fills them up to the rank of the input",
    "learner missing params": OF_OBJECTS,
    "lr float": OF_OBJECTS,
    "adam args": OF_OBJECTS,
    "fsadagrad": OF_OBJECTS,
    "float64 model": OF_BLOCKS,
    "streams": OF_CLASSES,
    "no map keys": OF_CLASSES,
    "mb[s.streams.x]": OF_CLASSES,
    "max_samples=5 sizes": OF_OBJECTS,
    "wrong field": "the line is named, too",
    "lr": OF_OBJECTS,
    "prev loss": LAST_BITS,
    "missing input": "our trainer asks for other outputs",
    "data_parallel alone": "our sentence says what to do",
    "block mom alone": "our sentence says what to do",
    "forward": OF_OBJECTS,
    "z.train": LAST_BITS,
}  # fmt: skip


def answers(text: str) -> list[tuple[str, object]]:
    """(question, answer), the answer as a value where it is one."""
    found: list[tuple[str, object]] = []
    for line in text.splitlines():
        question, _, answer = line.partition(": ")
        answer = NUMBERED.sub(r"\1#", answer.replace("convolve.cntk", "cntk"))
        try:
            found.append((question, ast.literal_eval(answer)))
        except (ValueError, SyntaxError):
            found.append((question, answer))
    return found


def kind(answer: object) -> str:
    """Of a refusal the class of the error, else nothing."""
    match = re.match(r"!! (\w+)", str(answer))
    return match.group(1) if match else ""


@pytest.mark.parametrize("probe", ["functions", "layers", "objects", "sessions", "training"])
def test_answers_are_cntks(probe: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "convolve.cntk", str(PROBES / f"{probe}.py")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = answers(done.stdout), answers((PROBES / f"{probe}.out").read_text())
    assert [question for question, _ in ours] == [question for question, _ in theirs]
    for (question, answer), (_, wanted) in zip(ours, theirs, strict=True):
        assert kind(answer) == kind(wanted), f"{question}: {answer} | {wanted}"
        if question not in DIFFERENT:
            assert answer == wanted, question
