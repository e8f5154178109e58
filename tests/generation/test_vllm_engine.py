"""The vLLM engine: what it is asked for. What it answers is in tests/real_vllm (`make test-vllm`).

`FakeLLM` and `FakeSamplingParams` have the parameters of vLLM 0.32.0, as far as they are used; where vLLM is installed,
its own signatures are held against them.
"""

import inspect
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import evaluate
import pytest
import stage_files
import torch
from conftest import SCRIPTS, called, sentence
from peft import LoraConfig, get_peft_model

from hps.data import chat
from hps.generation import vllm_engine
from hps.generation.engine import Request, Sampling, generate
from hps.models.sources import load_causal, load_tokenizer
from hps.support.errors import InputError

SAMPLING = Sampling(n=3, temperature=0.9, top_p=0.95, max_new_tokens=8, seed=5)
SIZES = {"dtype": "bfloat16", "sequences": 16, "tensor_parallel": 2, "max_length": 40}


@dataclass(kw_only=True)
class FakeSamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = 16
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    detokenize: bool = True
    logprobs: int | None = None


@dataclass
class FakeLoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class FakeLLM:
    """Continues each prompt with the letters of its seed, and then the stop token where the seed is even."""

    model: str = ""
    tokenizer: str | None = None
    load_format: str = "auto"
    dtype: str = "auto"
    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.92
    enable_prefix_caching: bool | None = None
    generation_config: str = "auto"
    enable_lora: bool = False
    max_lora_rank: int = 16
    enforce_eager: bool = False
    kv_cache_memory_bytes: int | None = None
    cumulative_logprob: float = -1.0
    calls: list = field(default_factory=list)
    closed: bool = False

    @property
    def llm_engine(self):
        return SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: setattr(self, "closed", True)))

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        self.calls.append(SimpleNamespace(prompts=prompts, params=sampling_params, lora=lora_request))
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(
                        token_ids=(*self.words(params), *self.end(params)), cumulative_logprob=self.cumulative_logprob
                    )
                ]
            )
            for _, params in zip(prompts, sampling_params, strict=True)
        ]

    @staticmethod
    def words(params):
        return [100 + int(digit) for digit in str(params.seed)[:4]]

    @staticmethod
    def end(params):
        return () if params.seed % 2 else params.stop_token_ids


def requests(tokenizer, count: int) -> list[Request]:
    messages = [[{"role": "user", "content": sentence(i, 3 + 2 * i)}] for i in range(count)]
    return [Request(f"prompt-{i}", chat.prompt_ids(tokenizer, m)) for i, m in enumerate(messages)]


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return load_tokenizer(model_folder)


