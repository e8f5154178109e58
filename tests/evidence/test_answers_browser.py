"""The page of answers in a real browser: by mouse and keyboard, at two widths, with text that is no more than text."""

import pytest
from in_browser import NASTY, NEEDED, PHONE, WIDE, by_id, css, focused, is_text_alone, press, show, tab_to
from test_answers import TestSet, answer

from hps.evidence.answers.page import to_html
from hps.support.files import write_text

pytest.importorskip("selenium")
pytestmark = NEEDED

UNSEEN = {"\u2028": "U+2028", "\u202e": "U+202E", "\x1b": "U+001B", "\u200b": "U+200B", "\x00": "U+0000"}


def page(folder, world="toy", prompts=4, texts=NASTY, harm=False):
    """A page of two data sets; by reward HPS is below BT on every other prompt, and the more the later it is."""
    ids = [f"p{number:02d}" for number in range(prompts)]
    sets = []
    for name in ("hh_rlhf", "pku_saferlhf"):
        turns = [
            {"role": "user", "content": "hello <b>you</b>"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": f"question about {name}"},
        ]
        rewards = {"sft": lambda n: 0.0, "dpo-bt": lambda n: 1.0, "dpo-hps": lambda n: 1.0 + n * (-1) ** n}
        answers = {
            method: {
                prompt_id: answer(f"{texts[method]} {prompt_id}", reward=reward(number))
                | ({"harm_score": reward(number), "harmful": reward(number) > 2} if harm else {})
                for number, prompt_id in enumerate(ids)
            }
            for method, reward in rewards.items()
        }
        sets.append(TestSet(name, dict.fromkeys(ids, turns), answers))
    path = folder / "answers.html"
    write_text(path, to_html(sets, world))
    return path


def differences(browser) -> list[float]:
    return [float(one.text.rpartition(" ")[2].replace("−", "-")) for one in css(browser, ".difference")]


def choose(browser, name: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(by_id(browser, name)).select_by_visible_text(text)


def test_real_text_is_behind_a_warning_that_a_key_takes_away(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    show(browser, page(tmp_path, "real"))
    assert "may be harmful" in by_id(browser, "warning").text
    assert not by_id(browser, "main").is_displayed()
    tab_to(browser, "show")
    press(browser, Keys.ENTER)
    assert not by_id(browser, "warning").is_displayed()
    assert focused(browser).get_attribute("id") == "search"
    assert len(css(browser, "article")) == 8


def test_a_toy_world_needs_no_warning_and_says_what_it_is(browser, tmp_path):
    show(browser, page(tmp_path))
    assert not by_id(browser, "warning").is_displayed()
    assert "toy world" in by_id(browser, "notes").text
    assert by_id(browser, "count").text == "8 of 8 prompts"


def test_model_text_is_text_and_nothing_is_loaded(browser, tmp_path):
    texts = NASTY | {"sft": NASTY["sft"] + "".join(UNSEEN)}
    show(browser, page(tmp_path, texts=texts))
    shown = {one.get_attribute("textContent").rpartition(" ")[0] for one in css(browser, ".text")}
    expected = set()
    for text in texts.values():
        for unseen, mark in UNSEEN.items():
            text = text.replace(unseen, mark)
        expected.add(text)
    assert shown == expected
    assert len(css(browser, ".answers .mark")) == 8 * (len(UNSEEN) + 2)
    assert not css(browser, "article img, article script, article a, article b, article iframe")
    is_text_alone(browser)


def test_filters_and_orders(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    show(browser, page(tmp_path))
    by_id(browser, "search").send_keys("p01 PKU_safer")
    assert (by_id(browser, "count").text, differences(browser)) == ("1 of 8 prompts", [-1.0])
    by_id(browser, "search").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)
    by_id(browser, "search").send_keys("nothing like it")
    assert (by_id(browser, "count").text, css(browser, "article")) == ("0 of 8 prompts", [])
    by_id(browser, "search").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)
    choose(browser, "set", "HH-RLHF")
    choose(browser, "order", "HPS worst against BT first")
    assert differences(browser) == [-3, -1, 0, 2]
    choose(browser, "order", "HPS best against BT first")
    assert differences(browser) == [2, 0, -1, -3]
    by_id(browser, "below").click()
    assert differences(browser) == [-1, -3]
    assert by_id(browser, "count").text == "2 of 8 prompts"


def test_of_a_harm_score_less_is_better(browser, tmp_path):
    show(browser, page(tmp_path, harm=True))
    choose(browser, "score", "Harm score")
    by_id(browser, "below").click()
    assert differences(browser) == [2, 2]
    assert "harm score of HPS less BT" in css(browser, ".difference")[0].text
    by_id(browser, "search").send_keys("harmful")
    assert [one.text for one in css(browser, ".flag")] == ["harmful", "harmful"]
    best = css(browser, "article:first-child .best")
    assert [one.text for one in best] == ["Harm score\n0.00 (best)", "Reward\n3.00 (best)"]


def test_many_are_shown_a_part_at_a_time_and_the_keyboard_goes_on(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    show(browser, page(tmp_path, prompts=12))
    assert len(css(browser, "article")) == 20
    browser.execute_script("document.getElementById('order').focus()")
    tab_to(browser, "more")
    assert focused(browser).text == "Show 4 more of 4"
    press(browser, Keys.ENTER)
    assert len(css(browser, "article")) == 24
    assert focused(browser) == css(browser, "article h2")[20]
    assert not by_id(browser, "more").is_displayed()


def test_earlier_turns_open_by_keyboard(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    show(browser, page(tmp_path))
    first = css(browser, "article details")[0]
    assert "hi" not in first.text
    by_id(browser, "below").click()
    by_id(browser, "below").click()
    first = css(browser, "article details")[0]
    press(browser, Keys.TAB, Keys.ENTER)
    assert "hello <b>you</b>" in first.text


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desktop", "phone"])
def test_it_can_be_read_and_used_at_any_width(browser, tmp_path, size):
    show(browser, page(tmp_path, texts=NASTY | {"sft": "w" * 300}), size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    columns = {one.rect["x"] for one in css(browser, "article:first-child .answer")}
    assert len(columns) == (3 if size == WIDE else 1)
    for element in css(browser, "input[type=search], select, .check"):
        assert element.rect["height"] >= 44
    assert float(browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)")) >= 16


def test_everything_has_a_name(browser, tmp_path):
    show(browser, page(tmp_path))
    names = [one.accessible_name for one in css(browser, "input, select")]
    assert all(names)
    assert len(set(names)) == len(names)
    assert by_id(browser, "count").aria_role == "status"
    assert css(browser, "html")[0].get_attribute("lang") == "en"
