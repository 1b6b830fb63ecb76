"""Hooks of the site: pages and files outside of docs/ are part of it, under the names that links in docs/ have.

Pages link as they lie in the repository, ``../results/catch.json``; on the site everything lies below one root. The
README is the first page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
FOLDERS = ("benchmarks/", "examples/", "results/", "reverie/", "tests/")
ALONE = ("CITATION.cff", "Dockerfile", "LICENSE", "mkdocs.yml")
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and whatever files a page links to."""
    for name, path in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    linked = {target for file in files.documentation_pages() for target in _targets(file)}
    for target in sorted(linked):
        path = ROOT / target
        if path.is_file() and target.startswith((*FOLDERS, *ALONE)):
            # A Markdown page would be built, and its own links followed; here it is a file like any other.
            name = f"{target}.txt" if path.suffix == ".md" else target
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links of a page as they are on the site."""
    here = page.file.src_uri

    def replace(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        found = _resolve(here, target)
        known = {path: name for name, path in PAGES.items()}
        found = known.get(found, found.removeprefix("docs/"))
        if found.startswith(FOLDERS) and found.endswith(".md"):
            found += ".txt"
        return f"{before}{'../' * here.count('/')}{found}{anchor or ''}{after}"

    return LINK.sub(replace, markdown)


def _targets(file: File) -> set[str]:
    """Files that a page links to, by their paths in the repository."""
    return {_resolve(file.src_uri, match.group(2)) for match in LINK.finditer(file.content_string)}


def _resolve(here: str, target: str) -> str:
    """A link's path in the repository. here: the page's name on the site."""
    base = ROOT / PAGES.get(here, f"docs/{here}")
    path = (base.parent / target).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else target
