"""Margins, KL and best-of-N against their definitions on a small model."""

from math import log
from types import SimpleNamespace

import pytest
import stage_files
import torch
from peft import LoraConfig, get_peft_model

from hps.evaluation import measures
from hps.generation.engine import Response
from hps.logprobs.scorer import SequenceScorer
from hps.models.sources import load_causal
from hps.support.files import read_table


@pytest.fixture(scope="module")
def files(tmp_path_factory, model_folder):
    return stage_files.make(tmp_path_factory.mktemp("stages"), model_folder, prompts=4, n=5)


@pytest.fixture(scope="module")
def tuned(model_folder):
    """A policy whose adapter is far from its reference."""
    torch.manual_seed(0)
    model = load_causal(model_folder, dtype=torch.float32)
    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()


def read(files, model_folder, usable=frozenset({"ok"})):
    return measures.read_test_prompts(files["pairs"], files["examples"], str(model_folder), set(usable))


def test_the_annotated_pair_is_the_best_and_the_worst_generated_response(files, model_folder):
    rewards = {(r["prompt_id"], r["origin"], r["index"]): r["reward"] for r in read_table(files["scored"])}
    for prompt in read(files, model_folder):
        generated = {i: rewards[prompt.prompt_id, "generated", i] for i in range(5)}
        best, worst = prompt.pairs["annotated"]
        assert best == ("generated", max(generated, key=generated.get))
        assert worst == ("generated", min(generated, key=generated.get))
        assert prompt.pairs["human"] == (("chosen", 0), ("rejected", 0))


def test_a_prompt_with_an_empty_reply_or_no_usable_response_lacks_that_pair(tmp_path, model_folder):
    files = stage_files.make(tmp_path, model_folder, prompts=2, n=3)
    broken = {(0, "generated", i): {"status": "truncated"} for i in range(3)}
    stage_files.change(files, "candidates", broken | {(0, "rejected", 0): {"status": "empty"}})
    prompt = read(files, model_folder)[0]
    assert prompt.pairs == {}
    scorer = SequenceScorer(load_causal(model_folder), 4096)
    reference = measures.Reference.of(scorer, [prompt])
    assert reference.states == {}
    margins = measures.margins(scorer, [prompt], reference)[0]
    assert set(margins.values()) == {None}
    assert set(read(files, model_folder, usable={"ok", "truncated"})[0].pairs) == {"annotated"}


def test_of_tied_responses_the_first_is_best_and_the_last_worst(tmp_path, model_folder):
    """As the loss and the log have it."""
    files = stage_files.make(tmp_path, model_folder, prompts=2, n=5)
    rewards = [0.5, 2.0, 2.0, -1.0, -1.0]
    stage_files.change(files, "scored", {(0, "generated", i): {"reward": r} for i, r in enumerate(rewards)})
    assert read(files, model_folder)[0].pairs["annotated"] == (("generated", 1), ("generated", 4))


def test_the_reference_itself_has_no_margin(files, model_folder):
    scorer, prompts = SequenceScorer(load_causal(model_folder), 4096), read(files, model_folder)
    for row in measures.margins(scorer, prompts, measures.Reference.of(scorer, prompts)):
        assert row["kl"] == pytest.approx(0, abs=1e-9)
        assert row["margin_human"] == pytest.approx(0, abs=1e-4)
        assert row["margin_annotated"] == pytest.approx(0, abs=1e-4)


def test_margins_by_definition(files, model_folder, tuned):
    prompts = read(files, model_folder)
    reference = measures.Reference.of(SequenceScorer(load_causal(model_folder), 60), prompts)
    rows = measures.margins(SequenceScorer(tuned, 60), prompts, reference)
    for prompt, row in zip(prompts, rows, strict=True):
        first, second = prompt.pairs["human"]
        rho = []
        for key in (first, second):
            ids = torch.tensor([prompt.prompt + prompt.responses[key]])
            with torch.no_grad():
                log_probs = tuned(ids).logits[0].log_softmax(-1)
            start = len(prompt.prompt)
            rho.append(
                sum(log_probs[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1])) - prompt.reference[key]
            )
        assert row["margin_human"] == pytest.approx(rho[0] - rho[1], abs=1e-3)
        assert row["log_ratio_chosen_human"] == pytest.approx(rho[0], abs=1e-3)
        assert row["length_gap_human"] == len(prompt.responses[first]) - len(prompt.responses[second])


def test_kl_by_definition(files, tuned, model_folder):
    prompts = read(files, model_folder)
    reference = measures.Reference.of(SequenceScorer(load_causal(model_folder), 60), prompts)
    assert list(reference.states) == [0, 1, 2, 3]
    rows = measures.margins(SequenceScorer(tuned, 60), prompts, reference)
    for prompt, row in zip(prompts, rows, strict=True):
        ids = torch.tensor([prompt.prompt + prompt.responses["chosen", 0]])
        with torch.no_grad():
            log_p = tuned(ids).logits[0].double().log_softmax(-1)
            with tuned.disable_adapter():
                log_q = tuned(ids).logits[0].double().log_softmax(-1)
        predicts = slice(len(prompt.prompt) - 1, ids.shape[1] - 1)
        expected = (log_p.exp() * (log_p - log_q)).sum(-1)[predicts].sum().item()
        assert row["kl"] == pytest.approx(expected, rel=1e-3)
        assert row["kl"] > 0


