"""The documentation: lengths, links of files outside the site, and commands whose options exist."""

from __future__ import annotations

import io
import re
import runpy
import shlex
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from unheard.cli import VERBS, main
from unheard.experiments.config import keys

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GENERATED = DOCS / "reference" / "configuration.md"
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")} - {GENERATED})
LIMITS = {"README.md": 120, "CONTRIBUTING.md": 45, "results.md": 120, "notebook.md": 1000}
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lengths(page: Path) -> None:
    """A line of prose has at most 120 characters, a page for newcomers at most 150 lines."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "![", "<!--"))] == []
    assert len(lines) <= LIMITS.get(page.name, 150)


def test_links_outside_the_site() -> None:
    """Links within the site are checked when it is built."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), (name, link)


def commands(page: Path) -> list[list[str]]:
    """The commands of the page's shell blocks that call unheard, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"\s\|\s", line)]
    return [shlex.split(part, comments=True) for part in parts if part.strip().startswith("unheard ")]


@cache
def options(verb: str) -> set[str]:
    """The options that the help of a verb names."""
    text = io.StringIO()
    with redirect_stdout(text):
        assert main([verb, "--help"]) == 0
    found = {*re.findall(r"(?<![\w-])--?[a-z][\w.-]*", text.getvalue()), "--help"}
    if "--help-all" in found:
        names = [name.replace("_", "-") for name, *_ in keys()]
        found |= {f"--{name}" for name in names} | {re.sub(r"([\w-]+)$", r"no-\1", f"--{name}") for name in names}
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_options_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for _, verb, *words in commands(page):
        assert verb in VERBS
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= options(verb), (verb, given - options(verb))


def test_the_page_of_the_command_line_has_every_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    files = pytest.importorskip("mkdocs.structure.files", reason="the extra docs is not installed")
    monkeypatch.setenv("COLUMNS", "80")
    hook = runpy.run_path(str(DOCS / "reference" / "cli_page.py"))
    config = pytest.importorskip("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"))
    config.plugins._current_plugin = "cli_page"  # as while mkdocs calls the hook
    (page,) = hook["on_files"](files.Files([]), config)
    for verb in VERBS:
        assert re.search(rf"^## {verb}\n\n.+\n\n```text\nUsage: unheard {verb} ", page.content_string, re.MULTILINE), (
            verb
        )
