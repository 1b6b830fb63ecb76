"""Pictures of the page of a run, on a phone and on a desk, dark and light; see docs/play.md.

    python -m benchmarks.play_pictures runs/catch --out results/play

Drives the page in Chromium, like a visitor: the agent plays for a while, then eight dreams of one state are dreamed on
while the world goes along. Writes page-<width>-<scheme>.png, of the first screen, or with `--whole` of all of it. Ends
with an error if the page complains.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.play import serving

WIDTHS = {1280: 800, 390: 844}
"""of the window, with its height"""


def prepare(page: Any, steps: int, dreams: int) -> None:
    """Bring the page to a moment that shows what there is."""
    page.wait_for_selector("#world-screen canvas")
    page.locator("input[value=agent]").check(force=True)
    for position in range(1, steps + 1):
        page.keyboard.press(".")
        page.wait_for_selector(f'body[data-position="{position}"]')
    if page.is_visible("#here"):
        page.locator("#dreams").fill(str(dreams))
        for position in range(steps + 1, steps + 4):
            page.keyboard.press(".")
            page.wait_for_selector(f'body[data-position="{position}"]')
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(300)


def main() -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=40, help="moments before the dreams")
    parser.add_argument("--dreams", type=int, default=8)
    parser.add_argument("--whole", action="store_true", help="the whole page, not its first screen")
    parser.add_argument("--out", type=Path, default=Path("results/play"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    with serving(args.run) as server, sync_playwright() as playwright:
        url = f"http://{server.host}/?key={server.key}"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width, height in WIDTHS.items():
            for scheme in ("light", "dark"):
                viewport: Any = {"width": width, "height": height}
                context = browser.new_context(viewport=viewport, color_scheme=scheme, device_scale_factor=2)  # type: ignore[arg-type]
                page = context.new_page()
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.goto(url)
                prepare(page, args.steps, args.dreams)
                path = args.out / f"page-{width}-{scheme}.png"
                page.screenshot(path=path, full_page=args.whole)
                print(path)
                context.close()
        browser.close()
    if said:
        raise SystemExit("\n".join(said))


if __name__ == "__main__":
    main()
