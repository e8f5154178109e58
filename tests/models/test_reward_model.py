"""Scores of a reward model: of the last real token, independent of the batch, in the given order."""

import random
import shutil

import llama3
import pytest
import torch
from conftest import sentence, without_hashes
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from hps.data import chat
from hps.models import reward_training, sources
from hps.models.reward_heads import Gate
from hps.models.reward_model import RewardModel, conversation_ids
from hps.models.scratch import CHAT_TEMPLATE
from hps.support import files
from hps.support.errors import InputError

CONVERSATIONS = [
    ([{"role": "user", "content": sentence(i, 1 + 5 * (i % 7))}], sentence(i + 30, 1 + 3 * (i % 4))) for i in range(12)
]


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """A random reward model; its head is scaled up so that scores differ clearly."""
    model = reward_training.new_reward_model(model_folder, "float32", seed=1)
    model.score.weight.data.mul_(50)
    out = tmp_path_factory.mktemp("reward") / "reward"
    sources.save(out, model, sources.load_tokenizer(model_folder), {"role": "reward", "max_length": 100})
    return out


@pytest.fixture(scope="module")
def reward(folder):
    return RewardModel.load(folder, device="cpu")


def test_score_is_the_head_on_the_last_token_alone(folder, reward):
    messages, response = CONVERSATIONS[3]
    ids = chat.prompt_ids(reward.tokenizer, messages) + chat.response_ids(reward.tokenizer, response)
    hidden = reward.model.model(torch.tensor([ids])).last_hidden_state[0, -1]
    expected = hidden @ load_file(folder / "model.safetensors")["score.weight"][0]
    assert reward.score([(messages, response)]) == pytest.approx([expected.item()], abs=1e-4)


def test_score_does_not_depend_on_the_batch_and_keeps_the_order(reward):
    alone = [reward.score([conversation])[0] for conversation in CONVERSATIONS]
    assert max(alone) - min(alone) > 1
    assert reward.score(CONVERSATIONS) == pytest.approx(alone, abs=1e-4)
    assert reward.score(CONVERSATIONS, batch_tokens=150) == pytest.approx(alone, abs=1e-4)
    assert reward.score(CONVERSATIONS[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


def responses_to_prompts(sizes, seed, shuffle=True):
    """Ragged conversations: `sizes[i]` responses to prompt i, in any order; short prompts may be those of others."""
    draw = random.Random(seed)
    prompts = [[{"role": "user", "content": sentence(i, draw.randint(1, 25))}] for i in range(len(sizes))]
    made = [
        (prompt, sentence(draw.randrange(100), draw.randint(0, 20)))
        for prompt, n in zip(prompts, sizes, strict=True)
        for _ in range(n)
    ]
    if shuffle:
        draw.shuffle(made)
    return made


def one_by_one(model: RewardModel, conversations) -> list[float]:
    """The definition: each conversation by itself, whole, through the decoder and the head."""
    scores = []
    for messages, response in conversations:
        ids, _ = conversation_ids(model.tokenizer, messages, response, model.max_length)
        prompt = len(ids) - len(chat.response_ids(model.tokenizer, response))
        end = max((i for i in range(prompt) if ids[i] == chat.end_of_turn(model.tokenizer)), default=0)
        with torch.no_grad():
            hidden = model.model.model(torch.tensor([ids])).last_hidden_state[0]
            outputs = hidden[-1:] @ model.model.score.weight.T
            score = model.gate(hidden[end : end + 1], outputs) if model.gate else outputs.mean(-1)
        scores.append(score.item())
    return scores


@pytest.fixture(scope="module")
def single(model_folder):
    """One output, of scores around 5: at 50 float32's own steps would be near the tolerance."""
    model = reward_training.new_reward_model(model_folder, "float32", seed=1)
    model.score.weight.data.mul_(5)
    return RewardModel(model, sources.load_tokenizer(model_folder), 100)


@pytest.fixture(scope="module")
def gated(model_folder):
    """Five objectives under a random gate."""
    torch.manual_seed(2)
    model = reward_training.new_reward_model(model_folder, "float32", seed=1)
    model.score = torch.nn.Linear(32, 5, bias=False)
    layers = [(torch.randn(8, 32), torch.randn(8)), (torch.randn(5, 8), torch.randn(5))]
    gate = Gate(layers, torch.ones(1), torch.randn(5, 5), temperature=2.0)
    return RewardModel(model, sources.load_tokenizer(model_folder), 512, gate=gate)


@pytest.mark.parametrize("kind", ["one output", "gated"])
@given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 17]), min_size=1, max_size=4),
    budget=st.sampled_from([7, 40, 150, 8192]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_scores_equal_one_by_one_scoring_in_any_batch_composition(single, gated, kind, sizes, budget, seed):
    model = single if kind == "one output" else gated
    conversations = responses_to_prompts(sizes, seed)
    assert model.score(conversations, budget) == pytest.approx(one_by_one(model, conversations), abs=1e-4, rel=0)


@pytest.mark.parametrize("budget", [7, 8192])
def test_a_cut_prompt_is_cut_for_each_response_as_if_it_were_alone(folder, budget):
    short = RewardModel.load(folder, device="cpu", max_length=30)
    conversations = responses_to_prompts([17, 17, 3], seed=4)
    cut = [conversation_ids(short.tokenizer, *conversation, 30)[1] for conversation in conversations]
    assert 0 < sum(cut) < len(cut)
    assert short.score(conversations, budget) == pytest.approx(one_by_one(short, conversations), abs=1e-4)
    assert short.truncated == sum(cut)


@pytest.mark.parametrize("budget", [200, 8192])
def test_each_prompt_is_computed_once_and_no_batch_is_over_the_budget(reward, monkeypatch, budget):
    conversations = responses_to_prompts([17, 3, 40], seed=1)
    prompts = {tuple(chat.prompt_ids(reward.tokenizer, messages)) for messages, _ in conversations}
    sizes = []
    hidden = reward.shared.hidden
    monkeypatch.setattr(
        reward.shared, "hidden", lambda **inputs: sizes.append(inputs["input_ids"].numel()) or hidden(**inputs)
    )
    reward.score(conversations, budget)
    assert max(sizes) <= budget
    responses = [chat.response_ids(reward.tokenizer, response) for _, response in conversations]
    assert sum(sizes) == sum(map(len, prompts)) + sum(map(len, responses))  # and no token twice, nor padding


def test_a_model_that_keeps_no_plain_cache_scores_each_conversation_whole(model_folder, caplog):
    from transformers import MistralConfig, MistralForSequenceClassification

    caplog.set_level("INFO")
    torch.manual_seed(0)
    tokenizer = sources.load_tokenizer(model_folder)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=4,
        num_labels=1,
        pad_token_id=0,
    )
    model = RewardModel(MistralForSequenceClassification(config), tokenizer, 512, "mistral")
    assert "mistral does not keep plain keys and values" in caplog.text
    conversations = responses_to_prompts([3, 2], seed=3)
    for budget in (30, 8192):
        assert model.score(conversations, budget) == pytest.approx(one_by_one(model, conversations), abs=1e-4)


