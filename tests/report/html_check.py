"""A page is whole: every element is closed, nothing is fetched, nothing runs, every anchor is there, once."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}
CELLS = {"td", "th", "dt", "dd", "li"}
ADDRESSES = {"src", "href", "poster", "srcset", "action", "data", "xlink:href"}


class Checked(HTMLParser):
    """A page that was read. tags: how many of each; text: what a reader sees, and attributes for readers of screens."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.anchors: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and look at its attributes."""
        self.tags[tag] += 1
        self.text += " " * (tag in CELLS)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element of a picture, which has no content."""
        self.tags[tag] += 1
        self._attributes(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        """Note text, and look at styles."""
        if self.open and self.open[-1] == "style":
            assert "@import" not in data
            assert all(address.startswith("#") for address in re.findall(r"url\(['\"]?([^)]*)", data))
        else:
            self.text += data

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}> runs something"
            assert "javascript:" not in (value or "").lower()
            if name in ADDRESSES:
                assert (value or "").startswith(("data:", "#")), f"<{tag} {name}={value!r}> is elsewhere"
                if (value or "").startswith("#"):
                    self.anchors.add((value or "")[1:])
            if name == "style":
                assert all(address.startswith("#") for address in re.findall(r"url\(['\"]?([^)]*)", value or ""))
            if name == "id":
                self.ids[value or ""] += 1
            if name == "alt":
                self.text += value or ""


def check(html: str) -> Checked:
    """The page, read. Raises AssertionError if it is not whole, or asks for something."""
    page = Checked()
    page.feed(html)
    page.close()
    assert page.open == []
    assert page.tags["script"] == page.tags["iframe"] == page.tags["object"] == page.tags["form"] == 0
    assert page.anchors <= set(page.ids)
    assert max(page.ids.values(), default=1) == 1, [name for name, count in page.ids.items() if count > 1]
    return page
