"""Documents: what comes from outside is text in them, and they ask for nothing from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reverie.report import svg
from reverie.report.curves import aggregate
from reverie.report.page import (
    Budget,
    Code,
    Facts,
    Folded,
    Gallery,
    Heading,
    Media,
    Page,
    Section,
    Table,
    Text,
    data_uri,
    render,
)
from reverie.report.words import duration, number
from tests.report.html_check import check

HOSTILE = '</td><script>alert("1")</script><img src=x onerror=alert(2)>&amp;$\\frac{$\'"'


def test_everything_from_outside_is_text() -> None:
    curve = aggregate(HOSTILE, [(np.arange(3.0), np.arange(3.0))], ["a"])
    blocks = [
        Text(HOSTILE),
        Heading(HOSTILE),
        Facts({HOSTILE: HOSTILE}),
        Table([HOSTILE], [[HOSTILE]], HOSTILE),
        Code(HOSTILE),
        Folded(HOSTILE, [Text(HOSTILE)]),
        Gallery([Media(data_uri(b"GIF89a", ".gif"), HOSTILE), Media(data_uri(b"", ".mp4"), HOSTILE, True)]),
        svg.curves([curve], HOSTILE, HOSTILE, HOSTILE, {HOSTILE: 1.0}),
        svg.lines({HOSTILE: (np.arange(2.0), np.arange(2.0))}, HOSTILE, HOSTILE, f"2 {HOSTILE}"),
        svg.small({HOSTILE: [svg.NOTHING]}, HOSTILE, [HOSTILE, HOSTILE], f"3 {HOSTILE}"),
        svg.dots([svg.Dot(HOSTILE, [1.0], 1.0, None)], HOSTILE, f"4 {HOSTILE}"),
    ]
    page = check(render(Page(HOSTILE, HOSTILE, [Section("a", HOSTILE, blocks)], [(HOSTILE,) * 3], HOSTILE, [HOSTILE])))
    assert page.text.count(HOSTILE) > 25
    assert page.tags["script"] == 0
    assert page.tags["img"] == page.tags["video"] == 1  # one of each, both ours


@pytest.mark.parametrize(
    "broken",
    [
        "<p><b>x</p>",
        "<p>x",
        "<script>1</script>",
        '<img src="http://a.b/c.png">',
        '<a href="other.html">x</a>',
        '<p onclick="x()">x</p>',
        "<style>a { background: url(http://a.b/c) }</style>",
        "<style>@import 'a.css';</style>",
        '<p id="a">x</p><p id="a">y</p>',
        '<a href="#nowhere">x</a>',
    ],
)
def test_the_check_would_find_it(broken: str) -> None:
    with pytest.raises(AssertionError):
        check(f"<!doctype html><html><head><title>t</title></head><body>{broken}</body></html>")


def test_pictures_take_their_colours_from_the_page_and_refer_to_nothing_outside_of_themselves() -> None:
    points = (np.arange(30.0), np.arange(30.0) - 3)
    figure = svg.lines({"one": points, "two": points}, "x", "y", "caption")
    for text in (figure.wide, figure.narrow):
        assert text.startswith("<svg ")
        assert "currentColor" in text
        assert "var(--c1)" in text
        assert "http" not in text
        assert "#0" not in text  # no colour is left that stands for another
    assert figure.legend == [("one", 0, 0), ("two", 1, 0)]
    assert svg.lines({"one": points, "two": points}, "x", "y", "caption") == figure


def test_more_lines_than_colours_are_dashed() -> None:
    points = (np.arange(3.0), np.arange(3.0))
    legend = svg.lines({str(n): points for n in range(8)}, "x", "y", "c").legend
    assert [entry[1:] for entry in legend] == [*((n, 0) for n in range(6)), (0, 1), (1, 1)]


def test_large_files_are_left_out_and_said(tmp_path: Path) -> None:
    for name, size in (("a.gif", 50), ("b.gif", 150), ("c.gif", 60), ("d.gif", 60)):
        (tmp_path / name).write_bytes(b"x" * size)
    budget = Budget(largest=100, total=120)
    found = [budget.media(tmp_path / name, name) is not None for name in ("a.gif", "b.gif", "c.gif", "d.gif", "no.gif")]
    assert found == [True, False, True, False, False]
    assert len(budget.left_out) == 3
    assert "No such file" in budget.left_out[-1]


def test_numbers_and_durations_for_people() -> None:
    assert [number(value) for value in (1, 12345, 0.123456, 12345.6, 1e-7, 3000.0)] == [
        "1",
        "12,345",
        "0.1235",
        "12,346",
        "1e-07",
        "3,000",
    ]
    assert [duration(value) for value in (12.3, 90, 5400, 200_000)] == ["12 s", "1.5 min", "1.5 h", "2.3 days"]