def test_system_turn_of_the_template_is_kept_or_removed():
    """A Llama-3.1-like template writes one by itself; the released code cuts it out of what the reward model reads."""
    tokenizer = llama3.tokenizer(llama3.LLAMA_3_1)
    messages, response = [{"role": "user", "content": "bake bread"}], "go home"
    turn = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    read = turn.format("user", "bake bread") + turn.format("assistant", "go home")
    for system_turn, text in (("keep", llama3.SYSTEM.replace("{given}", "") + read), ("remove", read)):
        ids = tokenizer("<|begin_of_text|>" + text, add_special_tokens=False)["input_ids"]
        assert conversation_ids(tokenizer, messages, response, 512, system_turn) == (ids, False)


def test_final_eos_counts_also_where_it_is_the_pad_token(reward, monkeypatch):
    """transformers' own pooling would step back over it."""
    expected = reward.score(CONVERSATIONS[:3])
    monkeypatch.setattr(reward.model.config, "pad_token_id", reward.tokenizer.eos_token_id)
    assert reward.score(CONVERSATIONS[:3]) == expected


# --- models made elsewhere: what their published use gives ------------------------------------------------------------

CHATML = (
    "{% for m in messages %}{{ '<|system|>' + m['role'] + '\n' + m['content'] | trim + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|system|>assistant\n' }}{% endif %}"
)


