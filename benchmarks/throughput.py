"""How fast this machine does the workflow's kinds of work, which `snakemake plan` divides its operation counts by.

Rates are achieved operations a second, by the counts of hps.planning.operations, so that they carry over to
other lengths and, roughly, to other models and machines.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import inputs, measure, ours, startup
from benchmarks.measure import Summary
from hps.generation.engine import Request, Sampling, generate
from hps.generation.transformers_engine import TransformersEngine
from hps.logprobs.scorer import Group, SequenceScorer
from hps.models.shape import Shape
from hps.planning.operations import Architecture, Work, plain_work, sampling_work, shared_work

TINY = Architecture.from_shape(Shape(), vocab=768)
"""The models of preset `tiny`."""
PROMPT, RESPONSE = 126, 45
"""Tokens of a prompt and of a response, about those of HH-RLHF."""
STEPS = 24
"""Tokens that are sampled for each response when sampling is timed."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with this many threads: Snakemake gives each of the workflow's jobs one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def entries(
    name: str,
    model: torch.nn.Module,
    tokenizer,
    *,
    train_tokens: int,
    score_tokens: int,
    sequences: int,
    repeats: int,
    synchronize: Callable[[], object],
    bandwidth: float | None = None,
    scale: int = 1,
    n: int = 16,
    many: int = 100,
) -> list[dict[str, Any]]:
    """Rates of one model under fresh adapters, work by work.

    Args:
        tokenizer: ends the generated responses; a model that was not trained with it hardly ever draws that token.
        bandwidth: of the device's memory, bytes a second; with it, the share that sampling reaches is recorded.
        scale: multiplies the amount of work, for fast machines.
        n, many: responses a prompt in scoring, and in training on whole groups.
    """
    architecture = ours.architecture_of(model)
    draw = np.random.default_rng(0)
    adapted = ours.with_adapters(model)
    causal = adapted.get_base_model()

    def groups(count: int, responses: int) -> list[Group]:
        sizes = [RESPONSE] * responses
        return [
            Group(
                inputs.tokens(draw, PROMPT, architecture.vocab),
                [inputs.tokens(draw, size, architecture.vocab) for size in sizes],
            )
            for _ in range(count)
        ]

    def work(count: int, responses: int) -> Work:
        return shared_work(PROMPT, [RESPONSE] * responses) * count

    pairs, whole, scored = 4 * scale, max(1, scale // 4), max(1, scale // 2)
    bt = ours.Steps(ours.trainer(adapted, "bt", ours.examples(groups(2 * pairs, 2)), pairs, train_tokens))
    pl = ours.Steps(ours.trainer(adapted, "pl", ours.examples(groups(2 * whole, many)), whole, train_tokens))
    scorer = SequenceScorer(adapted, score_tokens)
    to_score = groups(scored, n)
    # A group that exceeds the budget is computed in two passes.
    two_passes = scorer.group_cost(groups(1, many)) > train_tokens
    cases: dict[str, tuple[Callable[[int], object], float, float]] = {
        "train": (bt, architecture.training_flops(work(pairs, 2)), work(pairs, 2).tokens),
        "train_group": (
            pl,
            architecture.training_flops(work(whole, many), forwards=2 if two_passes else 1),
            work(whole, many).tokens,
        ),
        "score": (
            lambda repeat: scorer.score(to_score),
            architecture.forward_flops(work(scored, n)),
            work(scored, n).tokens,
        ),
        "annotate": (annotating(causal, to_score, score_tokens), *_annotated(architecture, scored, n)),
    }
    cases["generate"] = generating(architecture, causal, tokenizer, sequences)
    timed = measure.interleaved(
        {what: (lambda repeat, call=call: call(repeat) and None) for what, (call, _, _) in cases.items()},
        repeats,
        synchronize=synchronize,
    )
    adapted.unload()  # leaves the model as it came
    dtype = str(next(causal.parameters()).dtype).removeprefix("torch.")
    found = []
    for what, (_, flops, tokens) in cases.items():
        spent = Summary.of(timed[what])
        found.append(
            {
                "work": what,
                "model": name,
                "parameters": architecture.parameters,
                "dtype": dtype,
                "threads": torch.get_num_threads(),
                "seconds": spent.as_dict(),
                "tokens_per_second": tokens / spent.median,
                "flops_per_second": flops / spent.median,
            }
        )
    found[-1]["sequences"] = sequences
    if bandwidth:
        size = next(causal.parameters()).element_size()
        cache = sequences * (PROMPT + STEPS / 2) * architecture.cache_bytes(size)
        moved = STEPS * (architecture.parameters * size + cache)
        found[-1]["share_of_bandwidth"] = moved / bandwidth / found[-1]["seconds"]["median"]
    return found


def annotating(causal: torch.nn.Module, groups: list[Group], score_tokens: int) -> Callable[[int], None]:
    """Scores of a reward model with this decoder, in the batches in which the workflow makes them."""
    from hps.logprobs import batches

    sequences = [group.prompt + response for group in groups for response in group.responses]
    decoder = causal.get_decoder()

    @torch.inference_mode()
    def score(repeat: int) -> None:
        for batch in batches.by_token_budget([len(ids) for ids in sequences], score_tokens):
            ids, mask = batches.pad([sequences[i] for i in batch], causal.device)
            decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, -1].float().tolist()

    return score


