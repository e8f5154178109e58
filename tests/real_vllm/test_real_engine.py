"""What the real vLLM answers, on CPUs or a GPU: `make test-vllm`. Elsewhere these tests are skipped.

The policy is of the toy world's shape with random weights, in float32, so that transformers' answers can be compared.
"""

from dataclasses import replace

import pytest
import torch
from conftest import WORDS, sentence
from peft import LoraConfig, PeftModel, get_peft_model

from hps.data import chat
from hps.generation import vllm_engine
from hps.generation.engine import Request, Sampling, generate
from hps.generation.transformers_engine import TransformersEngine
from hps.models.scratch import build_tokenizer, new_llama
from hps.models.shape import Shape
from hps.models.sources import load_causal, save
from hps.support.errors import InputError

vllm = pytest.importorskip("vllm")

SAMPLING = Sampling(n=6, temperature=0.9, top_p=1.0, max_new_tokens=12, seed=5)
GREEDY = replace(SAMPLING, n=1, top_p=1e-6, max_new_tokens=40)
SIZES = {"dtype": "float32", "sequences": 32, "tensor_parallel": 1, "max_length": 128}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer([WORDS], 320)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "policy"
    model = new_llama(tokenizer, Shape(initializer_range=0.2), seed=0)
    save(folder, model, tokenizer, {"role": "policy", "source": "scratch"})
    return folder


def policy(folder):
    return load_causal(folder, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def adapters(folder, tmp_path_factory):
    """Two LoRA adapters of different ranks that change what the policy says."""
    saved = []
    for rank, modules in ((4, ["q_proj", "v_proj"]), (8, ["q_proj", "k_proj", "v_proj", "o_proj"])):
        torch.manual_seed(rank)
        config = LoraConfig(r=rank, lora_alpha=4 * rank, target_modules=modules, init_lora_weights=False)
        saved.append(tmp_path_factory.mktemp("run") / "policy")
        get_peft_model(policy(folder), config).save_pretrained(saved[-1])
    return saved


@pytest.fixture(scope="module")
def engines(folder, adapters):
    """One engine of vLLM: the policy without an adapter, and with each of two."""
    with vllm_engine.opened(folder, folder, **SIZES, adapters=adapters) as engine:
        yield [engine, engine.under(adapters[0]), engine.under(adapters[1])]


def requests(tokenizer, numbers=range(4)) -> list[Request]:
    messages = {i: [{"role": "user", "content": sentence(i, 3 + 2 * i)}] for i in numbers}
    return [Request(f"prompt-{i}", chat.prompt_ids(tokenizer, m)) for i, m in messages.items()]


def tokens(engine, tokenizer, asked, sampling=SAMPLING) -> dict[str, list[list[int]]]:
    """Each prompt's continuations, as the engine gives them."""
    batches = engine.sample(asked, sampling, chat.end_of_turn(tokenizer))
    return {request.prompt_id: drawn for batch in batches for request, drawn in batch}


def test_seeds_decide_in_any_batch_and_other_seeds_give_others(engines, tokenizer):
    asked = requests(tokenizer)
    first = tokens(engines[0], tokenizer, asked)
    assert len({tuple(ids) for drawn in first.values() for ids in drawn}) == 24
    alone = {name: ids for request in reversed(asked) for name, ids in tokens(engines[0], tokenizer, [request]).items()}
    assert alone == first
    fewer = tokens(engines[0], tokenizer, asked[1:3], replace(SAMPLING, n=2))
    assert fewer == {name: first[name][:2] for name in fewer}
    other = tokens(engines[0], tokenizer, asked, replace(SAMPLING, seed=6))
    assert not {tuple(ids) for drawn in first.values() for ids in drawn} & {
        tuple(ids) for drawn in other.values() for ids in drawn
    }


@pytest.mark.parametrize("number", [0, 1, 2])
def test_greedy_decoding_is_that_of_transformers_token_by_token(engines, adapters, folder, tokenizer, number):
    model = policy(folder)
    if number:
        model = PeftModel.from_pretrained(model, adapters[number - 1]).eval()
    asked, eos = requests(tokenizer, range(8)), chat.end_of_turn(tokenizer)
    ours = tokens(engines[number], tokenizer, asked, GREEDY)
    for name, (ids,) in tokens(TransformersEngine(model, 32), tokenizer, asked, GREEDY).items():
        assert ours[name] == [ids[: ids.index(eos) + 1] if eos in ids else ids]
    assert len({tuple(ids) for (ids,) in ours.values()}) > 1


@torch.no_grad()
def test_adapters_on_one_engine_change_the_next_token_as_peft_says(engines, adapters, folder, tokenizer):
    prompt = requests(tokenizer)[2].prompt
    models = [policy(folder), *(PeftModel.from_pretrained(policy(folder), adapter).eval() for adapter in adapters)]
    expected = [model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1) for model in models]
    params = vllm.SamplingParams(max_tokens=1, logprobs=20)
    for engine, values in zip(engines, expected, strict=True):
        asked = {"prompt_token_ids": prompt}
        (output,) = engine.llm.generate([asked], [params], use_tqdm=False, lora_request=engine.lora)
        found = {token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()}
        assert set(values.topk(20).indices.tolist()) <= found.keys()
        for token, logprob in found.items():
            assert logprob == pytest.approx(values[token].item(), abs=1e-3)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (expected[one] - expected[other]).abs().max() > 0.1  # far more than the tolerance


