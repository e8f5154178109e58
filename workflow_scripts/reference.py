"""Log-probabilities of every candidate of one shard under the reference: the policy as it is before training.

    python workflow_scripts/reference.py --pairs train.parquet --candidates candidates.parquet --policy models/policy \\
        --score-tokens 16384 --dtype float32 --out reference.parquet --out-prompts prompts.parquet

Computed once for a data set, model and template, and shared by all trainings and evaluations. With each log-prob go the
token ids that it is of, and in a file of their own those of the prompts: nobody renders or tokenizes them again.
"""

from dataclasses import dataclass

from hps.data import stages
from hps.data.schemas import CANDIDATES, KEY, PROMPTS, REFERENCE
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.files import identity
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("reference")):
    pairs: str = argument("prompts (Parquet)")
    candidates: str = argument("candidates (Parquet)")
    policy: str = argument("model folder")
    out: str = argument("log-probs and token ids of the responses (Parquet)")
    out_prompts: str = argument("token ids of the prompts (Parquet)")


def main(arguments: Arguments) -> None:
    import torch

    from hps.data import chat
    from hps.logprobs.scorer import Group, SequenceScorer
    from hps.models.sources import default_device, load_causal, load_tokenizer
    from hps.support import progress

    candidates = stages.rows(arguments.candidates, CANDIDATES)
    messages = stages.conversations(arguments.pairs, candidates, arguments.candidates)
    tokenizer = load_tokenizer(arguments.policy)
    prompts = {prompt_id: chat.prompt_ids(tokenizer, own, prompt_id=prompt_id) for prompt_id, own in messages.items()}
    answered = [row for row in candidates if row["status"] != "empty"]
    ids = chat.responses_ids(tokenizer, [row["response"] for row in answered])
    rows_of: dict[str, list[int]] = {}
    for number, row in enumerate(answered):
        rows_of.setdefault(row["prompt_id"], []).append(number)
    groups = [Group(prompts[prompt_id], [ids[number] for number in own]) for prompt_id, own in rows_of.items()]
    model = load_causal(arguments.policy, dtype=getattr(torch, arguments.dtype), device=default_device())
    with progress.bar(total=len(answered), what="reference", unit="response") as bar:
        scored = SequenceScorer(model, arguments.score_tokens).score(groups, bar.update)
    log_probs = {
        number: value
        for own, values in zip(rows_of.values(), scored, strict=True)
        for number, value in zip(own, values, strict=True)
    }
    rows = [
        {name: row[name] for name in KEY} | {"log_prob": log_probs[number], "tokens": len(own), "ids": own}
        for number, (row, own) in enumerate(zip(answered, ids, strict=True))
    ]
    made_from = {
        "candidates": identity(arguments.candidates),
        "policy": provenance.identity(arguments.policy),
        "vocabulary": str(model.get_input_embeddings().weight.shape[0]),
    }
    stages.write(arguments.out, rows, REFERENCE, made_from)
    encoded = [{"prompt_id": prompt_id, "ids": own} for prompt_id, own in prompts.items()]
    stages.write(arguments.out_prompts, encoded, PROMPTS, made_from)


if __name__ == "__main__":
    cli.run(main, Arguments)
