"""ArmoRM's head over the stock Llama: its arithmetic, its published names, and where its gate reads."""

import itertools
import json
import math
import shutil

import llama3
import pytest
import torch
from conftest import sentence, without_hashes
from safetensors.torch import load_file, save_file

from hps.data import chat
from hps.models import reward_heads, sources
from hps.models.hub_lock import MODEL_FILES
from hps.models.reward_model import RewardModel
from hps.models.scratch import new_llama
from hps.models.shape import Shape
from hps.support.errors import InputError

OBJECTIVES, HIDDEN, GATE = 19, 32, 8
TEMPERATURE = 3.0
CONVERSATIONS = [
    ([{"role": "user", "content": sentence(i, 2 + 3 * (i % 5))}], sentence(i + 30, 1 + 3 * (i % 4))) for i in range(6)
]
# Several turns: the gate reads at the end of the last one.
CONVERSATIONS.append(
    ([{"role": r, "content": sentence(j, 4)} for j, r in enumerate(("user", "assistant", "user"))], "go home")
)


def random_head() -> dict[str, torch.Tensor]:
    """Weights in the published layout: 19 objectives, three hidden layers in the gate."""
    draw = torch.Generator().manual_seed(5)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=draw)

    sizes = [HIDDEN, GATE, GATE, GATE, OBJECTIVES]
    tensors = {"regression_layer.weight": normal(OBJECTIVES, HIDDEN)}
    for number, (below, above) in enumerate(itertools.pairwise(sizes)):
        tensors[f"gating.layers.{number}.weight"] = normal(above, below)
        tensors[f"gating.layers.{number}.bias"] = normal(above)
    tensors["gating.logit_scale"] = torch.tensor([1.3])
    tensors["reward_transform_matrix"] = torch.eye(OBJECTIVES) + normal(OBJECTIVES, OBJECTIVES, scale=0.1)
    return tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository like the published one: its own class and code are named, its code must not run."""
    tokenizer = llama3.tokenizer(llama3.LLAMA_3)
    shape = Shape(hidden=HIDDEN, layers=2, heads=4, kv_heads=2, intermediate=48, initializer_range=0.2)
    model = new_llama(tokenizer, shape, seed=3)
    out = tmp_path_factory.mktemp("armorm") / "repository"
    sources.save(out, model, tokenizer, {"role": "eval_reward"})
    decoder = {name: tensor for name, tensor in load_file(out / "model.safetensors").items() if "lm_head" not in name}
    save_file(decoder | random_head(), out / "model.safetensors", {"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config |= {
        "architectures": ["LlamaForRewardModelWithGating"],
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"},
        "gating_temperature": TEMPERATURE,
        "tie_word_embeddings": False,
    }
    (out / "config.json").write_text(json.dumps(config))
    (out / "modeling_custom.py").write_text("raise SystemExit('code of the repository was run')")
    return without_hashes(out)


def linear(weight, bias, x):
    return [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def written_out(head: dict[str, torch.Tensor], prompt: list[float], last: list[float]) -> tuple[float, float]:
    """Gated score and mean objective, number by number."""
    head = {name: tensor.tolist() for name, tensor in head.items()}
    objectives = linear(head["regression_layer.weight"], [0.0] * OBJECTIVES, last)
    x = prompt
    for number in range(4):
        x = linear(head[f"gating.layers.{number}.weight"], head[f"gating.layers.{number}.bias"], x)
        if number < 3:
            x = [max(0.0, value) for value in x]
    powers = [math.exp(value / TEMPERATURE) for value in x]
    weights = [head["gating.logit_scale"][0] * power / sum(powers) for power in powers]
    transform = head["reward_transform_matrix"]
    adjusted = [sum(objectives[i] * transform[i][k] for i in range(OBJECTIVES)) for k in range(OBJECTIVES)]
    gated = sum(weight * value for weight, value in zip(weights, adjusted, strict=True))
    return gated, sum(objectives) / OBJECTIVES


def last_occurrence(ids: list[int], pattern: list[int]) -> int:
    return max(at for at in range(len(ids)) if ids[at : at + len(pattern)] == pattern)


@pytest.fixture(scope="module")
def expected(folder) -> list[tuple[float, float]]:
    """Both scores of each conversation, from the decoder's own states and the arithmetic written out."""
    tokenizer = sources.load_tokenizer(folder)
    model = new_llama(tokenizer, Shape(hidden=HIDDEN, layers=2, heads=4, kv_heads=2, intermediate=48), seed=0)
    stored = load_file(folder / "model.safetensors")
    model.model.load_state_dict({name[6:]: value for name, value in stored.items() if name.startswith("model.")})
    # The published rule: the last end of a turn that the assistant's header follows, in the whole conversation.
    header = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    pattern = tokenizer(header, add_special_tokens=False)["input_ids"]
    scores = []
    for messages, response in CONVERSATIONS:
        ids = chat.prompt_ids(tokenizer, messages) + chat.response_ids(tokenizer, response)
        with torch.no_grad():
            hidden = model.model(torch.tensor([ids])).last_hidden_state[0]
        scores.append(written_out(random_head(), hidden[last_occurrence(ids, pattern)].tolist(), hidden[-1].tolist()))
    return scores


