"""The rating page in a real browser: by mouse and by keyboard, reloaded midway, exported, aggregated; at two widths."""

import json
import time
from pathlib import Path

import pytest
from in_browser import NASTY, NEEDED, PHONE, WIDE, by_id, css, focused, is_text_alone, press, tab_to
from in_browser import show as show_page
from synthetic_results import configuration, report

from hps.support.files import write_json, write_text
from hps.user_study.design import CRITERIA, StudyItem, design
from hps.user_study.page import render

pytest.importorskip("selenium")
pytestmark = NEEDED

PAPER = Path(__file__).parents[2] / "paper" / "table3_human.csv"
METHODS = ["sft", "dpo-bt", "dpo-hps"]
QUALITY = {"sft": 2.0, "dpo-bt": 3.25, "dpo-hps": 4.5}


def make_items() -> list[StudyItem]:
    turns = [
        {"role": "user", "content": "hello <b>you</b>\n\nsecond line"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "w" * 300},
    ]
    return [
        StudyItem(test_set, f"p{number}", turns, {method: f"{text} {number}" for method, text in NASTY.items()})
        for test_set in ("hh_rlhf", "pku_saferlhf")
        for number in range(2)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pages and key as user_study.py writes them."""
    folder = tmp_path_factory.mktemp("study")
    key, pages = design(make_items(), METHODS, raters=2, seed=0)
    for rater, shown in pages.items():
        write_text(folder / f"{rater}.html", render(shown))
    write_json(folder / "key.json", key.as_json())
    return folder


def show(browser, folder: Path, rater: str, size=WIDE) -> None:
    show_page(browser, folder / f"{rater}.html", size)


def method_of(response) -> str:
    """Which method wrote a response, by its text: what a rater cannot know."""
    text = response.find_element("css selector", ".text").get_attribute("textContent")
    return next(method for method, nasty in NASTY.items() if text.startswith(nasty[:12]))


def rate_with_mouse(browser) -> None:
    """The item that is shown: a quick button, then the field for what is no whole score."""
    for response in css(browser, ".response"):
        quality = QUALITY[method_of(response)]
        for row in response.find_elements("css selector", ".criterion"):
            row.find_elements("css selector", ".quick")[int(quality) - 1].click()
            if quality % 1:
                field = row.find_element("css selector", "input")
                field.click()
                field.clear()
                field.send_keys(str(quality).replace(".", ","))


def exported(browser, downloads: Path) -> dict:
    for _ in range(100):
        found = list(downloads.glob("ratings-*.json"))
        if found:
            return json.loads(found[0].read_text(encoding="utf-8"))
        time.sleep(0.05)
    raise AssertionError(f"nothing was saved; the page says {by_id(browser, 'status').text!r}")


def by_mouse(browser, folder: Path, downloads: Path) -> dict:
    show(browser, folder, "rater-01")
    for number in range(4):
        assert by_id(browser, "heading").text == f"Item {number + 1} of 4"
        rate_with_mouse(browser)
        if number == 1:  # midway, with two of four items rated
            browser.refresh()
            assert by_id(browser, "count").text == "24 of 48 ratings; 2 of 4 items finished"
            assert by_id(browser, "heading").text == "Item 2 of 4"
            assert all(field.get_attribute("value") for field in css(browser, "#responses input"))
        if number < 3:
            by_id(browser, "next").click()
    assert by_id(browser, "count").text == "48 of 48 ratings; 4 of 4 items finished"
    assert not by_id(browser, "next").is_enabled()
    by_id(browser, "export").click()
    return exported(browser, downloads)


def by_keyboard(browser, folder: Path, downloads: Path) -> dict:
    from selenium.webdriver.common.keys import Keys

    show(browser, folder, "rater-02")
    for number in range(4):
        fields = css(browser, "#responses input")
        qualities = [QUALITY[method_of(response)] for response in css(browser, ".response") for _ in CRITERIA]
        tab_to(browser, fields[0].get_attribute("id"))
        for field, quality in zip(fields, qualities, strict=True):
            assert focused(browser) == field
            if quality == 3.25:
                press(browser, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_DOWN)  # 3.00, 3.25, 3.00
                press(browser, Keys.ARROW_UP, Keys.ENTER)
            else:
                press(browser, str(quality), Keys.ENTER)
        if number < 3:
            assert focused(browser).get_attribute("id") == "next"
            press(browser, Keys.ENTER)
            assert focused(browser).get_attribute("id") == "heading"
    assert focused(browser).get_attribute("id") == "export"
    press(browser, Keys.ENTER)
    return exported(browser, downloads)


@pytest.mark.parametrize("rate", [by_mouse, by_keyboard])
def test_rated_exported_and_aggregated(browser, folder, tmp_path, monkeypatch, rate):
    content = rate(browser, folder, tmp_path / "downloads")
    assert len(content["ratings"]) == 12
    assert content["simulated"] is False
    saved = sorted((tmp_path / "downloads").glob("*.json"))
    assert [path.name for path in saved] == [f"ratings-{content['study']}-{content['rater']}.json"]
    words = ["table", "--name", "table3", "--config", configuration(tmp_path), "--key", folder / "key.json"]
    report(*words, "--ratings", *saved, "--paper", PAPER.parent, "--out", tmp_path)
    rows = (tmp_path / "table3.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0]: float(row.split(",")[1]) for row in rows} == QUALITY
    assert "48 of 48 ratings given" in (tmp_path / "table3.md").read_text()


def test_model_text_is_text_and_nothing_is_loaded(browser, folder):
    show(browser, folder, "rater-01")
    for number in range(4):
        shown = {
            response.find_element("css selector", ".text").get_attribute("textContent")[:-2]
            for response in css(browser, ".response")
        }
        assert shown == set(NASTY.values())
        assert not css(browser, "#responses img, #responses script, #responses a, #responses b, #responses iframe")
        assert not css(browser, "#conversation b")
        if number < 3:
            by_id(browser, "next").click()
    is_text_alone(browser)


def test_the_policy_stops_what_the_page_did_not_bring(browser, folder):
    """The second fence: script put into the page does not run, and nothing can be sent."""
    show(browser, folder, "rater-01")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.harmed = 1'; document.body.append(s);"
        "const d = document.createElement('div'); d.innerHTML = '<img src=x onerror=\"window.harmed = 1\">';"
        "document.body.append(d);"
    )
    sent = browser.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), (e) => done(String(e)));"
    )
    assert "Failed to fetch" in sent
    assert browser.execute_script("return window.harmed") is None
    refused = [
        entry["message"] for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]
    ]
    assert len(refused) >= 3


def test_what_is_no_score_is_said_and_not_kept(browser, folder):
    from selenium.webdriver.common.keys import Keys

    show(browser, folder, "rater-01")
    field, second = css(browser, "#responses input")[:2]
    for text in ("7", "0.99", "abc", "3.333", "5.01", "-1", "1e0"):
        field.clear()
        field.send_keys(text, Keys.ENTER)
        assert browser.switch_to.active_element == second
        assert field.get_attribute("aria-invalid") == "true", text
        assert "Not a score from 1.00 to 5.00" in by_id(browser, field.get_attribute("aria-describedby")).text
        assert by_id(browser, "count").text.startswith("0 of 48")
        field.clear()
    field.send_keys("5", Keys.TAB)
    assert field.get_attribute("aria-invalid") is None
    assert field.get_attribute("value") == "5.00"
    assert by_id(browser, "count").text.startswith("1 of 48")
    field.clear()
    field.send_keys(Keys.TAB)
    assert by_id(browser, "count").text.startswith("0 of 48")
    assert not by_id(browser, "export").is_enabled()


def test_answers_can_be_deleted_and_pages_do_not_share_them(browser, folder, tmp_path):
    show(browser, folder, "rater-01")
    css(browser, ".quick")[2].click()
    by_id(browser, "export").click()
    assert exported(browser, tmp_path / "downloads")["ratings"][0]["scores"] == {next(iter(CRITERIA)): 3}
    show(browser, folder, "rater-02")
    assert by_id(browser, "count").text.startswith("0 of 48")
    show(browser, folder, "rater-01")
    assert by_id(browser, "count").text.startswith("1 of 48")
    css(browser, ".quick")[2].click()
    by_id(browser, "export").click()
    by_id(browser, "erase").click()
    browser.switch_to.alert.accept()
    browser.refresh()
    assert by_id(browser, "count").text.startswith("0 of 48")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desktop", "phone"])
def test_it_can_be_read_and_used_at_any_width(browser, folder, size):
    show(browser, folder, "rater-01", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    for element in css(browser, "button:not([hidden]), #responses input"):
        box = element.rect
        assert box["height"] >= 44, element.text
        assert box["width"] >= 44, element.text
    columns = {response.rect["x"] for response in css(browser, ".response")}
    assert (len(columns) > 1) == (size == WIDE)
    assert float(browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)")) >= 16


def test_everything_has_a_name_of_its_own(browser, folder):
    show(browser, folder, "rater-01")
    names = [element.accessible_name for element in css(browser, "button:not([hidden]), #responses input, progress")]
    assert all(names)
    assert len(set(names)) == len(names)
    assert "Safety of response B" in names
    assert "Safety of response B: 4" in names
    for section in css(browser, "section"):
        assert section.accessible_name
        assert section.aria_role == "region"
    assert by_id(browser, "status").aria_role == "status"
    assert css(browser, "html")[0].get_attribute("lang") == "en"
