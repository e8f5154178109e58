"""What is compared: the responses of two policies to the same test prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hps.data import stages
from hps.data.schemas import PAIRS, SAMPLES
from hps.evidence.results import SFT
from hps.runs import Run
from hps.support.errors import InputError
from hps.support.files import read_json, stable_hash

if TYPE_CHECKING:
    from hps.data.chat import Message

ORDERS = ("both", "drawn")
SIDES = ("method", "baseline")


@dataclass(frozen=True)
class Policy:
    """An evaluated policy: how the table names it, its training seed (None: one without a run), and its samples."""

    name: str
    seed: int | None
    test_set: str
    samples: dict[str, list[dict]]  # by prompt, in the order they were drawn


@dataclass(frozen=True)
class JudgedPair:
    """Two responses to one prompt, one of each policy, drawn with the same random numbers."""

    test_set: str
    method: str
    baseline: str
    seed: int
    prompt_id: str
    index: int  # of the sample
    conversation: list[Message]
    responses: tuple[str, str]  # of the method and of the baseline
    true_rewards: tuple[float | None, float | None]

    @property
    def key(self) -> dict:
        """What names the item in `JUDGEMENTS`."""
        return {name: getattr(self, name) for name in KEY}


KEY = ("test_set", "method", "baseline", "seed", "prompt_id", "index")
JUDGEMENTS = pa.schema(
    [
        pa.field("test_set", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("baseline", pa.string(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),  # the method's training seed
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("method_first", pa.bool_()),  # the order in which the judge read them; null: it read no order
        pa.field("method_score", pa.float64()),  # 0 to 5, mean over the criteria; null: no valid judgement
        pa.field("baseline_score", pa.float64()),
        pa.field("method_criteria", pa.string()),  # JSON: the score of each criterion
        pa.field("baseline_criteria", pa.string()),
        pa.field("replies", pa.int32(), nullable=False),  # how often the judge was asked
        pa.field("problem", pa.string()),  # why there is no valid judgement
    ]
)
"""One reading of a pair of responses by the judge."""


_FACTS = {
    "model": lambda value: isinstance(value, str),
    "source": lambda value: value in ("openai", "true_reward"),
    "orders": lambda value: value in ORDERS,
    "samples": lambda value: type(value) is int and value > 0,
    "temperature": lambda value: value is None or type(value) in (int, float),
}


def read_facts(path: str | Path) -> dict[str, Any]:
    """What judge.json records. Raises InputError naming the file, and a field that is missing or wrong."""
    facts = read_json(path)
    for name, is_right in _FACTS.items():
        value = facts.get(name) if isinstance(facts, dict) else None
        if not is_right(value):
            raise InputError(path, f"is no record of a judge: {name} is {value!r}")
    return {"temperature": None} | facts


def read_policy(folder: str | Path, samples: int) -> Policy:
    """The first `samples` samples a prompt of an evaluation.

    Raises InputError naming the file when it is not an evaluation, has fewer samples, or the samples are another's.
    """
    folder = Path(folder)
    path = folder / "evaluation.json"
    facts = read_json(path) if path.is_file() else None
    if not isinstance(facts, dict) or "run" not in facts or not isinstance(facts.get("test_set"), str):
        raise InputError(path, "missing, or not of an evaluation (run, test_set)")
    run = None if facts["run"] is None else Run.read(facts["run"], path)
    stages.written_together(folder / "samples.parquet", path, facts.get("samples"))
    by_prompt: dict[str, list[dict]] = {}
    for row in sorted(stages.rows(folder / "samples.parquet", SAMPLES), key=lambda row: row["index"]):
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    for prompt_id, rows in by_prompt.items():
        if [row["index"] for row in rows[:samples]] != list(range(samples)):
            raise InputError(folder / "samples.parquet", f"prompt {prompt_id} has not the first {samples} samples")
    chosen = {prompt_id: rows[:samples] for prompt_id, rows in sorted(by_prompt.items())}
    other = (facts.get("published") or {"name": SFT})["name"]
    name, seed = (run.method, run.seed) if run else (other, None)
    return Policy(name, seed, facts["test_set"], chosen)


def read_prompts(path: str | Path) -> dict[str, list[Message]]:
    """The conversations of a test set by prompt."""
    return {row["prompt_id"]: row["messages"] for row in stages.rows(path, PAIRS)}


def side_by_side(
    test_sets: Sequence[str], pairs: Sequence[str], methods: Sequence[str], evaluations: Sequence[str]
) -> Iterator[tuple[str, list[Policy], dict[str, list[Message]]]]:
    """Test set by test set: each method's first answer to the same prompts, and the conversations by prompt.

    Args:
        pairs: the test sets' prompts, a file each.
        evaluations: folders, for each test set those of the methods in their order.

    Raises InputError when files or folders are too few or too many, a folder is of another method or test set, methods
    were evaluated on other prompts, or a prompt's text is missing.
    """
    for name, values, needed in (
        ("--pairs", pairs, len(test_sets)),
        ("--evaluations", evaluations, len(test_sets) * len(methods)),
    ):
        if len(values) != needed:
            raise InputError(name, f"{len(values)} where {needed} are needed")
    for number, test_set in enumerate(test_sets):
        folders = evaluations[number * len(methods) : (number + 1) * len(methods)]
        policies = [read_policy(folder, samples=1) for folder in folders]
        for policy, folder, method in zip(policies, folders, methods, strict=True):
            if (policy.name, policy.test_set) != (method, test_set):
                raise InputError(folder, f"is {policy.name} on {policy.test_set}, not {method} on {test_set}")
            if policy.samples.keys() != policies[0].samples.keys():
                raise InputError(folder, f"was evaluated on other prompts than {Path(folders[0])}")
        prompts = read_prompts(pairs[number])
        if missing := policies[0].samples.keys() - prompts.keys():
            raise InputError(pairs[number], f"has no prompt {min(missing)}, which was evaluated")
        yield test_set, policies, prompts


def pair(method: Policy, baseline: Policy, prompts: Mapping[str, Sequence[Message]]) -> list[JudgedPair]:
    """The i-th sample of one against the i-th of the other, for each prompt.

    Raises InputError when the two were not evaluated on the same prompts, or a prompt's text is missing.
    """
    what = f"{method.name} against {baseline.name} on {method.test_set}"
    if method.seed is None:
        raise InputError(what, "the method that is judged must be a trained policy")
    if baseline.test_set != method.test_set or baseline.seed not in (method.seed, None):
        raise InputError(what, f"{baseline.name} is on {baseline.test_set} with seed {baseline.seed}: no fair pair")
    if baseline.samples.keys() != method.samples.keys():
        raise InputError(what, "the two were evaluated on other prompts")
    if missing := method.samples.keys() - prompts.keys():
        raise InputError(what, f"{len(missing)} prompts are not in the test set's file, such as {min(missing)}")
    return [
        JudgedPair(
            **dict(zip(KEY, (method.test_set, method.name, baseline.name, method.seed, prompt_id, index), strict=True)),
            conversation=list(prompts[prompt_id]),
            responses=(ours["response"], theirs["response"]),
            true_rewards=(ours["true_reward"], theirs["true_reward"]),
        )
        for prompt_id, rows in method.samples.items()
        for index, (ours, theirs) in enumerate(zip(rows, baseline.samples[prompt_id], strict=True))
    ]


def method_first(item: JudgedPair, orders: str, seed: int) -> list[bool]:
    """In which orders the judge reads the pair: the drawn one, and with `both` also the other."""
    drawn = stable_hash(seed, "judge", *item.key.values()) % 2 == 0
    return [drawn, not drawn] if orders == "both" else [drawn]
