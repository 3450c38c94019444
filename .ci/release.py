"""One release: version, changelog, wheel and source archive, checks, tag, upload.

    make release VERSION=0.2.0 INDEX=https://test.pypi.org/legacy/

Writes the version into pyproject.toml and the day into CHANGELOG.md, builds into dist/, has twine check what was built,
commits and tags, and uploads. Nothing is committed before everything is built and checked, and nothing is uploaded
before it is tagged. Without INDEX nothing is uploaded. The same command again goes on where it stopped. A stale gallery
(docs/gallery.py) is refused. Credentials are twine's own (TWINE_USERNAME, TWINE_PASSWORD, a keyring). The tag stays
here until you push it: git push --follow-tags.
"""

from __future__ import annotations

import argparse
import datetime
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
IN_PROJECT = re.compile(r'(?m)^version = "([^"]+)"$')
IN_CHANGELOG = re.compile(r"(?m)^## (\S+) \((.+)\)$")


def run(*words: str | Path) -> str:
    """What a command prints; one that fails ends the release with its own message."""
    done = subprocess.run(words, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)
        sys.exit(f"release: {' '.join(map(str, words))} failed with exit code {done.returncode}")
    return done.stdout.strip()


def with_version(project: str, version: str) -> str:
    """pyproject.toml with `version`."""
    return IN_PROJECT.sub(f'version = "{version}"', project, count=1)


def with_day(changelog: str, version: str, day: str) -> str:
    """CHANGELOG.md whose first heading is `version (unreleased)`, with the day in place of that word."""
    heading = IN_CHANGELOG.search(changelog)
    if not heading or heading[1] != version or heading[2] != "unreleased":
        found = heading[0] if heading else "no heading"
        sys.exit(f"release: CHANGELOG.md begins with {found}; write what is new under ## {version} (unreleased)")
    return changelog[: heading.start()] + f"## {version} ({day})" + changelog[heading.end() :]


def build(version: str) -> list[Path]:
    """Wheel and source archive in dist/, checked."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", "dist")
    files = sorted((ROOT / "dist").iterdir())
    expected = {f"convolve-{version}-py3-none-any.whl", f"convolve-{version}.tar.gz"}
    if {file.name for file in files} != expected:
        sys.exit(f"release: dist has {', '.join(file.name for file in files)}, not {' and '.join(sorted(expected))}")
    print(run(sys.executable, "-m", "twine", "check", "--strict", *files))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version")
    parser.add_argument("--index", default="", help="the address that twine uploads to; without it nothing is uploaded")
    given = parser.parse_args()
    version, tag = given.version, f"v{given.version}"
    if not VERSION.fullmatch(version):
        sys.exit(f"release: {version} is no version; write one such as 0.2.0 or 0.2.0rc1")
    if run("git", "status", "--porcelain"):
        sys.exit("release: there are changes that are not committed; commit them or put them away")
    if old := runpy.run_path(str(ROOT / "docs" / "gallery.py"))["stale"](version):
        sys.exit(
            f"release: {', '.join(old)} of docs/gallery are of another version; set the version, then make gallery"
        )
    if run("git", "tag", "--list", tag):
        if run("git", "rev-parse", f"{tag}^{{commit}}") != run("git", "rev-parse", "HEAD"):
            sys.exit(f"release: {tag} is another commit already; choose the next version")
        files = build(version)
    else:
        project, changelog = ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"
        dated = with_day(changelog.read_text(encoding="utf-8"), version, datetime.date.today().isoformat())
        changelog.write_text(dated, encoding="utf-8")
        project.write_text(with_version(project.read_text(encoding="utf-8"), version), encoding="utf-8")
        try:
            files = build(version)
        except BaseException:
            run("git", "checkout", "--", project, changelog)
            raise
        run("git", "commit", "--quiet", "--message", f"Release {version}", "--", project, changelog)
        run("git", "tag", "--annotate", tag, "--message", f"convolve {version}")
    if given.index:
        again = ["--skip-existing"] if "pypi.org/" in given.index else []  # twine knows no other index that has it
        print(run(sys.executable, "-m", "twine", "upload", *again, "--repository-url", given.index, *files))
    where = f" and lies at {given.index}" if given.index else ""
    print(f"{tag} is built and tagged{where}; git push --follow-tags publishes the tag")


if __name__ == "__main__":
    main()