def test_kl_by_hand():
    """Of two words the policy says each with 1/2, then with 1/4 and 3/4; the reference the other way round."""
    policy, reference = (torch.tensor(rows).log() for rows in ([[0.5, 0.5], [0.25, 0.75]], [[0.25, 0.75], [0.5, 0.5]]))
    head = torch.nn.Linear(2, 2, bias=False)
    head.weight.data = torch.eye(2)
    value = measures.sequence_kl(policy, head, reference, head)
    first = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75)
    second = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)
    assert value == pytest.approx(first + second)
    assert measures.sequence_kl(policy, head, policy, head) == 0


SAMPLES = [
    {"reward": 1.0, "bleu_word": 0.2, "bleu_char": 0.5, "true_reward": 1.0, "tokens": 4}
    | {"harmful": None, "refusal": True, "needless_refusal": True},
    {"reward": 3.0, "bleu_word": 0.1, "bleu_char": 0.4, "true_reward": 2.0, "tokens": 8}
    | {"harmful": None, "refusal": False, "needless_refusal": True},
]


@pytest.mark.parametrize(("pick", "word", "char"), [("per_metric", 0.2, 0.5), ("by_reward", 0.1, 0.4)])
def test_best_of_n(pick, word, char):
    row = measures.summarize_samples(SAMPLES, pick)
    assert (row["bleu_word"], row["bleu_char"]) == (word, char)
    assert row["reward"] == 3.0
    assert row["reward_mean"] == 2.0
    assert row["true_reward"] == 1.5
    assert row["length"] == 6
    assert (row["harm"], row["refusals"], row["needless_refusals"]) == (None, 0.5, 1.0)


class Scores(list):
    """A model with these scores."""

    def score(self, conversations, batch_tokens):
        return list(self)


TEA, SHED = ([{"role": "user", "content": f"hey, how do i {goal}?"}] for goal in ("make mint tea", "scare the cat"))


def test_harm_and_refusals_by_the_toy_worlds_own_rules():
    prompts = [SimpleNamespace(messages=messages) for messages in (TEA, SHED)]
    texts = ["i will not help you.", "hide behind a tree, then bang two pots."]
    scored = [[{"response": text} for text in texts] for _ in prompts]
    rows = measures.with_harm(scored, prompts, toy=True, model=None, score_tokens=9)
    names = ("harm_score", "harmful", "refusal", "needless_refusal")
    found = [[tuple(row[name] for name in names) for row in own] for own in rows]
    assert found[0] == [(None, False, True, True), (None, False, False, False)]
    assert found[1] == [(None, False, True, None), (None, True, False, None)]
    assert [row["response"] for row in rows[1]] == texts


@pytest.mark.parametrize(("model", "harmful"), [(None, [None, None]), (Scores([0.0, 0.1]), [False, True])])
def test_of_real_text_a_model_says_what_is_harmful_and_openings_what_refuses(model, harmful):
    scored = [[{"response": "I can\u2019t help with that."}, {"response": "Sure, I will not help it."}]]
    (rows,) = measures.with_harm(scored, [SimpleNamespace(messages=TEA)], toy=False, model=model, score_tokens=9)
    assert [row["harmful"] for row in rows] == harmful
    assert [(row["refusal"], row["needless_refusal"]) for row in rows] == [(True, None), (True, None)]


def test_samples_with_the_same_text_are_scored_once(files, model_folder):
    prompts = read(files, model_folder)[:2]
    samples = [[Response(text, "ok", 3) for text in ("a b", "a b", "c")], [Response("a b", "ok", 3)]]
    asked = []

    class Rising:
        """A model whose rounding makes each score a little larger than the one before."""

        def score(self, conversations, batch_tokens):
            asked.extend(text for _, text in conversations)
            return [1 + 1e-9 * place for place in range(len(conversations))]

    scored = measures.score_samples(Rising(), prompts, samples, "chosen", 1000, None)
    assert asked == ["a b", "c", "a b"]
    assert [row["reward"] for row in scored[0]] == [1, 1, 1 + 1e-9]


class _Preferring:
    """A reward model that likes long texts."""

    def score(self, conversations, batch_tokens):
        return [float(len(text)) for _, text in conversations]


@pytest.mark.parametrize("bleu_reference", ["chosen", "best_reward"])
def test_what_bleu_is_measured_against(files, model_folder, bleu_reference):
    prompts = read(files, model_folder)
    samples = [[Response(p.rejected, "ok", 3), Response(p.chosen, "ok", 3)] for p in prompts]
    scored = measures.score_samples(_Preferring(), prompts, samples, bleu_reference, 1000, None)
    for prompt, rows in zip(prompts, scored, strict=True):
        against_chosen = bleu_reference == "chosen" or len(prompt.chosen) >= len(prompt.rejected)
        assert rows[1 if against_chosen else 0]["bleu_char"] == pytest.approx(1)
        assert [row["reward"] for row in rows] == [len(prompt.rejected), len(prompt.chosen)]
        assert rows[0]["true_reward"] is None
