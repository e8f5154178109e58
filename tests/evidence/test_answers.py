"""The page of answers side by side: what it holds, and the command that makes it."""

import json

import pytest
from judge_files import HPS, policy
from synthetic_results import configuration, report

from hps.data.schemas import PAIRS
from hps.evidence.answers.page import PROMPTS, TestSet, to_html
from hps.support.files import write_table


def held(page: str) -> dict:
    """The data in the page."""
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def answer(text: str = "text", **changes) -> dict:
    return {"response": text, "status": "ok", "tokens": 3, "reward": 0.5, "true_reward": None} | changes


def made_up(prompts: int, name: str = "hh_rlhf", **answers) -> TestSet:
    ids = [f"p{number:03d}" for number in range(prompts)]
    conversations = {prompt_id: [{"role": "user", "content": f"question {prompt_id}"}] for prompt_id in ids}
    own = {method.replace("_", "-"): {prompt_id: row for prompt_id in ids} for method, row in answers.items()}
    return TestSet(name, conversations, own)


TestSet.__test__ = False  # no test, whatever its name


def test_no_answer_leaves_its_place_in_the_page():
    nasty = "</script><script>window.harmed = 1</script>@@DATA@@ \u2028"
    page = to_html([made_up(1, sft=answer(nasty))], "toy")
    assert page.count("<script") == page.count("</script>") == 2
    assert held(page)["items"][0]["answers"][0]["text"] == nasty
    assert not any(word in page for word in ("http:", "https:", "src=", "@import", "url("))
    assert "default-src 'none'" in page


def test_scores_are_those_that_there_are():
    of = {"sft": answer(harm_score=-1.0, harmful=False), "dpo_hps": answer(harm_score=2.0, harmful=True, refusal=True)}
    toy = held(to_html([made_up(1, sft=answer(true_reward=1.5))], "toy"))
    real = held(to_html([made_up(1, **of)], "real"))
    assert [score["label"] for score in toy["scores"]] == ["Reward", "True reward"]
    assert toy["items"][0]["answers"][0]["scores"] == [0.5, 1.5]
    assert [(score["label"], score["better"]) for score in real["scores"]] == [("Reward", 1), ("Harm score", -1)]
    assert [one["flags"] for one in real["items"][0]["answers"]] == [[], ["harmful", "refuses"]]
    assert (toy["warn"], real["warn"]) == (False, True)
    assert "toy world" in toy["notes"][0]
    assert not real["notes"]


def test_of_many_prompts_the_same_part_is_shown_and_counted():
    many = made_up(PROMPTS + 5, sft=answer())
    shown = held(to_html([many, made_up(2, "pku_saferlhf", sft=answer())], "toy"))
    assert len(shown["items"]) == PROMPTS + 2
    assert shown["counts"] == f"{PROMPTS} of the {PROMPTS + 5} prompts of HH-RLHF and all 2 prompts of PKU-SafeRLHF"
    ids = [item["id"] for item in shown["items"][:PROMPTS]]
    assert ids != sorted(ids)
    assert ids[:10] == [item["id"] for item in held(to_html([many], "toy", 10))["items"]]


def command(folder, **changes) -> None:
    made = [
        policy(folder / "sft", None, [["a", "b"], ["c", "d"]]),
        policy(folder / "hps", HPS, [["e", "f"], ["g", "h"]]),
    ]
    rows = [
        {"prompt_id": f"p{i}", "messages": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}
        for i in range(2)
    ]
    write_table(folder / "test.parquet", rows[: changes.pop("prompts", 2)], PAIRS)
    words = {"methods": ["sft", "dpo-hps"], "evaluations": made, "pairs": [folder / "test.parquet"]} | changes
    options = [word for name, values in words.items() for word in (f"--{name}", *values)]
    config = configuration(folder, world="toy")
    report("answers", "--config", config, "--test-sets", "hh_rlhf", *options, "--out", folder / "out")


def test_the_command_shows_the_first_answer_of_each_method(tmp_path):
    command(tmp_path)
    items = held((tmp_path / "out" / "answers.html").read_text())["items"]
    assert {item["id"]: [(one["method"], one["text"]) for one in item["answers"]] for item in items} == {
        "p0": [("SFT", "a"), ("DPO-HPS", "e")],
        "p1": [("SFT", "c"), ("DPO-HPS", "g")],
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ["sft"]}, "--evaluations: 2 where 1 are needed"),
        ({"methods": ["dpo-hps", "sft"]}, "sft: is sft on hh_rlhf, not dpo-hps on hh_rlhf"),
        ({"prompts": 1}, r"test\.parquet: has no prompt p1, which was evaluated"),
    ],
)
def test_what_does_not_fit_together_ends_in_one_line(tmp_path, changes, says):
    with pytest.raises(SystemExit, match=f"^error: .*{says}"):
        command(tmp_path, **changes)
    assert not (tmp_path / "out").exists()
