"""The page in a browser, from a plain static server: it loads, a key changes the dream, and the dream is the library's.

Skipped where there is no Chromium, or no npm package onnxruntime-web in node_modules (`npm install --no-save
onnxruntime-web` in the repository).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reverie.data.rows import State
from reverie.errors import UserError
from reverie.export.graphs import Parts
from reverie.export.page import write_page
from reverie.export.runtime import Runtime, find_runtime
from reverie.export.trace import trace
from tests.export.tiny import tiny

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PIXELS = """() => {
  const canvas = document.querySelector("canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [canvas.height, canvas.width, Array.from(data)];
}"""
GOES = """(probability) => {
  const told = dream.told;
  dream.told = (name) => (name === "continuation" ? probability : told.call(dream, name));
}"""
STEP = """async ([start, seed, action]) => {
  dream.reset(start, seed);
  await dream.look();
  await dream.step(action);
  const state = {};
  for (const [name, { data }] of Object.entries(dream.state)) state[name] = Array.from(data);
  return { state, noise: Array.from(dream.noise), reward: dream.told(dream.reward), goes: dream.told("continuation") };
}"""


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    try:
        return find_runtime(ROOT)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


class Quiet(SimpleHTTPRequestHandler):
    """A plain static server that tells nothing."""

    def log_message(self, *_: Any) -> None:
        pass


def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def written(parts: Parts, folder: Path, runtime: Runtime) -> State:
    """The page of a model with random networks, and the states that it begins from."""
    assert parts.model is not None
    graphs = parts.dreams()
    traced = {name: trace(name, graphs[name]) for name in ("imagine", "tell")}
    for name, each in traced.items():
        each.save_onnx(folder / f"{name}.onnx")
    generator = torch.Generator().manual_seed(5)
    states = {k: torch.randn((3, *v.shape[1:]), generator=generator) for k, v in parts.model.initial_state(1).items()}
    write_page(folder, parts, traced, runtime, states)
    return states


class Opened:
    """A page that was opened, and everything that went wrong or elsewhere."""

    def __init__(self, browser: Any, url: str, **looks: Any) -> None:
        self.wrong: list[str] = []
        self.page = browser.new_page(**looks)
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on(
            "request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else self.wrong.append(r.url)
        )
        self.page.on("response", lambda r: self.wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.page.goto(url)
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=60_000)

    def picture(self) -> np.ndarray:
        """What is on the canvas, uint8 [H, W, 3]."""
        height, width, data = self.page.evaluate(PIXELS)
        rgba = np.array(data, np.uint8).reshape(height, width, 4)
        assert (rgba[..., 3] == 255).all()
        return rgba[..., :3]


@pytest.fixture(scope="module")
def catch(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Iterator[tuple[Parts, State, str]]:
    folder, parts = tmp_path_factory.mktemp("catch"), tiny("dreamerv2", "toy/catch", spread=0.5)
    states = written(parts, folder, runtime)
    for url in served(folder):
        yield parts, states, url


def test_the_dream_is_the_librarys(catch: tuple[Parts, State, str], browser: Any) -> None:
    parts, states, url = catch
    model = parts.model
    assert model is not None
    opened = Opened(browser, url)
    page = opened.page
    first = model.tell({name: value[:1] for name, value in states.items()})
    assert_shown(opened.picture(), first["obs.image"][0])
    page.select_option("#start", index=1)
    page.wait_for_function("dream.start === 1 && dream.rows === 0")
    # A key is held while one step is taken.
    page.locator("body").click(position={"x": 2, "y": 2})
    page.keyboard.down("3")
    assert page.locator("button[aria-pressed=true]").inner_text().startswith("action 2")
    page.keyboard.press("Enter")
    page.wait_for_function("dream.rows === 1 && !page.busy")
    page.keyboard.up("3")
    assert page.locator("button[aria-pressed=true]").inner_text().startswith("action 1")  # staying, once it is let go
    noise, action = page.evaluate("[Array.from(dream.noise), dream.action]")
    assert action == [2]
    start = {name: value[1:2] for name, value in states.items()}
    encoded = model.actions.encode(torch.tensor(action))
    after = model.imagine(start, encoded, torch.tensor([noise], dtype=torch.float32))
    told = model.tell(after)
    assert_shown(opened.picture(), told["obs.image"][0])
    shown = float(page.locator("#continuation").inner_text())
    assert shown == pytest.approx(float(told["continuation"][0]), abs=6e-4)
    assert opened.wrong == []
    page.close()


def assert_shown(picture: np.ndarray, told: torch.Tensor) -> None:
    expected = np.repeat(told.numpy(), 3, -1) if told.shape[-1] == 1 else told.numpy()
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected.astype(int)).max() <= 1
    assert picture.std() > 1


def test_a_key_changes_the_dream_and_a_seed_keeps_it(catch: tuple[Parts, State, str], browser: Any) -> None:
    parts, states, url = catch
    model = parts.model
    assert model is not None
    opened = Opened(browser, url)
    left, right, again, other = (
        opened.page.evaluate(STEP, [0, seed, [action]]) for seed, action in ((7, 0), (7, 2), (7, 2), (8, 2))
    )
    assert left["noise"] == right["noise"] != other["noise"]
    assert right["state"] == again["state"]
    assert left["state"] != right["state"]
    for found, action in ((left, 0), (right, 2)):
        start = {name: value[:1] for name, value in states.items()}
        u = torch.tensor([found["noise"]], dtype=torch.float32)
        after = model.imagine(start, model.actions.encode(torch.tensor([action])), u)
        for name, value in after.items():
            np.testing.assert_allclose(found["state"][name], value[0].numpy(), atol=1e-5)
        told = model.tell(after)
        assert found["reward"] == pytest.approx(float(told[model.reward.unit][0]), abs=1e-5)
        assert found["goes"] == pytest.approx(float(told["continuation"][0]), abs=1e-5)
    assert opened.wrong == []
    opened.page.close()


def test_it_plays_pauses_and_begins_again(catch: tuple[Parts, State, str], browser: Any) -> None:
    opened = Opened(browser, catch[2])
    page = opened.page
    page.evaluate(GOES, 1.0)
    page.keyboard.press(" ")
    page.wait_for_function("dream.rows >= 3")
    page.keyboard.press(" ")
    page.wait_for_function("!page.busy && !page.playing")
    rows = page.evaluate("dream.rows")
    page.wait_for_timeout(400)
    assert page.evaluate("dream.rows") == rows
    assert page.locator("#row").inner_text() == str(rows)
    page.locator("#step").click()
    page.wait_for_function(f"dream.rows === {rows + 1} && !page.busy")
    page.locator("#reset").click()
    page.wait_for_function("dream.rows === 0")
    assert opened.wrong == []
    page.close()


def test_it_stops_where_the_model_says_that_the_episode_ends(catch: tuple[Parts, State, str], browser: Any) -> None:
    opened = Opened(browser, catch[2])
    page = opened.page
    page.evaluate(GOES, 0.1)
    page.keyboard.press(" ")
    page.wait_for_function("dream.rows === 1 && !page.playing")
    assert "the episode ends" in page.locator("#message").inner_text()
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark"), (1280, "light")])
def test_it_fits_phones_and_screens(catch: tuple[Parts, State, str], browser: Any, width: int, scheme: str) -> None:
    looks = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    opened = Opened(browser, catch[2], **looks)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.locator("canvas").bounding_box()["width"] >= 300
    colours = opened.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    paper, ink = (sum(int(n) for n in colour[4:-1].split(",")) for colour in colours)
    assert (paper > ink) is (scheme == "light")
    assert abs(paper - ink) > 450
    opened.page.close()


def test_continuous_actions_have_sliders_and_keys(tmp_path: Path, runtime: Runtime, browser: Any) -> None:
    parts = tiny("dreamerv1", "Pendulum-v1")
    states, model = written(parts, tmp_path, runtime), parts.model
    assert model is not None
    for url in served(tmp_path):
        opened = Opened(browser, url)
        page = opened.page
        page.keyboard.down("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_function("dream.rows === 1 && !page.busy")
        page.keyboard.up("ArrowRight")
        noise, action, state = page.evaluate(
            "[Array.from(dream.noise), dream.action, Array.from(dream.state.deter.data)]"
        )
        assert action == [2.0]
        start = {name: value[:1] for name, value in states.items()}
        after = model.imagine(start, torch.tensor([[1.0]]), torch.tensor([noise], dtype=torch.float32))
        np.testing.assert_allclose(state, after["deter"][0].numpy(), atol=1e-5)
        bars = page.locator(".bar").count()
        assert bars == 3
        assert page.evaluate("page.wheel.action()") == [0.0]
        assert opened.wrong == []
        page.close()


def test_what_is_missing_is_said_on_the_page(tmp_path: Path, runtime: Runtime, browser: Any) -> None:
    for source in (ROOT / "reverie" / "export" / "web").iterdir():
        shutil.copyfile(source, tmp_path / source.name)
    runtime.copy(tmp_path / "runtime")
    for url in served(tmp_path):
        page = browser.new_page()
        page.goto(url)
        page.wait_for_function("document.getElementById('message').textContent.includes('cannot dream')")
        assert "dream.json is not there (404)" in page.locator("#message").inner_text()
        page.close()
