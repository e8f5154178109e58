"""What a plan is made of: lengths and sizes of data, stages with their jobs, the estimate of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a data set's prompts and human replies, and of generated replies if nothing cut them off."""

    prompt: float
    human: float
    generated: float

    def kept(self, limit: int) -> float:
        """Mean tokens of generated replies that end at random, with the same chance at every token, or at `limit`."""
        return self.generated * -math.expm1(-limit / self.generated)

    def steps(self, limit: int, sequences: float) -> float:
        """Steps until all of `sequences` such replies have ended: generation together goes on for the longest."""
        harmonic = math.log(sequences) + 0.5772 if sequences > 1 else 1.0
        return min(limit, max(self.generated, self.generated * harmonic))


@dataclass(frozen=True)
class Data:
    """A data set as far as cost depends on it."""

    prompts: dict[str, int]  # by split
    lengths: Lengths
    source: str  # where the numbers come from


@dataclass(frozen=True)
class Volume:
    """What jobs process of one data set. A prompt or response counts once a job, a token each time a model has it."""

    jobs: int = 0
    prompts: float = 0.0
    responses: float = 0.0
    read: float = 0.0  # tokens that a model scores, and those of prompts before sampling
    generated: float = 0.0  # tokens sampled, until the longest of a batch has ended
    trained: float = 0.0  # tokens forward and backward

    def __add__(self, other: Volume) -> Volume:
        return Volume(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Stage:
    """What the jobs of one rule cost together."""

    rule: str
    jobs: int = 0
    seconds: float = 0.0  # of device time, all jobs and the devices of each
    longest: float = 0.0  # wall seconds of the longest job
    devices: int = 1  # of one job
    memory: float = 0.0  # bytes of the device at a job's peak (CPU: of the process)
    disk: float = 0.0  # bytes written that stay
    paper_style: float = 0.0  # seconds of device time without sharing and with the reference in every step
    volumes: Mapping[str, Volume] = field(default_factory=dict)  # by data set

    def with_job(
        self,
        seconds: float,
        memory: float = 0.0,
        disk: float = 0.0,
        paper_style: float = 0.0,
        volumes: Mapping[str, Volume] = MappingProxyType({}),
    ) -> Stage:
        """With one more job of this many wall seconds; `paper_style` likewise, 0: the same.

        Args:
            volumes: what the job processes of each data set that it reads.
        """
        added = {name: self.volumes.get(name, Volume()) + replace(own, jobs=1) for name, own in volumes.items()}
        return replace(
            self,
            jobs=self.jobs + 1,
            seconds=self.seconds + seconds * self.devices,
            longest=max(self.longest, seconds),
            memory=max(self.memory, memory),
            disk=self.disk + disk,
            paper_style=self.paper_style + (paper_style or seconds) * self.devices,
            volumes={**self.volumes, **added},
        )

    def wall(self, devices: int) -> float:
        """Seconds on this many devices, jobs side by side."""
        if not self.jobs:
            return 0.0
        side_by_side = max(1, devices // self.devices)
        return max(self.longest, self.seconds / self.devices / side_by_side)


@dataclass(frozen=True)
class CostEstimate:
    """All stages, and what they rest on."""

    stages: list[Stage]
    devices: int
    assumptions: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def wall(self) -> float:
        return sum(stage.wall(self.devices) for stage in self.stages)

    @property
    def paper_style(self) -> float:
        return sum(stage.paper_style for stage in self.stages)

    def minutes(self, safety: float) -> dict[str, int]:
        """Run time to ask for, by rule: the longest job's, times a safety factor, in whole tens of minutes."""
        return {stage.rule: max(10, math.ceil(safety * stage.longest / 600) * 10) for stage in self.stages}
