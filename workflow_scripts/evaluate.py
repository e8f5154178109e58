"""Evaluate one policy on test sets: BLEU, reward, margins, KL, per prompt.

    python workflow_scripts/evaluate.py --test-sets hh_rlhf --policy models/policy --trained runs/.../policy \\
        --training runs/.../training.json --eval-reward models/eval_reward --pairs test.parquet --examples DIR \\
        ... --out DIR

Without --trained it is the SFT policy itself, whose margins and KL are zero by definition and are left empty.
DIR/<test set> gets evaluation.json, per_prompt.parquet and the samples themselves, samples.parquet.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from hps.data import stages
from hps.data.examples import INDEX
from hps.data.schemas import PER_PROMPT, SAMPLES
from hps.generation.engine import Engine, Request, Response, Sampling, generate, longest
from hps.runs import Run
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import identity, read_json, stable_hash, write_json, writing
from hps.support.settings import taken_by
from hps.toyworld import true_reward
from hps.training.examples import usable_statuses

if TYPE_CHECKING:
    from hps.evaluation.measures import TestPrompt


@dataclass(kw_only=True)
class Arguments(taken_by("evaluate")):
    test_sets: list[str] = argument("data sets evaluated on", [])
    pairs: list[str] = argument("their test prompts with human pairs (Parquet), one file each", [])
    examples: list[str] = argument("folders of their candidates, as examples.py writes them, likewise", [])
    policy: str = argument("model folder of the policy before training")
    eval_reward: str = argument("model folder of the evaluation reward model")
    harm: str = argument("model folder of a classifier that scores harmful answers above 0; none: not known", "")
    seed: int = argument("with prompt and number, decides each sample; the same for all methods")
    out: str = argument("folder")
    trained: str = argument("adapter or model folder of the run; none: the SFT policy", "")
    training: str = argument("summary of the run (JSON)", "")
    toy: bool = argument("the toy world's true reward, and what is harmful in it, is known: record it too", False)


def main(arguments: Arguments) -> None:
    from hps.evaluation import measures
    from hps.models.reward_model import RewardModel
    from hps.models.sources import default_device, load_tokenizer

    if not len(arguments.test_sets) == len(arguments.pairs) == len(arguments.examples):
        raise InputError("--test-sets", "one file in --pairs and one folder in --examples are expected for each")
    run = read_run(arguments)
    tokenizer = load_tokenizer(arguments.policy)
    usable = usable_statuses(arguments.truncated)
    prompts = [
        measures.read_test_prompts(pairs, examples, arguments.policy, usable)
        for pairs, examples in zip(arguments.pairs, arguments.examples, strict=True)
    ]
    sampled = [own[: arguments.sampled_prompts or None] for own in prompts]
    # One model after another: each may take most of a GPU.
    answers, compared = under_policy(tokenizer, prompts, sampled, arguments)
    reward_model = RewardModel.load(
        arguments.eval_reward,
        default_device(),
        output=arguments.reward_output,
        system_turn=arguments.reward_system_turn,
    )
    scored = [
        measures.score_samples(
            reward_model,
            *given,
            arguments.bleu_reference,
            arguments.score_tokens,
            true_reward if arguments.toy else None,
        )
        for given in zip(sampled, answers, strict=True)
    ]
    del reward_model
    harm = None
    if arguments.harm:
        harm = RewardModel.load(arguments.harm, default_device(), system_turn=arguments.reward_system_turn)

    with writing(arguments.out) as folder:
        folder.mkdir()
        for number, test_set in enumerate(arguments.test_sets):
            judged = measures.with_harm(
                scored[number], sampled[number], toy=arguments.toy, model=harm, score_tokens=arguments.score_tokens
            )
            rows = [
                dict.fromkeys(PER_PROMPT.names)
                | {"prompt_id": prompt.prompt_id}
                | (measures.summarize_samples(own, arguments.pick) if own else {})
                | measured
                for prompt, own, measured in zip_longest(prompts[number], judged, compared[number])  # some not sampled
            ]
            made_from = {"run": json.dumps(run, sort_keys=True), "test_set": test_set}
            samples = [row for own in judged for row in own]
            stages.write(folder / test_set / "samples.parquet", samples, SAMPLES, made_from)
            stages.write(folder / test_set / "per_prompt.parquet", rows, PER_PROMPT, made_from)
            beside = {name: identity(folder / test_set / f"{name}.parquet") for name in ("samples", "per_prompt")}
            write_json(folder / test_set / "evaluation.json", facts(number, run, arguments) | beside)


def under_policy(
    tokenizer,
    prompts: Sequence[Sequence["TestPrompt"]],
    sampled: Sequence[Sequence["TestPrompt"]],
    arguments: Arguments,
) -> tuple[list[list[list[Response]]], list[list[dict]]]:
    """N responses to each sampled prompt of each test set; of a trained policy also margins and KL on all prompts.

    The policy and its reference are gone from memory afterwards.
    """
    from hps.evaluation.measures import margins, response_states, sequence_kl, winner_groups
    from hps.logprobs.scorer import SequenceScorer

    answers = sample_with_vllm(tokenizer, sampled, arguments) if arguments.generation == "vllm" else None
    rows: list[list[dict]] = [[{} for _ in own] for own in prompts]
    if answers is not None and not arguments.trained:
        return answers, rows
    policy = load_policy(arguments)
    if answers is None:
        answers = sample_with_transformers(policy, tokenizer, sampled, arguments)
    if not arguments.trained:
        return answers, rows

    scorer = SequenceScorer(policy, arguments.score_tokens)
    rows = [margins(scorer, own) for own in prompts]
    winners = [winner_groups(own) for own in prompts]
    states = [response_states(scorer, list(own.values())) for own in winners]
    head = scorer.head
    if adapter_of(arguments):
        base = policy.unload()
    else:
        del policy, scorer  # two fully trained models together are too much for many a GPU
        base = load_model(arguments.policy, arguments)
    reference = SequenceScorer(base, arguments.score_tokens)
    for own, groups, seen in zip(rows, winners, states, strict=True):
        values = sequence_kl(head, seen, reference, list(groups.values()))
        for number, value in zip(groups, values, strict=True):
            own[number]["kl"] = value
    return answers, rows


def adapter_of(arguments: Arguments) -> str | None:
    """The run's LoRA adapter; none for a fully trained policy and for the SFT policy."""
    is_adapter = (Path(arguments.trained) / "adapter_config.json").is_file()
    return arguments.trained if arguments.trained and is_adapter else None