def test_responses_end_at_the_turns_end_or_at_the_limit(engines, tokenizer):
    asked, eos = requests(tokenizer), chat.end_of_turn(tokenizer)
    limited = tokens(engines[0], tokenizer, asked)
    assert all(len(ids) <= 12 and eos not in ids[:-1] for drawn in limited.values() for ids in drawn)
    assert any(len(ids) == 12 for drawn in limited.values() for ids in drawn)
    # Any token can be the end of the turn: the first one that each response drew ends it at once.
    (drawn,) = tokens(engines[0], tokenizer, asked[:1]).values()
    for number, ids in enumerate(drawn):
        ((_, again),) = next(engines[0].sample(asked[:1], SAMPLING, ids[2]))
        assert again[number] == ids[: ids.index(ids[2]) + 1]
    statuses = {
        (response.status, response.tokens)
        for batch in generate(engines[0], tokenizer, asked, replace(SAMPLING, n=40))
        for _, responses in batch
        for response in responses
    }
    assert {status for status, _ in statuses} >= {"ok", "truncated"}
    assert all((tokens == 12) == (status == "truncated") or tokens == 12 for status, tokens in statuses)


@torch.no_grad()
def test_frequencies_are_the_models_probabilities_at_the_temperature(engines, folder, tokenizer):
    """A chi-square test of first tokens; it finds a temperature of 1 in place of 0.9."""
    (request,) = requests(tokenizer, [3])
    draws, eos = 10_000, chat.end_of_turn(tokenizer)
    ((_, drawn),) = next(engines[0].sample([request], replace(SAMPLING, n=draws, max_new_tokens=1), eos))
    counts = torch.bincount(torch.tensor([ids[0] for ids in drawn]), minlength=len(tokenizer)).double()
    logits = policy(folder)(torch.tensor([request.prompt])).logits[0, -1].double()

    def p_value(temperature: float) -> float:
        expected = draws * (logits / temperature).softmax(-1)
        often = expected >= 5
        observed = torch.cat([counts[often], counts[~often].sum()[None]])
        expected = torch.cat([expected[often], expected[~often].sum()[None]])
        statistic = ((observed - expected) ** 2 / expected).sum()
        return torch.special.gammaincc((len(expected) - 1) * torch.tensor(0.5), statistic.float() / 2).item()

    assert p_value(0.9) > 0.01
    assert p_value(1.0) < 1e-4


def test_what_does_not_fit_the_context_is_refused_in_one_line(folder):
    refused = r"the longest prompt and its response are 513 tokens, but the model has 512 positions"
    with pytest.raises(InputError, match=refused), vllm_engine.opened(folder, folder, **SIZES | {"max_length": 513}):
        pass


def test_an_engine_can_follow_another_in_one_process(engines, folder, tokenizer):
    with vllm_engine.opened(folder, folder, **SIZES) as engine:
        asked = requests(tokenizer)
        assert tokens(engine, tokenizer, asked) == tokens(engines[0], tokenizer, asked)


def test_heads_that_attention_on_cpus_lacks_are_refused_in_one_line(tokenizer, tmp_path):
    if not vllm.platforms.current_platform.is_cpu():
        pytest.skip("a build for GPUs")
    save(tmp_path / "policy", new_llama(tokenizer, Shape(hidden=32), seed=0), tokenizer, {"role": "policy"})
    with (
        pytest.raises(InputError, match=r"heads of size 8, but .* sizes 32, 64, "),
        vllm_engine.opened(tmp_path / "policy", tmp_path / "policy", **SIZES),
    ):
        pass
