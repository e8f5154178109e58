"""Train a reward model on preference pairs with the Bradley-Terry loss, from a causal model folder.

    python workflow_scripts/train_reward_model.py --role reward --base models/policy \\
        --pairs data/hh_rlhf/reward.parquet data/pku_saferlhf/reward.parquet --epochs 2 --learning-rate 1e-3 \\
        --batch-size 32 --seed 3 --toy --out models/reward

Conversations of more than --max-length tokens lose the start of their prompt. --dtype is that of the saved weights, and
of those in training under adapters; without adapters training is in float32.
"""

import logging
from dataclasses import asdict, dataclass

from hps.data import stages
from hps.data.schemas import PAIRS
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("train_reward_model")):
    role: str = argument("what the model is for, for the records")
    base: str = argument("folder of the causal model to start from")
    pairs: list[str] = argument("preference pairs that nothing else is trained on (Parquet)", nargs="+")
    out: str = argument("model folder to write")
    batch_tokens: int = argument("padded tokens of a forward pass; bounds memory", 4096)
    holdout: float = argument("fraction of the prompts kept out of training to measure accuracy on", 0.1)
    threads: int = argument("CPU threads; 0 leaves it to torch (OMP_NUM_THREADS)", 0)
    toy: bool = argument("the toy world's true reward is known: correlate the scores with it", False)


def main(arguments: Arguments) -> None:
    import torch

    from hps.logprobs import batches
    from hps.models import reward_training, sources
    from hps.models.reward_model import RewardModel, conversation_ids

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = [row for path in arguments.pairs for row in stages.rows(path, PAIRS)]
    kept_out = batches.held_out([row["prompt_id"] for row in rows], arguments.holdout, arguments.seed)
    training = [row for row in rows if row["prompt_id"] not in kept_out]
    held_out = [row for row in rows if row["prompt_id"] in kept_out]
    if not training or not held_out:
        raise InputError(" ".join(arguments.pairs), f"{len(rows)} pairs are too few to train on and hold some out")

    tokenizer = sources.load_tokenizer(arguments.base)
    # Weights in bfloat16 are too coarse to take an optimizer's small steps; only adapters can stand on them.
    model = reward_training.new_reward_model(
        arguments.base, arguments.dtype if arguments.lora_rank else "float32", arguments.seed
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    max_length = min(arguments.max_length, model.config.max_position_embeddings)
    turn = arguments.reward_system_turn
    encoded = [
        [conversation_ids(tokenizer, row["messages"], row[reply], max_length, turn) for reply in ("chosen", "rejected")]
        for row in training
    ]
    truncated = sum(cut for pair in encoded for _, cut in pair)
    logging.info(
        "%d pairs to train on, %d held out; %d conversations truncated to %d tokens",
        *(len(training), len(held_out), truncated, max_length),
    )
    if arguments.lora_rank:
        model = reward_training.with_adapters(model, arguments.lora_rank, arguments.lora_layers, arguments.seed)
    training_loss = reward_training.train(
        model,
        [(chosen, rejected) for (chosen, _), (rejected, _) in encoded],
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        batch_tokens=arguments.batch_tokens,
        seed=arguments.seed,
    )
    dtype = getattr(torch, arguments.dtype)
    model = reward_training.merged(model, dtype) if arguments.lora_rank else model.to(dtype)

    scorer = RewardModel(model, tokenizer, max_length, system_turn=turn)
    conversations = [(row["messages"], row[reply]) for reply in ("chosen", "rejected") for row in held_out]
    scores = scorer.score(conversations, arguments.batch_tokens)
    # A tie counts as an error.
    right = [better > worse for better, worse in zip(scores[: len(held_out)], scores[len(held_out) :], strict=True)]
    metrics = reward_training.accuracy(right, [row["prompt_id"] for row in held_out]) | {
        "training_loss": training_loss,
        "training_pairs": len(training),
        "truncated": truncated + scorer.truncated,
    }
    if arguments.toy:
        metrics["spearman_true_reward"] = reward_training.spearman_true_reward(scores, conversations)
    logging.info(
        "held-out accuracy %.3f (95 %% interval %.3f to %.3f)%s",
        *(metrics[f"held_out_accuracy{end}"] for end in ("", "_lo", "_hi")),
        f", rank correlation with the true reward {metrics['spearman_true_reward']:.3f}" if arguments.toy else "",
    )
    made_with = provenance.collect(asdict(arguments), [*arguments.pairs, arguments.base])
    facts = {
        "role": arguments.role,
        "source": "trained",
        "base": sources.identity(arguments.base),
        "max_length": max_length,
        "metrics": metrics,
        "provenance": made_with,
    }
    sources.save(arguments.out, model.to(dtype), tokenizer, facts)


if __name__ == "__main__":
    cli.run(main, Arguments)
