"""American spelling throughout, in names and prose alike."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = [ROOT / room for room in ("src", "docs", "tests", "examples", "benchmarks")]
KINDS = {".py", ".md", ".html", ".css", ".js", ".toml", ".lark", ".bs", ".jinja", ".cntk", ".txt"}
FILES = [*ROOT.glob("*.md"), *(path for room in ROOMS for path in room.rglob("*") if path.suffix in KINDS)]

# Names of recorded cases (grey_bmp, color_grey) stay, and a transform that CNTK may have called "colour".
BRITISH = re.compile(
    r"colour(?!\": _color)|(?<!color_)(?<!intens_)grey(?!hound|_bmp)|neighbour|behaviour|favour|honour"
    r"|centre|centerd|labeledby|artefact|catalogue|analogue|licence|defence"
    r"|(?:label|model|travel|cancel|signal|level|total|channel)l(?:ed|ing|er)(?!by)"
    r"|(?:normal|initial|optim|recogn|organ|summar|serial|quant|minim|maxim|penal|vector|standard|random|parallel"
    r"|synchron|categor|emphas|special|general|visual|final|character|capital|priorit|memor|util|real|custom|local"
    r"|regular|token|author|material|central|factor)is(?:e[sdr]?|ing|ation|ations|able)\b"
    r"|analyse[dr]?\b|analysing|learnt|spelt|whilst|amongst|judgement|ageing",
    re.IGNORECASE,
)


def test_spelling_is_american() -> None:
    kept = ("golden", "corpus", "imagenet.txt", "convolve.egg-info")  # as others wrote them, or an earlier install
    own = {Path(__file__)} | {path for path in FILES if set(kept) & set(path.parts) and path.suffix != ".md"}
    found = {
        (match[0], str(path.relative_to(ROOT)))
        for path in FILES
        if path not in own
        for match in BRITISH.finditer(f"{path.name} {path.read_text(encoding='utf-8')}")
    }
    assert sorted(found) == []