def _annotated(architecture: Architecture, count: int, n: int) -> tuple[float, float]:
    work = replace(plain_work(PROMPT, [RESPONSE + 1] * n), counted=0) * count
    return architecture.forward_flops(work), work.tokens


def generating(
    architecture: Architecture, causal: torch.nn.Module, tokenizer, sequences: int
) -> tuple[Callable[[int], None], float, float]:
    """Sampling STEPS tokens for `sequences` responses to two prompts: the call, its operations, its tokens.

    The prompts differ in length, as they do in the workflow: without a mask attention takes another way.
    """
    draw = np.random.default_rng(2)
    lengths = (PROMPT - 8, PROMPT + 8)
    requests = [Request(str(i), inputs.tokens(draw, size, architecture.vocab)) for i, size in enumerate(lengths)]
    sampling = Sampling(sequences // 2, 0.9, 1.0, STEPS, 0)
    engine = TransformersEngine(causal, sequences)

    def sample(repeat: int) -> None:
        for _ in generate(engine, tokenizer, requests, sampling):
            pass

    return sample, architecture.forward_flops(sampling_work(PROMPT, STEPS, 2, sequences)), sequences * STEPS


def start_up(repeats: int) -> dict[str, float]:
    """Seconds of a training job and of a scoring job that compute next to nothing; what a launcher adds to that.

    `train_ready` and `score_ready` are the seconds after which such a job begins to compute.
    """
    found: dict[str, list[float]] = {"train": [], "score": [], "launched": [], "train_ready": [], "score_ready": []}
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.parquet"
        startup.write_pairs(pairs)
        given = [str(ours.model_folder("thumbnail", Path(folder) / "model")), str(pairs)]
        script = str(Path(__file__).with_name("startup.py"))
        launcher = ["-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
        launcher += ["--mixed_precision", "no", "--dynamo_backend", "no"]
        commands = {
            "train": [script, "train", *given],
            "score": [script, "score", *given],
            "launched": [*launcher, script, "train", *given],
        }
        for _ in range(repeats):
            for job, command in commands.items():
                started = time.time()
                run = [sys.executable, *command]
                done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=measure.ROOT)
                found[job].append(time.time() - started)
                if job != "launched":
                    found[f"{job}_ready"].append(float(done.stdout) - started)
    median = {job: Summary.of(values).median for job, values in found.items()}
    return median | {"launcher": median["launched"] - median["train"]}


def tokenizing(tokenizer) -> float:
    """Responses a second that are turned into token ids."""
    from hps.data.chat import response_ids

    text = tokenizer.decode(inputs.tokens(np.random.default_rng(3), RESPONSE, len(tokenizer)))
    started = time.perf_counter()
    for _ in range(2000):
        response_ids(tokenizer, text)
    return 2000 / (time.perf_counter() - started)
