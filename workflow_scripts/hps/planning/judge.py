"""What Table 4 costs: tokens of the judge's requests, and hours of the node that serves it; docs/plan.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hps.planning.memory import CONTEXT, ITEMSIZE
from hps.planning.operations import Architecture, sampling_work
from hps.planning.rates import Rates
from hps.planning.stages import Data, Volume
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

    volumes: Mapping[str, Volume]  # by data set; a prompt is a request, a response the reply to it
    concurrency: int

    @property
    def requests(self) -> int:
        return sum(volume.prompts for volume in self.volumes.values())

    @property
    def tokens(self) -> float:
        return sum(volume.read + volume.generated for volume in self.volumes.values())

    @property
    def prompt(self) -> float:
        """Mean tokens of a request."""
        return sum(volume.read for volume in self.volumes.values()) / self.requests if self.requests else 0.0

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
    volumes = {}
    for name, own in data.items():
        requests = each * pairs[name] * sampled_prompts(config, own.prompts["test"])
        read = requests * (FRAME + own.lengths.prompt + 2 * replies[name])
        volumes[name] = Volume(prompts=requests, responses=requests, read=read, generated=requests * ANSWER)
    return Judging(volumes, judge["concurrency"])