def lora(model_folder, folder):
    """Save a LoRA adapter that changes what the model says."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(load_causal(model_folder, dtype=torch.float32, device="cpu"), config).save_pretrained(folder)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("run") / "policy"
    lora(model_folder, folder)
    return folder


def test_each_response_is_a_request_with_its_own_seed_and_the_turns_end_as_its_only_stop(tokenizer):
    asked = requests(tokenizer, 2)
    llm, lora = FakeLLM(), FakeLoRARequest("policy", 1, "/adapter")
    list(generate(vllm_engine.VllmEngine(llm, FakeSamplingParams, 16, lora), tokenizer, asked, SAMPLING))
    (call,) = llm.calls
    assert call.prompts == [{"prompt_token_ids": request.prompt} for request in asked for _ in range(3)]
    assert call.lora is lora
    expected = FakeSamplingParams(
        temperature=0.9,
        top_p=0.95,
        max_tokens=8,
        seed=SAMPLING.seed_of("prompt-1", 2),
        stop_token_ids=[chat.end_of_turn(tokenizer)],
        ignore_eos=True,
        detokenize=False,
        logprobs=0,
    )
    assert call.params[5] == expected
    assert len({params.seed for params in call.params}) == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_one_line(tokenizer, value):
    engine = vllm_engine.VllmEngine(FakeLLM(cumulative_logprob=value), FakeSamplingParams, 16, None, "models/policy")
    with pytest.raises(InputError, match=r"^models/policy: its logits after prompt prompt-0 are not finite"):
        list(generate(engine, tokenizer, requests(tokenizer, 2), SAMPLING))


def test_responses_come_back_with_their_prompts_and_are_read_as_any_others(tokenizer):
    asked = requests(tokenizer, 3)
    engine = vllm_engine.VllmEngine(FakeLLM(), FakeSamplingParams, 16)
    answers = [pair for batch in generate(engine, tokenizer, asked, SAMPLING) for pair in batch]
    assert [request for request, _ in answers] == asked
    statuses = set()
    for request, responses in answers:
        for number, response in enumerate(responses):
            params = FakeSamplingParams(seed=SAMPLING.seed_of(request.prompt_id, number))
            odd = bool(params.seed % 2)
            assert response.text == tokenizer.decode(FakeLLM.words(params)).strip()
            assert response.status == ("truncated" if odd else "ok")
            assert response.tokens == 4 + (not odd)
            statuses.add(response.status)
    assert statuses == {"ok", "truncated"}


def test_calls_are_cut_by_prompts_and_nothing_depends_on_the_cut(tokenizer, monkeypatch):
    asked = requests(tokenizer, 5)
    whole = list(generate(vllm_engine.VllmEngine(FakeLLM(), FakeSamplingParams, 16), tokenizer, asked, SAMPLING))
    monkeypatch.setattr(vllm_engine, "ROUNDS", 1)
    llm = FakeLLM()
    cut = list(generate(vllm_engine.VllmEngine(llm, FakeSamplingParams, 7), tokenizer, asked, SAMPLING))
    assert [len(call.prompts) for call in llm.calls] == [6, 6, 3]
    assert [pair for batch in cut for pair in batch] == [pair for batch in whole for pair in batch]


@pytest.fixture
def vllm(monkeypatch) -> list[FakeLLM]:
    """A module `vllm` of fakes, a build for GPUs that finds one; gives the engines that were made."""
    made = []

    def llm(**arguments):
        made.append(FakeLLM(**arguments))
        return made[-1]

    names = ("vllm", "vllm.distributed", "vllm.lora", "vllm.lora.request", "vllm.platforms", "vllm.v1")
    names += ("vllm.v1.attention", "vllm.v1.attention.backends", "vllm.v1.attention.backends.cpu_attn")
    modules = {name: ModuleType(name) for name in names}
    modules["vllm"].LLM, modules["vllm"].SamplingParams = llm, FakeSamplingParams
    modules["vllm.distributed"].cleanup_dist_env_and_memory = lambda: None
    modules["vllm.lora.request"].LoRARequest = FakeLoRARequest
    modules["vllm.platforms"].current_platform = platform("cuda")
    modules["vllm.v1.attention.backends.cpu_attn"].CPUAttentionBackend = SimpleNamespace(
        get_supported_head_sizes=lambda: [8, 32]
    )
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: name)
    return made


def platform(device: str) -> SimpleNamespace:
    """What vLLM knows of the devices: `cuda`, `cpu`, or none of those that it was built for."""
    return SimpleNamespace(is_cpu=lambda: device == "cpu", is_unspecified=lambda: device == "")


def test_an_engine_on_a_model_folder(vllm, model_folder):
    with vllm_engine.opened(model_folder, model_folder, **SIZES) as engine:
        assert engine.lora is None
        assert not vllm[0].closed
    assert vllm == [
        FakeLLM(
            model=str(model_folder),
            tokenizer=str(model_folder),
            load_format="safetensors",
            dtype="bfloat16",
            tensor_parallel_size=2,
            max_model_len=40,
            max_num_seqs=16,
            gpu_memory_utilization=0.9,
            enable_prefix_caching=True,
            generation_config="vllm",
            closed=True,
        )
    ]


def test_on_cpus_it_runs_in_this_process_with_a_cache_of_its_own_and_unbound_threads(vllm, model_folder, monkeypatch):
    monkeypatch.setattr(sys.modules["vllm.platforms"], "current_platform", platform("cpu"))
    monkeypatch.setattr(os, "environ", {"VLLM_CPU_OMP_THREADS_BIND": "0-1"})
    with vllm_engine.opened(model_folder, model_folder, **SIZES):
        pass
    (llm,) = vllm
    assert llm.enforce_eager
    assert llm.kv_cache_memory_bytes == 2 * 2**30
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"  # what the user has set counts
    backend = sys.modules["vllm.v1.attention.backends.cpu_attn"].CPUAttentionBackend
    monkeypatch.setattr(backend, "get_supported_head_sizes", lambda: [32, 64])
    refused = f"{model_folder}: heads of size 8, but vllm's attention on CPUs has sizes 32, 64 only"
    with pytest.raises(InputError, match=refused), vllm_engine.opened(model_folder, model_folder, **SIZES):
        pass


def test_an_adapter_is_applied_without_being_merged(vllm, model_folder, adapter):
    with vllm_engine.opened(model_folder, model_folder, **SIZES, adapters=[adapter]) as engine:
        assert engine.lora is engine.under(None).lora is None
        assert engine.under(adapter).lora == FakeLoRARequest("policy-1", 1, str(adapter))
    assert vllm[0].enable_lora
    assert vllm[0].max_lora_rank == 8  # the smallest that vLLM allows for rank 4
    assert vllm[0].model == str(model_folder)


def test_the_engine_is_closed_when_the_work_fails(vllm, model_folder):
    with pytest.raises(KeyError), vllm_engine.opened(model_folder, model_folder, **SIZES):
        raise KeyError
    assert vllm[0].closed


def test_what_vllm_cannot_do_is_said_before_an_engine_is_made(vllm, model_folder, adapter, tmp_path, monkeypatch):
    def opening(folder=model_folder, **changes):
        with vllm_engine.opened(folder, model_folder, **SIZES | changes):
            pass

    with pytest.raises(InputError, match="5000 tokens, but the model has"):
        opening(max_length=5000)
    with pytest.raises(InputError, match=f"{tmp_path}: not a model folder"):
        opening(tmp_path)
    with pytest.raises(InputError, match=r"has no adapter_model.safetensors"):
        opening(adapters=[tmp_path])
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "adapter_config.json").write_text('{"r": 1024}')
    with pytest.raises(InputError, match="rank 1024, but vllm takes adapters up to rank 512"):
        opening(adapters=[tmp_path])
    monkeypatch.setattr(sys.modules["vllm.platforms"], "current_platform", platform(""))
    with pytest.raises(InputError, match=r"compute.generation: this vllm is for GPUs, and there is none here"):
        opening()
    assert not vllm


def test_evaluation_samples_the_policy_it_is_given(vllm, tokenizer, model_folder, adapter, tmp_path):
    """The SFT policy, that with a run's adapter, and a fully trained policy, whose folder has no tokenizer."""
    full = tmp_path / "full"
    shutil.copytree(model_folder, full, ignore=shutil.ignore_patterns("tokenizer*", "model.json"))
    prompts = [[SimpleNamespace(prompt_id=r.prompt_id, prompt=r.prompt) for r in requests(tokenizer, 2)]] * 2
    given = dict.fromkeys(evaluate.Arguments.__dataclass_fields__) | {
        "policy": str(model_folder),
        "samples": 3,
        "temperature": 0.9,
        "max_new_tokens": 8,
        "sequences": 4,
        "dtype": "float32",
        "tensor_parallel": 1,
    }
    policies = [evaluate.Policy(0, [], "", trained) for trained in ("", str(adapter), str(full))]
    answers = evaluate.sample_with_vllm(tokenizer, policies, [prompts] * 3, evaluate.Arguments(**given))
    assert [[[len(responses) for responses in own] for own in one] for one in answers] == [[[3, 3], [3, 3]]] * 3
    # The SFT policy and all adapters share an engine.
    assert [llm.model for llm in vllm] == [str(model_folder), str(full)]
    assert {llm.tokenizer for llm in vllm} == {str(model_folder)}
    loras = [[call.lora and call.lora.lora_path for call in llm.calls] for llm in vllm]
    assert loras == [[None, None, str(adapter), str(adapter)], [None, None]]
    assert all(llm.closed for llm in vllm)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
