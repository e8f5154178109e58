"""Fit a probe: a reward model made of a frozen causal model's lower layers and a linear head, from preference pairs.

With role `harm` it is a classifier instead, from the responses of those pairs that the data set labels harmful or not:
its score is the log-odds of harmful.

    python workflow_scripts/fit_probe.py --role reward --base models/policy \\
        --pairs data/hh_rlhf/reward.parquet data/pku_saferlhf/reward.parquet \\
        --layers 16 20 24 --seed 3 --out models/reward

Without --layers, cross-validation chooses among thirds of the depth. The head is float32, whatever --dtype is.
"""

import logging
import time
from dataclasses import asdict, dataclass

from hps.data import stages
from hps.data.schemas import PAIRS
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("fit_probe")):
    role: str = argument("what the model is for; harm: it is fitted to the labels of responses, else to pairs")
    base: str = argument("folder of the causal model whose layers are used")
    pairs: list[str] = argument("preference pairs that nothing else is trained on (Parquet)", nargs="+")
    out: str = argument("model folder to write")
    batch_tokens: int = argument("padded tokens of a forward pass; bounds memory", 4096)
    toy: bool = argument("the toy world's true reward is known: correlate the scores with it", False)


def main(arguments: Arguments) -> None:
    import numpy as np
    import torch

    from hps.logprobs import batches
    from hps.models import probe, reward_training, sources
    from hps.models.reward_model import conversation_ids

    rows = [row for path in arguments.pairs for row in stages.rows(path, PAIRS)]
    responses = [(row, reply) for reply in ("chosen", "rejected") for row in rows]
    labelled = arguments.role == "harm"
    if labelled:
        responses = [(row, reply) for row, reply in responses if row[f"{reply}_harmful"] is not None]
    signs = np.array([1 if row.get(f"{reply}_harmful") else -1 for row, reply in responses])

    def examples(states: np.ndarray) -> np.ndarray:
        """What a head should score above 0, (examples, hidden): differences, or responses, negated if harmless."""
        return signs[:, None] * states if labelled else states[: len(rows)] - states[len(rows) :]

    what = "responses" if labelled else "pairs"
    prompts = np.array([row["prompt_id"] for row, _ in responses])
    own = prompts if labelled else prompts[: len(rows)]  # of the examples
    kept_out = list(batches.held_out(list(dict.fromkeys(prompts)), arguments.holdout, arguments.seed))
    out, measured = np.isin(prompts, kept_out), np.isin(own, kept_out)
    where = " ".join(arguments.pairs)
    if measured.all() or not measured.any() or (~measured).sum() < 2 * probe.FOLDS:
        raise InputError(where, f"{len(own)} {'labelled ' * labelled}{what} are too few to fit on and hold some out")
    if labelled and len(set(signs[~out])) == 1:
        raise InputError(where, "all responses to fit on have the same label")
    depth = probe.decoder_layers(arguments.base)
    layers = sorted(set(arguments.layers)) or sorted({max(1, depth * part // 6) for part in (3, 4, 5)})

    tokenizer = sources.load_tokenizer(arguments.base)
    model = probe.classifier(arguments.base, layers[-1], arguments.dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    max_length = min(arguments.max_length, model.config.max_position_embeddings)
    encoded = [
        conversation_ids(tokenizer, row["messages"], row[reply], max_length, arguments.reward_system_turn)
        for row, reply in responses
    ]
    start = time.perf_counter()
    states = probe.features(model, [ids for ids, _ in encoded], layers, arguments.batch_tokens)
    logging.info("features: %.3f s a response", (time.perf_counter() - start) / len(responses))
    # Of unit variance, so that one ridge suits all features; the scale goes into the head.
    scales = states[:, ~out].std(axis=1) + 1e-6
    fitted = {k: examples(states[i])[~measured] / scales[i] for i, k in enumerate(layers)}
    chosen = probe.choose(fitted, own[~measured], arguments.seed)
    number = layers.index(chosen.layers)
    head = probe.fit(fitted[chosen.layers], chosen.ridge) / scales[number]

    metrics = reward_training.accuracy((examples(states[number]) @ head > 0)[measured], own[measured], what)
    if labelled:
        baseline, chance = "base_rate", max(np.mean(signs[out] > 0), np.mean(signs[out] < 0))
    else:
        longer = np.array([len(row["chosen"]) > len(row["rejected"]) for row in rows])
        baseline, chance = "longer_one_accuracy", longer[measured].mean()
    metrics |= {
        baseline: float(chance),
        f"training_{what}": int((~measured).sum()),
        "layers": chosen.layers,
        "ridge": chosen.ridge,
        "cross_validation_loss": chosen.loss,
        "truncated": sum(cut for _, cut in encoded),
    }
    if arguments.toy:
        told = [(row["messages"], row[reply]) for (row, reply), held in zip(responses, out, strict=True) if held]
        metrics["spearman_true_reward"] = reward_training.spearman_true_reward((states[number] @ head)[out], told)
    logging.info(
        "%d of %d layers, ridge %g: held-out accuracy %.3f (%.3f to %.3f) on %d %s; %s %.3f",
        *(chosen.layers, depth, chosen.ridge),
        *(metrics[f"held_out_accuracy{end}"] for end in ("", "_lo", "_hi")),
        *(measured.sum(), what, baseline.replace("_", " "), chance),
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
