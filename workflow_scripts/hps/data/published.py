"""What is known of a published data set before its files are read: `snakemake plan` counts with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Sizes of the published files. Lengths are tokens of SmolLM2's tokenizer and template, over the test files."""

    prompts: dict[str, int]  # distinct, or about so many, by part: train, test
    prompt: float  # mean length of a prompt
    human: float  # mean length of a human reply
    prompt_deciles: tuple[int, ...]  # 0 to 100 %
    human_deciles: tuple[int, ...]
    turns: int = 1  # of a prompt, about
