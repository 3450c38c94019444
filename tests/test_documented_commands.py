"""Every command and snippet in README.md, CONTRIBUTING.md and docs is run, or says in the page's source why it is not.

A page is done from top to bottom in a folder of its own, in this process. A fence without a language holds commands,
`python` a snippet, `text` and `yaml` what is only shown; `title="leaves.py"` names the file that the fence is.
`<!-- not run: the reason -->` on the line before a fence leaves it out. Commands within a sentence are parsed.

Three things make it quick. Every training is one epoch of the tiny network. What a reader would bring is in
stand_ins.py. TWINS changes the few words that would still be large.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from cifar10_files import write_binary
from command_line import Convolve
from convolve import recipes, run
from convolve.cli import app
from convolve.models import MODELS
from convolve.recipe import Recipe, with_values
from stand_ins import bring

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TINY = {"model.variant": "tiny", "run.epochs": 1, "run.threads": 1, "run.precision": "fp32"}

FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>.+) -->\n)?```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
IN_A_SENTENCE = re.compile(r"`(convolve [^`]+)`")

# What a page says -> what is done.
TWINS = (
    (r"--seeds \d+", "--seeds 1"),
    (r"\bconvolve serve \S+", r"\g<0> --port 0"),  # 8000 may be taken
    (r"\bdataDir=data/MNIST", r"\g<0> TrainNetwork=[SGD=[epochSize=0]]"),  # the small MNIST has no 60,000
    (r"--output conv5", "--output c_5"),  # a layer of the stand-in
    (r"^(mpiexec -n \d+|torchrun --nproc-per-node \d+ -m|srun) convolve", "convolve"),  # see tests/distributed
)


@dataclass(frozen=True)
class Fence:
    """What stands between two lines of three backticks."""

    place: str
    language: str
    file: str
    text: str
    reason: str  # for not running it

    def commands(self) -> Iterator[list[str]]:
        """The words of each command; `>` is one of them."""
        for line in self.text.replace("\\\n", " ").splitlines():
            for pattern, twin in TWINS:
                line = re.sub(pattern, twin, line)  # noqa: PLW2901
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&>")
            lexer.whitespace_split = True
            words = [*lexer, "&&"]
            while words:
                end = words.index("&&")
                if end:
                    yield words[:end]
                words = words[end + 1 :]


def fences(name: str, text: str) -> list[Fence]:
    found = []
    for match in FENCE.finditer(text):
        language, _, title = match["info"].partition(" ")
        file = title.removeprefix("title=").strip('"')
        place = f"{name}, line {1 + text.count(chr(10), 0, match.start())}"
        found.append(Fence(place, language, file, match["text"], match["reason"] or ""))
    assert text.count("```") == 2 * len(found), f"{name}: a fence that is not closed, or not at the start of a line"
    return found


Do = Callable[[Fence], None]


@pytest.fixture(scope="module")
def data(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For $CONVOLVE_DATA: a little of each data set."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(tiny_mnist, folder / "mnist")
    write_binary(folder / "cifar10")
    return folder


@pytest.fixture
def do(convolve: Convolve, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Do]:
    """`do(fence)` in a folder of this test's own, without a network."""
    resolve = run.resolve

    def resolve_tiny(recipe: str | Recipe, settings: dict[str, Any]) -> Recipe:
        return with_values(resolve(recipe, settings), TINY)

    for module in (recipes, run):
        monkeypatch.setattr(module, "resolve", resolve_tiny)
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)  # tests/serve ask it
    for name in ("argv", "path", "meta_path"):  # a program for CNTK changes them
        monkeypatch.setattr(sys, name, [*getattr(sys, name)])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    for name, value in {"CONVOLVE_DATA": data, "XDG_CACHE_HOME": tmp_path, "https_proxy": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, str(value))

    def command(place: str, words: list[str]) -> None:
        said = f"{place}: {shlex.join(words)}"
        assert words[0] == "convolve", f"{said}: run it here, or say before the fence <!-- not run: why -->"
        bring(" ".join(words))
        words, into = (words[:-2], Path(words[-1])) if ">" in words else (words, None)
        outcome = convolve(*words[1:])
        assert outcome.code == 0, f"{said}\n{outcome.err}"
        if into:
            into.write_text(outcome.out)

    def do(fence: Fence) -> None:
        assert fence.language in ("", "python", "text", "yaml"), f"{fence.place}: commands stand without a language"
        if fence.file:
            Path(fence.file).write_text(fence.text, encoding="utf-8")
        if fence.language == "python":
            bring(fence.text)
            exec(compile(fence.text, fence.place, "exec"), {"__name__": "__main__"})
        elif not fence.language:
            for words in fence.commands():
                command(fence.place, words)

    models, modules = dict(MODELS), {*sys.modules}
    yield do
    for name in {name for name in sys.modules if name.partition(".")[0] == "cntk"} - modules:
        del sys.modules[name]  # `import cntk` is answered in that program alone
    MODELS.clear()
    MODELS.update(models)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_works(page: Path, do: Do) -> None:
    for fence in fences(page.name, page.read_text(encoding="utf-8")):
        if not fence.reason:
            do(fence)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```\nconvolve show mnist --shedule\n```", "--shedule"),
        ("```\nconvolve show mnist && convolve show minst\n```", "minst"),
        ("```\npip install convolve\n```", "not run: why"),
        ("```bash\nconvolve doctor\n```", "without a language"),
        ("```python\nimport convolve\n\nconvolve.lode\n```", "lode"),
        ("```\nconvolve doctor\n", "not closed"),
        ("<!-- not run: -->\n```\npip install convolve\n```", "not run: why"),
    ],
)
def test_what_does_not_work_is_seen(text: str, said: str, do: Do) -> None:
    with pytest.raises((AssertionError, AttributeError), match=said):
        for fence in fences("page", text):
            do(fence)


def parse(command: str) -> None:
    """Refuses what the command line does not know."""
    group: Any = typer.main.get_command(app)
    _, name, *words = shlex.split(re.sub(r"\bN\b", "1", command))
    assert name in group.commands or name.startswith("-"), command
    if words and "--help" not in words:
        group.commands[name].make_context(name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_sentences_are_accepted(page: Path) -> None:
    for match in IN_A_SENTENCE.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        parse(" ".join(match[1].split()))


def test_a_wrong_command_within_a_sentence_is_seen() -> None:
    with pytest.raises(Exception, match="--shedule"):
        parse("convolve show mnist --shedule")
