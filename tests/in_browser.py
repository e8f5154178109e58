"""Pages in a real browser. Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NEEDED = [
    pytest.mark.workflow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver on the PATH"),
]
WIDE, PHONE = (1280, 900), (390, 844)
NASTY = {
    "sft": '<img src=x onerror="window.harmed = 1"><b>bold</b>\n<script>window.harmed = 1</script>',
    "dpo-bt": '</script><script>window.harmed = 1</script><a href="javascript:window.harmed=1">press</a>',
    "dpo-hps": "@@SCRIPT@@ {{constructor}} ${window.harmed = 1} \u2028\u202e <!-- <iframe src='http://example.org'>",
}
"""Responses that would be more than text on a careless page."""


def opened(folder: Path):
    """A browser with its profile and its downloads in `folder`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(word)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def show(browser, page: Path, size=WIDE) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


def css(browser, selector: str) -> list:
    return browser.find_elements("css selector", selector)


def by_id(browser, name: str):
    return browser.find_element("id", name)


def press(browser, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def focused(browser):
    return browser.switch_to.active_element


def tab_to(browser, name: str) -> None:
    """Tab until the element with this id has the focus."""
    from selenium.webdriver.common.keys import Keys

    for _ in range(60):
        if focused(browser).get_attribute("id") == name:
            return
        press(browser, Keys.TAB)
    raise AssertionError(f"{name} cannot be reached with Tab")


def is_text_alone(browser) -> None:
    """Nothing was run, loaded or complained about."""
    assert browser.execute_script("return window.harmed") is None
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]] == []
