"""Log-probabilities of every candidate of one shard under the reference: the policy as it is before training.

    python workflow_scripts/reference.py --pairs train.parquet --candidates candidates.parquet --policy models/policy \\
        --score-tokens 16384 --dtype float32 --out reference.parquet

Computed once for a data set, model and template, and shared by all trainings and evaluations. With each log-prob go the
token ids that it is of: trainings read these, and tokenize no response again.
"""

from collections import defaultdict
from dataclasses import dataclass

from hps.data.schemas import CANDIDATES, KEY, PAIRS, REFERENCE
from hps.support import cli
from hps.support.cli import argument
from hps.support.files import read_table, write_table


@dataclass(kw_only=True)
class Arguments:
    pairs: str = argument("prompts (Parquet)")
    candidates: str = argument("candidates (Parquet)")
    policy: str = argument("model folder")
    score_tokens: int = argument("tokens of a batch")
    dtype: str = argument("of the weights", "float32")
    out: str = argument("log-probs (Parquet)")


def main(arguments: Arguments) -> None:
    import torch

    from hps.data import chat
    from hps.logprobs.scorer import Group, SequenceScorer
    from hps.models.sources import default_device, load_causal, load_tokenizer
    from hps.support import progress

    tokenizer = load_tokenizer(arguments.policy)
    model = load_causal(arguments.policy, dtype=getattr(torch, arguments.dtype), device=default_device())
    by_prompt = defaultdict(list)
    for row in read_table(arguments.candidates, CANDIDATES.names):
        if row["status"] != "empty":
            by_prompt[row["prompt_id"]].append(row)
    pairs = [pair for pair in read_table(arguments.pairs, PAIRS.names) if by_prompt[pair["prompt_id"]]]
    groups = [
        Group(
            chat.prompt_ids(tokenizer, pair["messages"]),
            [chat.response_ids(tokenizer, row["response"]) for row in by_prompt[pair["prompt_id"]]],
        )
        for pair in pairs
    ]
    with progress.bar(total=sum(len(g.responses) for g in groups), what="reference", unit="response") as bar:
        log_probs = SequenceScorer(model, arguments.score_tokens).score(groups, bar.update)
    rows = [
        {name: row[name] for name in KEY} | {"log_prob": log_prob, "tokens": len(response), "ids": response}
        for pair, group, values in zip(pairs, groups, log_probs, strict=True)
        for row, response, log_prob in zip(by_prompt[pair["prompt_id"]], group.responses, values, strict=True)
    ]
    write_table(arguments.out, rows, REFERENCE)


if __name__ == "__main__":
    cli.run(main, Arguments)
