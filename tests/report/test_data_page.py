"""The page of a check: one file, every kind with its pictures, of bounded size, safe whatever the files are called."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from command_line import Convolve
from convolve.checking.check import Checked, check_data
from convolve.checking.finding import KINDS, MOST_KEPT, Findings
from convolve.report.data_page import MOST_LINES, MOST_PICTURES, write_data_page
from scenes import save, scene


class Page(HTMLParser):
    """Headings, pictures and what is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.pictures = 0
        self.feed(self.text)
        assert self.open == []
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "img"
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(12):
        save(folder / "ab"[number % 2] / f"{number}.jpg", scene(number))
    return folder


def test_findings_with_their_pictures(folder: Path, convolve: Convolve) -> None:
    save(folder / "a" / "night.jpg", scene(50) // 8)
    shutil.copy(folder / "a" / "0.jpg", folder / "b" / "copy.jpg")
    (folder / "a" / "cut.jpg").write_bytes((folder / "a" / "2.jpg").read_bytes()[:-99])
    outcome = convolve("check-data", folder, "--html", folder / "page.html")
    assert outcome.code == 3 and outcome.out.endswith("15 training images: 3 findings\n")
    page = Page(folder / "page.html")
    assert page.pictures == 3
    for text in ("<strong>3</strong>", "Dark images", "night.jpg", "cannot be shown", "Classes"):
        assert text in page.text
    assert str(folder) not in page.text.replace(f'title="{folder}', "")


def test_nothing_found(folder: Path, convolve: Convolve) -> None:
    assert convolve("check-data", folder, "--html", folder / "page.html").code == 0
    page = Page(folder / "page.html")
    assert "Nothing was found." in page.text and page.pictures == 0


def test_names_stay_text(folder: Path, convolve: Convolve) -> None:
    name = "<script>alert(1)</script>'\"&"
    for number in range(20, 26):
        save(folder / "<b>c" / f"{name.replace('/', '')}{number}.jpg", scene(number) // 8)
    assert convolve("check-data", folder, "--html", folder / "<i>page.html").code == 3
    page = Page(folder / "<i>page.html")
    assert "&lt;script&gt;" in page.text and "<script" not in page.text and "<b>c" not in page.text


def test_thousands_of_findings_of_every_kind_stay_bounded(folder: Path) -> None:
    checked = check_data(folder)
    findings = Findings()
    for number in range(3 * MOST_KEPT):
        for kind in KINDS:
            images = ((("training", number % 12)),) if kind != "bad line" else ()
            findings.add(kind, f"place {number}", "what", f"mend {number}", images)
    write_data_page(Checked(checked.parts, findings), folder, folder / "page.html")
    page = Page(folder / "page.html")
    assert MOST_PICTURES - 2 * len(KINDS) < page.pictures <= MOST_PICTURES
    assert f"And {3 * MOST_KEPT - MOST_LINES:,} more" in page.text
    assert len(page.text) < 10e6