@pytest.mark.parametrize("command", ["augment", "evaluate"])
def test_without_vllm_a_job_that_asks_for_it_ends_in_one_line(command, tmp_path, model_folder):
    files = stage_files.make(tmp_path, model_folder, prompts=2)
    shared = "--temperature 0.9 --max-new-tokens 8 --sequences 8 --generation vllm"
    sft = {"seed": 0, "test_sets": ["hh_rlhf"], "out": str(tmp_path / "out")}
    words = {
        "augment": f"--pairs {files['pairs']} --generator {model_folder} --shard 1-of-1 --n 2 --top-p 1 "
        f"--seed 0 --out {tmp_path}/out --stats {tmp_path}/stats.json",
        "evaluate": f"--test-sets hh_rlhf --pairs {files['pairs']} --examples {files['examples']} "
        f"--policy {model_folder} "
        f"--eval-reward {model_folder} --samples 2 --pick per_metric --bleu-reference chosen --truncated keep "
        f"--score-tokens 512 --reward-output gated --reward-system-turn keep --policies {shlex.quote(json.dumps(sft))}",
    }[command]
    done = called(SCRIPTS / f"{command}.py", *shlex.split(words), *shared.split())
    assert done.returncode == 1
    expected = "error: compute.generation: vllm is not installed here; envs/vllm.yaml has it (snakemake --sdm conda)\n"
    assert done.stderr == expected
    assert not (tmp_path / "out").exists()


def test_the_fakes_parameters_are_vllms():
    vllm = pytest.importorskip("vllm")
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.request import LoRARequest

    engine = {*inspect.signature(vllm.LLM).parameters, *inspect.signature(EngineArgs).parameters}
    assert {*FakeLLM.__dataclass_fields__} - {"calls", "closed", "cumulative_logprob"} <= engine
    assert {*inspect.signature(FakeLLM.generate).parameters} <= {*inspect.signature(vllm.LLM.generate).parameters}
    assert {*FakeSamplingParams.__dataclass_fields__} <= {*inspect.signature(vllm.SamplingParams).parameters}
    given = inspect.signature(FakeLoRARequest).parameters
    assert list(inspect.signature(LoRARequest).parameters)[: len(given)] == list(given)
