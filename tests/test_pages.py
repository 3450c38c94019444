"""The pages and the reference: every link leads somewhere, nothing comes from outside, all of it fits a phone."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, axe_core, needs_browser

import convolve

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SOURCES = [*ROOT.glob("*.md"), *PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[\w-]+)?\)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([\w-]+)\)")
PHONE_WIDTH = 360


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
    if page in PAGES:  # Zensical knows no pages beside them
        pages = [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
        assert [target for target in pages if not target.is_relative_to(DOCS)] == []


def test_the_list_of_pages_is_whole() -> None:
    listed = set(LINK.findall((DOCS / "index.md").read_text(encoding="utf-8")))
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} - listed == {"index.md"}
    assert len({page.name for page in PAGES}) == len(PAGES), "two pages of one name"


def test_what_the_code_says_of_pages_is_there() -> None:
    """`docs/photos.md` in a message or a comment leads somewhere."""
    for file in [*ROOT.glob("*.md"), *(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        for page in re.findall(r"\bdocs/[a-z0-9/-]+\.md", file.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{file}: {page}"


def test_the_site_leads_to_every_page() -> None:
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    assert [page for page in PAGES if f'"{page.relative_to(DOCS).as_posix()}"' not in text] == []


def test_the_gallery_is_of_this_version() -> None:
    """Or of the release before, until there is one of this version: make gallery."""
    stale = runpy.run_path(str(DOCS / "gallery.py"))["stale"]
    headings = re.findall(r"(?m)^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    versions = [version for version, _ in headings[: 2 if headings[0][1] == "unreleased" else 1]]
    assert [] in [stale(version) for version in versions], stale(versions[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` writes, in a copy of the clone."""
    pytest.importorskip("zensical", reason="needs the extra docs")
    clone = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "zensical.toml", clone)  # a link would lead it out of the clone
    shutil.copytree(DOCS, clone / "docs")
    for name in ("README.md", "benchmarks", "examples", "skills", "src", "tests"):
        (clone / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    said = subprocess.run(command, cwd=clone, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    return clone / "site"


def test_programs_that_write_pages_are_no_part_of_the_site(site: Path) -> None:
    assert [*DOCS.glob("*.py")] and not [*site.rglob("*.py"), *site.rglob("__pycache__")]


def test_the_reference_has_every_public_name(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    names = [f"convolve.{name}" for name in convolve.__all__]
    assert [name for name in [*names, "convolve.specs.data.DataSpec"] if f'id="{name}"' not in text] == []
    assert len(text) < 1_500_000  # what people import, not all that there is: a phone has to open it


def test_links_between_the_files_hold_and_nothing_is_loaded_from_outside(site: Path) -> None:
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        inside = [] if file.name == "404.html" else re.findall(r'(?:href|src)="(?!https?:|data:|#)([^"#]+)', text)
        for target in inside:
            assert (file.parent / target).exists(), f"{file.name}: {target}"
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"', text)
        assert not loaded, file


def test_anchors_are_there(site: Path) -> None:
    for source in (ROOT / "README.md", *PAGES):
        for target, anchor in ANCHOR.findall(source.read_text(encoding="utf-8")):
            page = (source.parent / target).resolve() if target else source
            if page.is_relative_to(DOCS):
                html = (site / page.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
                assert f'id="{anchor}"' in html, f"{source.name}: {target}#{anchor}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@needs_browser
def test_everything_fits_a_phone(site: Path, browser: Browser) -> None:
    for file in site.rglob("*.html"):
        browser.open(file.as_uri(), PHONE_WIDTH, 800)
        assert browser.run("document.documentElement.scrollWidth") <= PHONE_WIDTH, file.name


@needs_browser
def test_colors_follow_the_system(site: Path, browser: Browser) -> None:
    """Also after a visit in the other ones; a page of axe-core's test would not be in those that it asks for."""
    for dark, scheme in ((False, "default"), (True, "slate"), (False, "default")):
        browser.open((site / "index.html").as_uri(), dark=dark)
        assert browser.run("document.body.dataset.mdColorScheme") == scheme


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE_WIDTH, 1280])
def test_anyone_can_read_it(width: int, dark: bool, site: Path, browser: Browser, tmp_path: Path) -> None:
    """axe-core finds nothing on any page."""
    axe = axe_core(tmp_path)
    found = {}
    for file in sorted({*site.rglob("*.html")} - {site / "404.html"}):  # which is the theme's own
        browser.open(file.as_uri(), width, 800, dark=dark)
        found[file.relative_to(site).as_posix()] = browser.violations(axe)
    assert {name: what for name, what in found.items() if what} == {}
