"""Fit a probe: a reward model made of a frozen causal model's lower layers and a linear head, from preference pairs.

    python workflow_scripts/fit_probe.py --role reward --base models/policy \\
        --pairs data/hh_rlhf/reward.parquet data/pku_saferlhf/reward.parquet \\
        --layers 16 20 24 --max-length 512 --reward-system-turn keep --seed 3 --out models/reward

Without --layers, cross-validation chooses among thirds of the depth. The head is float32, whatever --dtype is.
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
class Arguments(taken_by("fit_probe")):
    role: str = argument("what the model is for, for the records")
    base: str = argument("folder of the causal model whose layers are used")
    pairs: list[str] = argument("preference pairs that nothing else is trained on (Parquet)", nargs="+")
    out: str = argument("model folder to write")
    batch_tokens: int = argument("padded tokens of a forward pass; bounds memory", 4096)
    holdout: float = argument("fraction of the prompts kept out of fitting to measure accuracy on", 0.3)
    toy: bool = argument("the toy world's true reward is known: correlate the scores with it", False)


def main(arguments: Arguments) -> None:
    import numpy as np
    import torch

    from hps.logprobs import batches
    from hps.models import probe, reward_training, sources
    from hps.models.reward_model import conversation_ids

    rows = [row for path in arguments.pairs for row in stages.rows(path, PAIRS)]
    kept_out = batches.held_out([row["prompt_id"] for row in rows], arguments.holdout, arguments.seed)
    held_out = np.array([row["prompt_id"] in kept_out for row in rows])
    if held_out.all() or not held_out.any() or (~held_out).sum() < 2 * probe.FOLDS:
        raise InputError(" ".join(arguments.pairs), f"{len(rows)} pairs are too few to fit on and hold some out")
    depth = probe.decoder_layers(arguments.base)
    layers = sorted(set(arguments.layers)) or sorted({max(1, depth * part // 6) for part in (3, 4, 5)})

    tokenizer = sources.load_tokenizer(arguments.base)
    model = probe.classifier(arguments.base, layers[-1], arguments.dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    max_length = min(arguments.max_length, model.config.max_position_embeddings)
    encoded = [
        conversation_ids(tokenizer, row["messages"], row[reply], max_length, arguments.reward_system_turn)
        for reply in ("chosen", "rejected")
        for row in rows
    ]
    states = probe.features(model, [ids for ids, _ in encoded], layers, arguments.batch_tokens)
    # Of unit variance, so that one ridge suits all features; the scale goes into the head.
    scales = states[:, np.tile(~held_out, 2)].std(axis=1) + 1e-6
    differences = (states[:, : len(rows)] - states[:, len(rows) :])[:, ~held_out] / scales[:, None]
    prompts = [row["prompt_id"] for row, out in zip(rows, held_out, strict=True) if not out]
    chosen = probe.choose(dict(zip(layers, differences, strict=True)), prompts, arguments.seed)
    number = layers.index(chosen.layers)
    head = probe.fit(differences[number], chosen.ridge) / scales[number]

    measured = [row for row, out in zip(rows, held_out, strict=True) if out]
    scores = (states[number] @ head)[np.tile(held_out, 2)]
    metrics = reward_training.accuracy(scores[: len(measured)], scores[len(measured) :]) | {
        "longer_one_accuracy": float(np.mean([len(row["chosen"]) > len(row["rejected"]) for row in measured])),
        "training_pairs": len(rows) - len(measured),
        "layers": chosen.layers,
        "ridge": chosen.ridge,
        "cross_validation_loss": chosen.loss,
        "truncated": sum(cut for _, cut in encoded),
    }
    if arguments.toy:
        conversations = [(row["messages"], row[reply]) for reply in ("chosen", "rejected") for row in measured]
        metrics["spearman_true_reward"] = reward_training.spearman_true_reward(scores, conversations)
    logging.info(
        "%d of %d layers, ridge %g: held-out accuracy %.3f (%.3f to %.3f) on %d pairs; the longer one %.3f",
        *(chosen.layers, depth, chosen.ridge),
        *(metrics[f"held_out_accuracy{end}"] for end in ("", "_lo", "_hi")),
        *(len(measured), metrics["longer_one_accuracy"]),
    )
    model = probe.classifier(arguments.base, chosen.layers, arguments.dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.score.weight.data[0] = torch.from_numpy(head)
    facts = {
        "role": arguments.role,
        "source": "probe",
        "base": sources.identity(arguments.base),
        "max_length": max_length,
        "metrics": metrics,
        "provenance": provenance.collect(asdict(arguments), [*arguments.pairs, arguments.base]),
    }
    sources.save(arguments.out, model, tokenizer, facts)


if __name__ == "__main__":
    cli.run(main, Arguments)
