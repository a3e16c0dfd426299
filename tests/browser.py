"""A headless Chromium, as a reader has one: Debian's chromium and chromium-driver, led by selenium.

python -m tests.browser PAGE.html docs/report.png      # the picture of the README, of the report's first page
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.core.files import write_bytes

PROGRAMS = ("chromium", "chromedriver")
REQUIRED = "MSA_BENCH_REQUIRE_CHROMIUM"
"""Environment variable: without a Chromium the tests that need one fail and are not skipped."""
DESKTOP, PHONE = (1280, 900), (390, 780)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
"""Without a sandbox, as root has none."""


def missing_chromium() -> str:
    """Why no page can be opened here; empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no Chromium here: {', '.join(absent)} missing (apt-get install chromium chromium-driver)"
    return "" if find_spec("selenium") else "selenium is missing: pip install -e '.[dev]' -c constraints.txt"


def need_chromium() -> None:
    """Skip the test where no Chromium can run, with the reason; fail it where one is required."""
    if why := missing_chromium():
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(why)


@contextmanager
def chromium() -> Iterator[Any]:
    """A running Chromium (selenium's driver) that keeps its console and its requests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, page: Path, size: tuple[int, int] = DESKTOP, dark: bool = False, part: str = "") -> None:
    """Open a file at a size of the window, in light or dark."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.get("about:blank")
    driver.get(f"{page.absolute().as_uri()}#{part}")


def requests_of(driver: Any) -> list[str]:
    """The addresses that were asked for since the last call."""
    found = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in found if m["method"] == "Network.requestWillBeSent"]


def complaints_of(driver: Any) -> list[str]:
    """What the console says since the last call: errors, and whatever the page's policy refused."""
    return [entry["message"] for entry in driver.get_log("browser")]


def take_picture(driver: Any, height: int) -> bytes:
    """The page as PNG: at most so many pixels from the top."""
    width, whole = driver.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, whole), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(shot["data"])


def main(page: str, picture: str) -> None:
    """Write the picture of the top of a report's first page."""
    with chromium() as driver:
        open_page(driver, Path(page))
        write_bytes(Path(picture), take_picture(driver, 1000))


if __name__ == "__main__":
    main(*sys.argv[1:])