@pytest.mark.parametrize("batch_tokens", [8192, 30])
@pytest.mark.parametrize(("output", "which"), [("gated", 0), ("mean", 1)])
def test_both_scores_are_the_arithmetic_written_out(folder, expected, output, which, batch_tokens):
    model = RewardModel.load(folder, device="cpu", output=output)
    scores = model.score(CONVERSATIONS, batch_tokens)
    assert scores == pytest.approx([both[which] for both in expected], abs=1e-4)
    assert max(scores) - min(scores) > 0.1


def test_the_two_scores_differ(expected):
    assert all(abs(gated - mean) > 0.01 for gated, mean in expected)


def test_weights_of_the_objectives_depend_on_the_prompt_and_sum_to_the_scale(folder):
    gate = reward_heads.read_gate(folder, HIDDEN, OBJECTIVES)
    weights = gate.weights(torch.randn(3, HIDDEN))
    assert weights.sum(1).tolist() == pytest.approx([1.3] * 3, rel=1e-5)
    assert (weights[0] - weights[1]).abs().max() > 1e-3


def test_the_temperature_defaults_to_that_of_the_published_code(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    del config["gating_temperature"]
    (other / "config.json").write_text(json.dumps(config))
    assert reward_heads.read_gate(other, HIDDEN, OBJECTIVES).temperature == 10


def test_a_head_in_float32_stays_exact_on_a_decoder_in_bfloat16(folder):
    model = RewardModel.load(folder, device="cpu", dtype="bfloat16")
    assert model.model.model.embed_tokens.weight.dtype == torch.bfloat16
    stored = random_head()
    assert torch.equal(model.model.score.weight, stored["regression_layer.weight"])
    assert torch.equal(model.gate.transform, stored["reward_transform_matrix"])


def changed(folder, tmp_path, change):
    out = shutil.copytree(folder, tmp_path / "changed")
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def test_without_a_gate_only_the_mean_can_be_had(folder, tmp_path, expected):
    def drop(tensors):
        for name in [name for name in tensors if name.startswith("gating.")]:
            del tensors[name]

    plain = changed(folder, tmp_path, drop)
    with pytest.raises(InputError, match="19 outputs and no gate"):
        RewardModel.load(plain, device="cpu", output="gated")
    scores = RewardModel.load(plain, device="cpu", output="mean").score(CONVERSATIONS)
    assert scores == pytest.approx([mean for _, mean in expected], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("reward_transform_matrix", None, "no tensor reward_transform_matrix"),
        ("gating.logit_scale", None, "no tensor gating.logit_scale"),
        ("gating.layers.1.weight", None, "no tensor gating.layers.1.weight"),
        ("gating.layers.0.weight", torch.zeros(GATE, 7), r"gating.layers.0.weight is \(8, 7\), expected \(8, 32\)"),
        ("reward_transform_matrix", torch.zeros(3, 3), r"is \(3, 3\), expected \(19, 19\)"),
    ],
)
def test_a_gate_that_does_not_fit_is_refused(folder, tmp_path, name, tensor, message):
    def change(tensors):
        tensors.pop(name)
        if tensor is not None:
            tensors[name] = tensor

    with pytest.raises(InputError, match=message):
        RewardModel.load(changed(folder, tmp_path, change), device="cpu")


def test_a_prompt_cut_before_its_end_leaves_the_gate_nothing_to_read(folder):
    messages, response = CONVERSATIONS[3]
    length = len(chat.response_ids(sources.load_tokenizer(folder), response))
    short = RewardModel.load(folder, device="cpu", max_length=length + 2)
    with pytest.raises(InputError, match=r"conversation 0, prompt '.*', the end of the prompt does not fit"):
        short.score([(messages, response)])
    assert len(RewardModel.load(folder, "cpu", length + 2, output="mean").score([(messages, response)])) == 1


def test_pickled_weights_beside_safetensors_are_not_read_and_alone_are_refused(folder, tmp_path, expected):
    out = shutil.copytree(folder, tmp_path / "both")
    (out / "pytorch_model.bin").write_bytes(b"not even a pickle")
    scores = RewardModel.load(out, device="cpu").score(CONVERSATIONS)
    assert scores == pytest.approx([gated for gated, _ in expected], abs=1e-4)
    (out / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"its weights are pickled \(pytorch_model.bin\), which is refused"):
        RewardModel.load(out, device="cpu")


def test_fetching_takes_no_code_and_no_pickle():
    assert not [pattern for pattern in MODEL_FILES if pattern.endswith((".py", ".bin", ".pt", ".pth"))]
