"""The page in a real browser: what a visitor sees and does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_runs import VALUES, Served, made, serving

import reverie

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium here: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright, which is not here")

PIXELS = """key => {
    const canvas = document.querySelector(key);
    const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, Array.from(image.data)];
}"""
WORLD, DREAM = "#world-screen canvas", "#dream-screen canvas"


@pytest.fixture(scope="module")
def served(catch_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(catch_run, tmp_path_factory.mktemp("browsed")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox does not start for root, who is who tests in containers.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end, no page has complained."""
    said: list[str] = []
    contexts = []

    def opened(url: str | None = None, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.goto(served.url if url is None else url)
        page.wait_for_selector(WORLD)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def pixels(page: Any, canvas: str) -> np.ndarray:
    height, width, data = page.evaluate(PIXELS, canvas)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def until(page: Any, expression: str) -> None:
    """Wait until it is true. Playwright's `wait_for_function` evaluates text in the page, which its policy forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    shown = page.evaluate("[...document.querySelectorAll('[id$=-under], #play-text, .held')].map((e) => e.textContent)")
    raise AssertionError(f"{expression}; the page shows {shown}")


def column(picture: np.ndarray) -> int:
    """The paddle's column on the last line."""
    return int(picture[-1, :, 0].astype(float).reshape(4, -1).mean(1).argmax())


def at(page: Any, position: int) -> None:
    page.wait_for_selector(f'body[data-position="{position}"]')


def test_world_and_dream_agree_and_keys_move_the_paddle_in_both(visit: Callable[..., Any]) -> None:
    page = visit()
    assert page.title() == "run – Reverie"
    assert "dreamerv2" in page.inner_text("#what")
    at(page, 0)
    world, dream = pixels(page, WORLD), pixels(page, DREAM)
    assert world.shape == dream.shape == (8, 8, 3)
    assert np.abs(world.astype(float) - dream).mean() < 10
    assert column(world) == column(dream) == 2
    page.keyboard.press("ArrowLeft")
    at(page, 1)
    assert column(pixels(page, WORLD)) == column(pixels(page, DREAM)) == 1
    assert page.inner_text("#world-under").startswith("left (you)")
    page.keyboard.press(",")
    at(page, 0)
    np.testing.assert_array_equal(pixels(page, WORLD), world)
    np.testing.assert_array_equal(pixels(page, DREAM), dream)
    page.keyboard.press("ArrowRight")
    at(page, 1)
    assert column(pixels(page, WORLD)) == column(pixels(page, DREAM)) == 3


def test_going_back_restores_every_pixel_and_every_number(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator("input[value=agent]").check(force=True)
    seen = []
    for position in range(8):
        at(page, position)
        seen.append((pixels(page, WORLD), pixels(page, DREAM), page.inner_text("#live"), page.inner_text("#would")))
        page.keyboard.press(".")
    for position in (5, 2, 6, 0):
        page.evaluate("p => { scrub.value = p; scrub.dispatchEvent(new Event('input')); }", position)
        at(page, position)
        now = (pixels(page, WORLD), pixels(page, DREAM), page.inner_text("#live"), page.inner_text("#would"))
        for one, other in zip(now, seen[position], strict=True):
            np.testing.assert_array_equal(one, other)


def test_several_dreams_of_one_state(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator("#dreams").fill("8")
    until(page, "document.querySelectorAll('#grid canvas').length === 9")
    page.locator("#along").uncheck()
    first = pixels(page, WORLD)
    for position in (1, 2):
        page.keyboard.press("ArrowRight")
        at(page, position)
    pictures = [pixels(page, f"#grid figure:nth-child({i + 1}) canvas") for i in range(8)]
    assert len({picture.tobytes() for picture in pictures}) > 1
    np.testing.assert_array_equal(pixels(page, WORLD), first)
    assert page.inner_text("#world-mark") == "waits"
    assert page.inner_text("#difference-under") == "The world did not go this way."
    page.keyboard.press("d")
    until(page, "document.querySelector('#dream-mark').textContent === 'begins here'")
    assert page.inner_text("#difference-mark") == "nothing to compare"


def test_fingers_hold_actions_while_time_runs(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out on a phone"
    page.locator("#speed").fill("30")
    page.locator("#play").tap()
    box = page.locator("#actions button", has_text="left").bounding_box()
    finger = page.context.new_cdp_session(page)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    until(page, "document.querySelector('#world-under').textContent.startsWith('left (you)')")
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(page, "document.querySelector('#world-under').textContent.startsWith('stay (you)')")
    page.mouse.move(point["x"] + box["width"], point["y"])
    page.mouse.down()
    until(page, "document.querySelector('#actions .held') !== null")
    page.mouse.up()
    until(page, "document.querySelector('#actions .held') === null")
    page.locator("#play").tap()
    until(page, "document.querySelector('#play-text').textContent === 'Play'")


def test_everything_can_be_reached_with_a_keyboard(visit: Callable[..., Any]) -> None:
    page = visit()
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.action || ''"))
        visible = page.evaluate(
            "(e => getComputedStyle(e.matches('.choice input') ? e.nextElementSibling : e).outlineStyle)"
            "(document.activeElement)"
        )
        assert visible != "none" or reached[-1] == "", "focus can be seen"
    wanted = {"play", "step", "fresh", "replay", "here", "record", "0", "1", "2", "speed", "horizon", "dreams"}
    assert wanted | {"along", "likely", "patient"} <= set(reached)
    names = page.evaluate(
        "[...document.querySelectorAll('button, input, canvas')].filter(e => e.checkVisibility()).map("
        "e => e.ariaLabel || e.textContent || (e.labels && [...e.labels].map(l => l.textContent).join('')))"
    )
    assert all(name.strip() for name in names), "everything has a name"
    page.focus("#actions button:first-child")
    page.keyboard.press("Enter")
    at(page, 1)
    assert page.inner_text("#world-under").startswith("left (you)")
    page.focus("#speed")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#speed-text').textContent === '9 a second'")
    assert page.locator("body").get_attribute("data-position") == "1", "a slider keeps its keys"
    page.keyboard.press(".")
    at(page, 2)
    page.focus("#stage")
    page.keyboard.press("Space")
    until(page, "document.querySelector('#play').getAttribute('aria-pressed') === 'true'")
    page.keyboard.press("p")
    until(page, "document.querySelector('#play').getAttribute('aria-pressed') === 'false'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(visit: Callable[..., Any], scheme: str) -> None:
    page = visit(color_scheme=scheme)

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    back = luminance(page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor"))
    assert (back > 0.5) == (scheme == "light")
    for text in ("#what", "h2", "#world h2", "#dream h2", ".hint", ".under", "thead .s", "#status"):
        front = luminance(page.evaluate("s => getComputedStyle(document.querySelector(s)).color", text))
        low, high = sorted((front, back))
        assert (high + 0.05) / (low + 0.05) >= 4.5, text


def test_what_was_recorded_is_a_dataset(visit: Callable[..., Any], served: Served) -> None:
    page = visit()
    page.locator("#record").click()
    until(page, "document.querySelector('#record').textContent === 'Recording …'")
    for position, key in enumerate(["ArrowLeft", "ArrowLeft", "ArrowRight", "ArrowRight"], start=1):
        page.keyboard.press(key)
        at(page, position)
    until(page, "document.querySelector('#recorded').textContent === '4 rows written'")
    page.locator("#record").click()
    until(page, "document.querySelector('#record').textContent === 'Record'")
    episodes = list(reverie.open_dataset(served.recording).episodes())
    assert [0, 0, 2, 0] in [episode["action"].tolist() for episode in episodes]


def test_the_replay_and_the_wheel_have_keys(visit: Callable[..., Any]) -> None:
    page = visit()
    page.keyboard.press("r")
    until(page, "document.querySelector('input[value=recorded]').checked")
    page.keyboard.press("t")
    until(page, "document.querySelector('input[value=person]').checked")
    page.keyboard.press("f")
    until(page, "document.querySelector('#world-mark').textContent === 'an episode begins'")


def test_an_agent_without_a_dream_says_so(visit: Callable[..., Any], tmp_path: Path) -> None:

    settings = {**VALUES, "agent.units": 8, "agent.hidden": 8, "env.options.pixels": True, "run.env_steps": 120}
    run_dir = made("r2d2", "toy/tmaze", tmp_path / "run", settings)
    with serving(run_dir, tmp_path) as other:
        page = visit(other.url)
        assert "no world model" in page.inner_text("#lacks")
        assert not page.is_visible("#dream")
        page.keyboard.press("ArrowUp")
        at(page, 1)
        assert page.locator("#pictures canvas").count() == 2
        assert "Action values" in page.inner_text("#would-hint")
        assert "ΔQ after burn-in" in page.inner_text("#live")
    page.wait_for_selector("#gone:not([hidden])")
    assert page.inner_text("#gone-text"), "a visitor is told when the server has gone"