def published(folder, conversations, template=None) -> list[float]:
    """As on the page of such a model: the template applied to the whole conversation, transformers' own forward."""
    from transformers import AutoModelForSequenceClassification

    tokenizer = sources.load_tokenizer(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    found = []
    for messages, response in conversations:
        ids = tokenizer.apply_chat_template(
            [*messages, {"role": "assistant", "content": response}], return_tensors="pt", return_dict=False
        )
        with torch.no_grad():
            found.append(model(ids).logits.item())
    return found


@pytest.fixture
def elsewhere(folder, tmp_path):
    """A copy of the folder, with a template and a pad token of its own."""

    def made(template: str, pad: str, **facts):
        out = without_hashes(shutil.copytree(folder, tmp_path / "elsewhere"))
        tokenizer = sources.load_tokenizer(out)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(out)
        pad_id = tokenizer.convert_tokens_to_ids(pad)
        files.write_json(out / "config.json", files.read_json(out / "config.json") | {"pad_token_id": pad_id})
        files.write_json(out / "model.json", files.read_json(out / "model.json") | facts)
        return out

    return made


@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"])
@pytest.mark.parametrize("template", [CHATML, CHAT_TEMPLATE], ids=["chatml", "toy"])
def test_a_model_made_elsewhere_scores_as_its_published_use_does(elsewhere, template, pad):
    """With a line end after the turn, and where the pad token is the one that ends a turn."""
    out = elsewhere(template, pad)
    conversations = [*CONVERSATIONS, ([{"role": "user", "content": "wait"}], "  go home\n")]
    expected = published(out, conversations)
    assert max(expected) - min(expected) > 1
    for budget in (60, 8192):
        assert RewardModel.load(out, device="cpu").score(conversations, budget) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("source", ["trained", "probe"])
def test_a_model_trained_here_is_read_where_it_was_trained(elsewhere, source):
    """At the token that ends the response, though the template writes a line end after it."""
    out = elsewhere(CHATML, "<|end|>", source=source)
    model = RewardModel.load(out, device="cpu")
    assert model.score(CONVERSATIONS) == pytest.approx(one_by_one(model, CONVERSATIONS), abs=2e-4)
    assert abs(torch.tensor(model.score(CONVERSATIONS)) - torch.tensor(published(out, CONVERSATIONS))).min() > 1e-3


@pytest.mark.parametrize("architecture", ["gemma2", "olmo2", "qwen2", "gpt2"])
def test_scores_of_other_architectures_are_those_of_their_own_forward(architecture, model_folder):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    tokenizer = sources.load_tokenizer(model_folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer), "num_labels": 1}
    config = AutoConfig.for_model(architecture, **sizes, initializer_range=0.2, pad_token_id=2)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    reward = RewardModel(model, tokenizer, 512)
    conversations = responses_to_prompts([3, 2], seed=3)
    expected = []
    for messages, response in conversations:
        with torch.no_grad():
            expected.append(
                model(torch.tensor([conversation_ids(tokenizer, messages, response, 512)[0]])).logits.item()
            )
    assert reward.score(conversations) == pytest.approx(expected, abs=1e-4)


def test_a_reward_model_that_reads_elsewhere_is_refused(model_folder, monkeypatch):
    from transformers import LlamaForSequenceClassification

    forward = LlamaForSequenceClassification.forward

    def halved(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = output.logits / 2
        return output

    monkeypatch.setattr(LlamaForSequenceClassification, "forward", halved)
    model = reward_training.new_reward_model(model_folder, "float32", seed=1)
    model.score.weight.data.mul_(50)
    with pytest.raises(InputError, match=r"models/reward: LlamaForSequenceClassification: .* cannot be used"):
        RewardModel(model, sources.load_tokenizer(model_folder), 512, name="models/reward")


def test_nothing_to_score(reward):
    assert reward.score([]) == []


def test_truncation_takes_the_oldest_tokens_after_the_bos(reward):
    messages, response = [{"role": "user", "content": sentence(1, 30)}], "go home"
    whole, cut = conversation_ids(reward.tokenizer, messages, response, 1000)
    assert not cut
    short, cut = conversation_ids(reward.tokenizer, messages, response, 20)
    assert cut
    assert short == [whole[0], *whole[-19:]]
    assert conversation_ids(reward.tokenizer, messages, response, len(whole)) == (whole, False)


def test_truncations_are_counted_and_logged(folder, caplog):
    reward = RewardModel.load(folder, device="cpu", max_length=25)
    lengths = [len(conversation_ids(reward.tokenizer, *c, 10**6)[0]) for c in CONVERSATIONS]
    too_long = sum(length > 25 for length in lengths)
    assert 0 < too_long < len(lengths)
    reward.score(CONVERSATIONS)
    assert reward.truncated == too_long
    assert f"{too_long} of 12 conversations exceed 25 tokens" in caplog.text


def test_length_limit_is_the_one_of_its_training(folder, model_folder, tmp_path):
    assert RewardModel.load(folder, device="cpu").max_length == 100
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    files.write_json(without / "model.json", {"role": "reward"})
    assert RewardModel.load(without, device="cpu").max_length == 512  # the model's own


def test_nan_names_the_prompt(folder):
    broken = RewardModel.load(folder, device="cpu")
    broken.model.score.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"the score of conversation \d+, prompt '.+', is nan"):
        broken.score(CONVERSATIONS)


def test_a_model_without_a_head_is_refused(model_folder):
    with pytest.raises(InputError, match="not a reward model"):
        RewardModel.load(model_folder)


def test_bfloat16_weights_score_nearly_the_same_in_float32(folder, reward):
    half = RewardModel.load(folder, device="cpu", dtype=torch.bfloat16)
    assert half.model.model.embed_tokens.weight.dtype == torch.bfloat16
    assert half.model.score.weight.dtype == torch.float32
    exact = torch.tensor(reward.score(CONVERSATIONS))
    difference = (torch.tensor(half.score(CONVERSATIONS)) - exact).abs().max()
    assert difference < 0.1 * exact.std()
