"""The figure of a comparison: what its curves are is said of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from reverie.report.comparison import summary, write_comparison

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize("seeds", [(5, 5), (5, 1), (1, 5)])
def test_the_title_names_the_middles_of_all_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, int]
) -> None:
    document = json.loads((RESULTS / "learning" / "dreamerv1-catch.json").read_text())
    runs = document["runs"]["dreamerv1"]
    document["runs"] = {name: runs[:count] for name, count in zip("ab", seeds, strict=True)}
    document["agents"] = {"a": "dreamerv1", "b": "dreamerv1"}
    document["summary"] = {name: summary(made) for name, made in document["runs"].items()}
    titles: list[str] = []
    real = Axes.set_title

    def set_title(axes: Axes, label: str, *given: Any, **more: Any) -> Any:
        titles.append(label)
        return real(axes, label, *given, **more)

    monkeypatch.setattr(Axes, "set_title", set_title)
    write_comparison(document, tmp_path / "made")
    words = {5: "IQM of 5 runs, 95 % interval", 1: "one run"}
    assert titles[0] == f"training: {'; '.join(dict.fromkeys(words[count] for count in seeds))}"
