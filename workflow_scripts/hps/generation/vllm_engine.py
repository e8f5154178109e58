"""Sampling with vLLM: its offline batch engine, which has the device to itself until it is closed.

Written against vLLM 0.32, for GPUs (envs/vllm.yaml) or CPUs (envs/vllm-cpu.txt); it is imported only when an engine is
opened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hps.generation.engine import Request, Sampling
from hps.logprobs import context
from hps.models.sources import load_config, weight_files
from hps.support import provenance
from hps.support.errors import InputError
from hps.support.files import read_json

KEY = "compute.generation"
ROUNDS = 64
"""A call of the engine asks for this many times the responses that it computes side by side: so many that the end of a
call, where ever fewer are left, hardly counts, and so few that progress shows and memory stays small."""
GPU_SHARE = 0.9
"""Share of each GPU's memory that the engine takes, for weights and cache together; it fills the cache as it needs it,
and lets responses wait that do not fit."""
CPU_CACHE = 2 * 2**30
"""Bytes of an engine's cache on CPUs, where there is no memory of its own to take a share of; responses that do not fit
wait. VLLM_CPU_KVCACHE_SPACE (GiB) is vLLM's own setting, and goes before this one."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM accepts as the largest rank of an adapter."""


class VllmEngine:
    """Engine around a `vllm.LLM`.

    Args:
        llm: the engine; anything with its `generate`.
        sampling_params: the class `vllm.SamplingParams`.
        sequences: responses that the engine computes side by side.
        lora: a `vllm.lora.request.LoRARequest`, the adapter that counts; None for the model as it is.
        name: of the model, for messages.
        loras: by folder, those of all adapters that the engine was opened with.
    """

    def __init__(
        self,
        llm: Any,
        sampling_params: Any,
        sequences: int,
        lora: Any = None,
        name: object = "vllm",
        loras: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.llm = llm
        self.sampling_params = sampling_params
        self.sequences = sequences
        self.lora = lora
        self.loras = loras or {}

    def under(self, adapter: str | Path | None) -> VllmEngine:
        """The same engine with one of its adapters; None: the model as it is."""
        lora = self.loras[str(adapter)] if adapter else None
        return VllmEngine(self.llm, self.sampling_params, self.sequences, lora, adapter or self.name, self.loras)

    def sample(
        self, requests: Sequence[Request], sampling: Sampling, eos: int
    ) -> Iterator[list[tuple[Request, list[list[int]]]]]:
        """As `hps.generation.engine.Engine` says; batches follow the order of the requests.

        Each response is a request of its own: with n > 1 vLLM would number the seeds of a prompt's responses on from
        one seed, and here each follows from (seed, prompt, number). Prefix caching computes the prompt once all the
        same.

        Raises InputError naming the model when a log-prob of what was drawn is not finite.
        """
        prompts_a_call = max(1, ROUNDS * self.sequences // sampling.n)
        for start in range(0, len(requests), prompts_a_call):
            part = requests[start : start + prompts_a_call]
            outputs = self.llm.generate(
                [{"prompt_token_ids": request.prompt} for request in part for _ in range(sampling.n)],
                [
                    self.sampling_params(
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        max_tokens=sampling.max_new_tokens,
                        seed=sampling.seed_of(request.prompt_id, number),
                        # The end of the turn ends a response, and no other token that the model's folder may name.
                        stop_token_ids=[eos],
                        ignore_eos=True,
                        detokenize=False,
                        logprobs=0,  # of the drawn token alone: NaN where a logit is NaN or infinite
                    )
                    for request in part
                    for number in range(sampling.n)
                ],
                use_tqdm=False,
                lora_request=self.lora,
            )
            drawn = iter([output.outputs[0] for output in outputs])
            answers = [(request, [next(drawn) for _ in range(sampling.n)]) for request in part]
            for request, own in answers:
                if not all(math.isfinite(one.cumulative_logprob) for one in own):
                    raise InputError(
                        self.name,
                        f"its logits after prompt {request.prompt_id} are not finite: a weight may be NaN or infinite, "
                        "or its type too small",
                    )
            yield [(request, [list(one.token_ids) for one in own]) for request, own in answers]


@contextmanager
def opened(
    folder: str | Path,
    tokenizer: str | Path,
    *,
    dtype: str,
    sequences: int,
    tensor_parallel: int,
    max_length: int,
    adapters: Sequence[str | Path] = (),
) -> Iterator[VllmEngine]:
    """An engine on a model folder, on GPUs or CPUs, whichever the installed vLLM is for; after the block it is gone.

    On GPUs it runs in processes of its own, which end with the block, and with them its GPU memory. On CPUs it runs in
    this process, on as many threads as torch has here.

    Args:
        tokenizer: folder of the tokenizer (a fully trained policy is saved without one).
        dtype: of the weights, `float32` or `bfloat16`; adapters are rounded to it.
        sequences: responses computed side by side.
        tensor_parallel: devices that share the model.
        max_length: tokens of the longest prompt and its response.
        adapters: folders of LoRA adapters that `VllmEngine.under` chooses from, applied without merging them into the
            weights.

    Raises:
        InputError: vLLM is not installed, or is a build for devices that are not here; no safetensors; `max_length` is
            more than the model has positions; an adapter's rank is beyond vLLM's, or the size of the model's heads is
            none that its attention on CPUs has.
    """
    if find_spec("vllm") is None:
        raise InputError(KEY, "vllm is not installed here; envs/vllm.yaml has it (snakemake --sdm conda)")
    arguments = engine_arguments(folder, tokenizer, dtype, sequences, tensor_parallel, max_length, adapters)
    import torch

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform

    if current_platform.is_unspecified():
        raise InputError(KEY, "this vllm is for GPUs, and there is none here; envs/vllm-cpu.txt has one for CPUs")
    if current_platform.is_cpu():
        arguments |= _on_cpus(Path(folder))
    set_num_threads = torch.set_num_threads
    llm = LLM(**arguments)
    try:
        # By its number vLLM tells an adapter's cached prompts from those of others, and numbers begin at 1.
        loras = {str(one): LoRARequest(f"policy-{i}", i, str(one)) for i, one in enumerate(adapters, start=1)}
        yield VllmEngine(llm, SamplingParams, sequences, name=folder, loras=loras)
    finally:
        llm.llm_engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()
        torch.set_num_threads = set_num_threads  # vLLM on CPUs puts a function in its place that does nothing


def _on_cpus(folder: Path) -> dict[str, Any]:
    """What `vllm.LLM` is called with beside that on CPUs; sets vLLM's own variables where the environment does not."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    config = read_json(folder / "config.json")
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    allowed = CPUAttentionBackend.get_supported_head_sizes()
    if size not in allowed:
        raise InputError(
            folder, f"heads of size {size}, but vllm's attention on CPUs has sizes {', '.join(map(str, allowed))} only"
        )
    # In this process: others would import everything again, which takes longer than most of the jobs.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    # Unbound: vLLM would bind the threads of each of several jobs to the same CPUs.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    # Compiling takes minutes a start.
    return {"enforce_eager": True, "kv_cache_memory_bytes": CPU_CACHE}


def engine_arguments(
    folder: str | Path,
    tokenizer: str | Path,
    dtype: str,
    sequences: int,
    tensor_parallel: int,
    max_length: int,
    adapters: Sequence[str | Path],
) -> dict[str, Any]:
    """What `vllm.LLM` is called with. Raises InputError as `opened` does."""
    weight_files(folder)
    provenance.model_files(folder)
    context.check_length(folder, max_length, context.positions(load_config(folder)))
    arguments = {
        "model": str(folder),
        "tokenizer": str(tokenizer),
        "load_format": "safetensors",
        "dtype": dtype,
        "tensor_parallel_size": tensor_parallel,
        "max_model_len": max_length,
        "max_num_seqs": sequences,
        "gpu_memory_utilization": GPU_SHARE,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # none of the model folder's own sampling settings
    }
    if adapters:
        arguments |= {"enable_lora": True, "max_lora_rank": max(_allowed_rank(Path(one)) for one in adapters)}
    return arguments


def _allowed_rank(adapter: Path) -> int:
    if not (adapter / "adapter_model.safetensors").is_file():
        raise InputError(adapter, "has no adapter_model.safetensors")
    rank = read_json(adapter / provenance.ADAPTER)["r"]
    if rank > RANKS[-1]:
        raise InputError(adapter, f"rank {rank}, but vllm takes adapters up to rank {RANKS[-1]}")
    return next(allowed for allowed in RANKS if rank <= allowed)