def weights_of(arguments: Arguments) -> str:
    """The folder of the policy's weights: under an adapter, and for the SFT policy, those before training."""
    return arguments.policy if adapter_of(arguments) else arguments.trained or arguments.policy


def load_policy(arguments: Arguments):
    """The policy under evaluation."""
    model = load_model(weights_of(arguments), arguments)
    adapter = adapter_of(arguments)
    if adapter is None:
        return model
    from hps.models.adapters import load_adapter

    return load_adapter(model, adapter)


def load_model(folder: str, arguments: Arguments):
    import torch

    from hps.models.sources import load_causal

    return load_causal(folder, dtype=getattr(torch, arguments.dtype))


def read_run(arguments: Arguments) -> dict | None:
    """The record of the run whose policy is evaluated; none for the SFT policy.

    Raises InputError when the summary is not one of a training, or the policy not the one that this training saved.
    """
    if not arguments.trained:
        return None
    summary = read_json(arguments.training)
    if not isinstance(summary, dict):
        raise InputError(arguments.training, "not the summary of a training")
    run = Run.read(summary.get("run"), arguments.training)
    if summary.get("policy") != provenance.fingerprint(arguments.trained):
        raise InputError(arguments.trained, f"is not the policy that {arguments.training} says was saved")
    return run.record()


def sample_with_vllm(
    tokenizer, prompts: Sequence[Sequence["TestPrompt"]], arguments: Arguments
) -> list[list[list[Response]]]:
    """N responses to each prompt of each test set."""
    from hps.generation import vllm_engine

    requests = [Request(prompt.prompt_id, prompt.prompt) for own in prompts for prompt in own]
    with vllm_engine.opened(
        weights_of(arguments),
        arguments.policy,
        dtype=arguments.dtype,
        sequences=arguments.sequences,
        tensor_parallel=arguments.tensor_parallel,
        max_length=longest(requests, sampling(arguments)),
        adapter=adapter_of(arguments),
    ) as engine:
        return [sample(engine, tokenizer, own, arguments) for own in prompts]


def sample_with_transformers(
    policy, tokenizer, prompts: Sequence[Sequence["TestPrompt"]], arguments: Arguments
) -> list[list[list[Response]]]:
    """The same, by the loaded policy."""
    from hps.generation.transformers_engine import TransformersEngine

    engine = TransformersEngine(policy, arguments.sequences)
    return [sample(engine, tokenizer, own, arguments) for own in prompts]


def sampling(arguments: Arguments) -> Sampling:
    """How the samples are drawn: the same for all methods."""
    return Sampling(
        n=arguments.samples,
        temperature=arguments.temperature,
        top_p=1.0,
        max_new_tokens=arguments.max_new_tokens,
        seed=stable_hash(arguments.seed, "evaluate"),
    )


def sample(engine: Engine, tokenizer, prompts: Sequence["TestPrompt"], arguments: Arguments) -> list[list[Response]]:
    """N responses to each prompt."""
    requests = [Request(prompt.prompt_id, prompt.prompt) for prompt in prompts]
    answers = {
        request.prompt_id: responses
        for batch in generate(engine, tokenizer, requests, sampling(arguments))
        for request, responses in batch
    }
    return [answers[prompt.prompt_id] for prompt in prompts]


def facts(number: int, run: dict | None, arguments: Arguments) -> dict:
    """What evaluation.json records of the test set with this number."""
    from hps.evaluation import bleu

    inputs = [arguments.pairs[number], Path(arguments.examples[number]) / INDEX]
    inputs += [arguments.policy, arguments.eval_reward, *filter(None, [arguments.harm, arguments.training])]
    return {
        "run": run,
        "responses": read_json(arguments.training).get("responses") if run else None,
        "test_set": arguments.test_sets[number],
        "seed": arguments.seed,
        "bleu_signature": bleu.signatures(),
        "harm": harm_known_from(arguments),
        "provenance": provenance.collect(asdict(arguments), inputs),
    }


def harm_known_from(arguments: Arguments) -> dict | None:
    """What says which answers are harmful: the toy world, or a model and what its making measured; None: nothing."""
    from hps.models.sources import FACTS

    if arguments.toy:
        return {"source": "toy"}
    known = ("source", "repo", "path", "metrics")
    record = read_json(Path(arguments.harm) / FACTS) if arguments.harm else {}
    return {name: record[name] for name in known if name in record} or None


if __name__ == "__main__":
    cli.run(main, Arguments)
