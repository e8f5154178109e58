"""Train a small Llama from scratch on the conversations of preference pairs: the policy or the generator.

    python workflow_scripts/pretrain.py --role policy --pairs data/hh_rlhf/sft.parquet data/pku_saferlhf/sft.parquet \\
        --tokenizer models/tokenizer --replies both --epochs 1 --learning-rate 3e-3 --seed 1 --out models/policy
"""

import logging
from dataclasses import asdict, dataclass

from hps.data import stages
from hps.data.schemas import PAIRS
from hps.models.shape import Shape
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("pretrain"), Shape):
    role: str = argument("what the model is for, for the records")
    pairs: list[str] = argument("preference pairs (Parquet)", nargs="+")
    tokenizer: str = argument("tokenizer folder")
    out: str = argument("model folder to write")
    batch_tokens: int = argument("padded tokens of an optimizer step", 1024)
    holdout: float = argument("fraction of the prompts kept out of training to measure the loss on", 0.05)
    threads: int = argument("CPU threads; 0 leaves it to torch (OMP_NUM_THREADS)", 0)


def main(arguments: Arguments) -> None:
    import torch

    from hps.logprobs import batches
    from hps.models import scratch, sources

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tokenizer = sources.load_tokenizer(arguments.tokenizer)
    rows = [row for path in arguments.pairs for row in stages.rows(path, PAIRS)]
    kept_out = batches.held_out([row["prompt_id"] for row in rows], arguments.holdout, arguments.seed)
    training = [row for row in rows if row["prompt_id"] not in kept_out]
    held_out = [row for row in rows if row["prompt_id"] in kept_out]
    if not training or not held_out:
        raise InputError(" ".join(arguments.pairs), f"{len(rows)} pairs are too few to train on and hold some out")
    training = scratch.conversations(training, tokenizer, arguments.replies)
    held_out = scratch.conversations(held_out, tokenizer, arguments.replies)
    longest = max(map(len, training + held_out))
    if longest > arguments.positions:
        raise InputError(
            "--positions", f"{arguments.positions} is less than the longest conversation, {longest} tokens"
        )
    model = scratch.new_llama(tokenizer, arguments, arguments.seed).to(sources.default_device())
    tokens = sum(map(len, training))
    logging.info("%d parameters, %d conversations, %d tokens", sources.parameters(model), len(training), tokens)
    training_loss = scratch.pretrain(
        model,
        training,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        batch_tokens=arguments.batch_tokens,
        seed=arguments.seed,
    )
    metrics = {
        "held_out_loss": scratch.held_out_loss(model, held_out, 8 * arguments.batch_tokens),  # nats a token
        "training_loss": training_loss,
        "held_out_conversations": len(held_out),
        "training_conversations": len(training),
        "training_tokens": tokens,
    }
    logging.info("held-out loss %.3f nats a token", metrics["held_out_loss"])
    made_with = provenance.collect(asdict(arguments), [*arguments.pairs, arguments.tokenizer])
    facts = {"role": arguments.role, "source": "scratch", "metrics": metrics, "provenance": made_with}
    sources.save(arguments.out, model, tokenizer, facts)


if __name__ == "__main__":
    cli.run(main, Arguments)
