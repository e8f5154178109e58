"""What Table 4 costs: tokens of the judge's requests, and hours of the node that serves it; docs/plan.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hps.planning.memory import CONTEXT, ITEMSIZE
from hps.planning.operations import Architecture, sampling_work
from hps.planning.rates import Rates
from hps.planning.stages import Data
from hps.workflow.config import Config
from hps.workflow.grid import judged_runs
from hps.workflow.pipeline import sampled_prompts

DTYPE = "bfloat16"
SERVERS_GPUS = 4
"""GPUs that slurm/serve_judge.sh serves the model on."""
FRAME = 400
"""Tokens of a request besides the conversation and the two responses (hps/judge/prompt.py)."""
ANSWER = 120
"""Tokens of a reply: two responses' scores on four criteria as JSON."""


@dataclass(frozen=True)
class Judging:
    """All requests for Table 4, malformed replies aside; whoever serves the judge answers them."""

    requests: int
    prompt: float  # mean tokens of a request
    concurrency: int

    @property
    def tokens(self) -> float:
        return self.requests * (self.prompt + ANSWER)

    def seconds(self, model: Architecture, rates: Rates) -> float:
        """Wall seconds of serving them with vLLM on SERVERS_GPUS devices, which share the work evenly."""
        work = sampling_work(self.prompt, ANSWER, self.requests, self.requests)
        steps = ANSWER * self.requests / self.concurrency
        context = self.prompt + ANSWER / 2
        return rates.generating(model, DTYPE, work, self.concurrency, steps, context, vllm=True) / SERVERS_GPUS

    def memory(self, model: Architecture) -> float:
        """Bytes of each device: its part of the weights, and of the cache of requests answered together."""
        cache = self.concurrency * (self.prompt + ANSWER) * model.cache_bytes(ITEMSIZE[DTYPE])
        return CONTEXT + (weights(model) + cache) / SERVERS_GPUS


def weights(model: Architecture) -> float:
    """Bytes of the judge's weights, on disk and in memory."""
    return model.parameters * ITEMSIZE[DTYPE]


def judging(config: Config, data: Mapping[str, Data], replies: Mapping[str, float]) -> Judging:
    """The requests under one configuration.

    Args:
        data: the data sets of the grid.
        replies: of each, the mean tokens of an evaluated reply.
    """
    judge, samples = config["judge"], config["evaluation"]["samples"]
    judged = samples if judge["samples"] == "all" else min(samples, judge["samples"])
    each = judged * (2 if judge["orders"] == "both" else 1)
    pairs = Counter(run.dataset for run, _ in judged_runs(config))
    requests = {name: each * pairs[name] * sampled_prompts(config, own.prompts["test"]) for name, own in data.items()}
    total = sum(requests.values())
    tokens = sum(requests[name] * (FRAME + own.lengths.prompt + 2 * replies[name]) for name, own in data.items())
    return Judging(total, tokens / total if total else 0.0, judge["concurrency"])
