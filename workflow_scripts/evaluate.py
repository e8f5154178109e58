"""Evaluate policies on test sets: BLEU, reward, margins, KL, per prompt.

    python workflow_scripts/evaluate.py --test-sets hh_rlhf --pairs test.parquet --examples DIR \\
        --policy models/policy --eval-reward models/eval_reward ... --policies '{"seed": 0, "test_sets": ["hh_rlhf"],
        "out": "DIR", "trained": "runs/.../policy", "training": "runs/.../training.json"}'

Policies that are evaluated together share what is loaded and computed once: the policy before training, the
reference's states, the reward model, the prompts. A policy's files are the same whatever it is evaluated together with.
Without `trained` it is the SFT policy itself, whose margins and KL are zero by definition and are left empty. A policy
that others trained has a `published` name in place of a `training`.
DIR/<test set> gets evaluation.json, per_prompt.parquet and the samples themselves, samples.parquet.
"""

import json
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Policy:
    """A policy that is evaluated, on some of the job's test sets.

    seed: with prompt and number, decides each sample; the same for all methods. out: its folder. trained: adapter or
    model folder of the run; empty: the SFT policy. training: summary of the run (JSON). published: the name of a policy
    that others trained, whose folder `trained` is; it has no training.
    """

    seed: int
    test_sets: list[str]
    out: str
    trained: str = ""
    training: str = ""
    published: str = ""

    @classmethod
    def read(cls, text: str) -> "Policy":
        """A policy from JSON with these fields."""
        try:
            return cls(**json.loads(text))
        except (TypeError, json.JSONDecodeError) as error:
            raise InputError("--policies", f"{text[:100]}: no policy to evaluate ({error})") from None

    @property
    def adapter(self) -> str | None:
        """The run's LoRA adapter; none for a fully trained policy and for the SFT policy."""
        return self.trained if self.trained and (Path(self.trained) / provenance.ADAPTER).is_file() else None

    @property
    def own_weights(self) -> str | None:
        """The folder of a fully trained policy; the others have the weights of the policy before training."""
        return self.trained if self.trained and not self.adapter else None


@dataclass(kw_only=True)
class Arguments(taken_by("evaluate")):
    test_sets: list[str] = argument("data sets evaluated on", [])
    pairs: list[str] = argument("their test prompts with human pairs (Parquet), one file each", [])
    examples: list[str] = argument("folders of their candidates, as examples.py writes them, likewise", [])
    policy: str = argument("model folder of the policy before training")
    eval_reward: str = argument("model folder of the evaluation reward model")
    harm: str = argument("model folder of a classifier that scores harmful answers above 0; none: not known", "")
    policies: list[str] = argument(
        "what is evaluated, each as JSON: seed, test_sets, out, trained, training, published", nargs="+"
    )
    toy: bool = argument("the toy world's true reward, and what is harmful in it, is known: record it too", False)


def main(arguments: Arguments) -> None:
    from hps.evaluation import measures
    from hps.models.reward_model import RewardModel
    from hps.models.sources import default_device, load_tokenizer

    if not len(arguments.test_sets) == len(arguments.pairs) == len(arguments.examples):
        raise InputError("--test-sets", "one file in --pairs and one folder in --examples are expected for each")
    policies = [Policy.read(text) for text in arguments.policies]
    if unknown := {name for policy in policies for name in policy.test_sets} - set(arguments.test_sets):
        raise InputError("--policies", f"{', '.join(sorted(unknown))}: not in --test-sets")
    runs = [read_run(policy) for policy in policies]
    tokenizer = load_tokenizer(arguments.policy)
    usable = usable_statuses(arguments.truncated)
    tests = {
        name: measures.read_test_prompts(pairs, examples, arguments.policy, usable)
        for name, pairs, examples in zip(arguments.test_sets, arguments.pairs, arguments.examples, strict=True)
    }
    prompts = [[tests[name] for name in policy.test_sets] for policy in policies]
    # One model after another: each may take most of a GPU.
    answers, compared = under_policies(tokenizer, policies, prompts, tests, arguments)
    reward_model = RewardModel.load(
        arguments.eval_reward,
        default_device(),
        output=arguments.reward_output,
        system_turn=arguments.reward_system_turn,
    )
    scored = [
        [
            measures.score_samples(
                reward_model,
                own[: len(drawn)],
                drawn,
                arguments.bleu_reference,
                arguments.score_tokens,
                true_reward if arguments.toy else None,
            )
            for own, drawn in zip(of_sets, responses, strict=True)
        ]
        for of_sets, responses in zip(prompts, answers, strict=True)
    ]
    del reward_model
    harm = None
    if arguments.harm:
        harm = RewardModel.load(arguments.harm, default_device(), system_turn=arguments.reward_system_turn)

    for policy, run, *of_policy in zip(policies, runs, prompts, scored, compared, strict=True):
        with writing(policy.out) as folder:
            folder.mkdir()
            for test_set, own, samples_of, numbers in zip(policy.test_sets, *of_policy, strict=True):
                sampled = own[: len(samples_of)]
                judged = measures.with_harm(
                    samples_of, sampled, toy=arguments.toy, model=harm, score_tokens=arguments.score_tokens
                )
                rows = [
                    dict.fromkeys(PER_PROMPT.names)
                    | {"prompt_id": prompt.prompt_id}
                    | (measures.summarize_samples(samples, arguments.pick) if samples else {})
                    | measured
                    for prompt, samples, measured in zip_longest(own, judged, numbers)  # some are not sampled
                ]
                made_from = {"run": json.dumps(run or published(policy), sort_keys=True), "test_set": test_set}
                samples = [row for one in judged for row in one]
                stages.write(folder / test_set / "samples.parquet", samples, SAMPLES, made_from)
                stages.write(folder / test_set / "per_prompt.parquet", rows, PER_PROMPT, made_from)
                beside = {name: identity(folder / test_set / f"{name}.parquet") for name in ("samples", "per_prompt")}
                write_json(folder / test_set / "evaluation.json", facts(test_set, policy, run, arguments) | beside)


def under_policies(
    tokenizer,
    policies: Sequence[Policy],
    prompts: Sequence[Sequence[Sequence["TestPrompt"]]],
    tests: Mapping[str, Sequence["TestPrompt"]],
    arguments: Arguments,
) -> tuple[list[list[list[list[Response]]]], list[list[list[dict]]]]:
    """Of each policy, for each of its test sets: N responses to each sampled prompt; margins and KL on all prompts.

    The SFT policy has neither margins nor KL. No model is in memory afterwards.
    """
    from hps.evaluation.measures import Reference, margins
    from hps.generation.transformers_engine import TransformersEngine
    from hps.logprobs.scorer import SequenceScorer
    from hps.models.adapters import load_adapter

    sampled = [[own[: arguments.sampled_prompts or None] for own in of_sets] for of_sets in prompts]
    rows: list[list[list[dict]]] = [[[{} for _ in own] for own in of_sets] for of_sets in prompts]
    with_vllm = arguments.generation == "vllm"
    answers = sample_with_vllm(tokenizer, policies, sampled, arguments) if with_vllm else [[] for _ in policies]
    if with_vllm and not any(policy.trained for policy in policies):
        return answers, rows

    def measured(number: int, model) -> None:
        """What the policy with this number answers, if that is still to be known, and its margins and KL."""
        policy = policies[number]
        if not with_vllm:
            engine = TransformersEngine(model, arguments.sequences)
            answers[number] = [sample(engine, tokenizer, own, policy.seed, arguments) for own in sampled[number]]
        if policy.trained:
            scorer = SequenceScorer(model, arguments.score_tokens)
            for place, (test_set, own) in enumerate(zip(policy.test_sets, prompts[number], strict=True)):
                rows[number][place] = margins(scorer, own, references[test_set])

    base = load_model(arguments.policy, arguments)
    needed = {name for policy in policies if policy.trained for name in policy.test_sets}
    references = {}
    if needed:
        scorer = SequenceScorer(base, arguments.score_tokens)
        references = {name: Reference.of(scorer, own) for name, own in tests.items() if name in needed}
        del scorer
    for number, policy in enumerate(policies):
        if policy.adapter:
            adapted = load_adapter(base, policy.adapter)
            measured(number, adapted)
            base = adapted.unload()
            del adapted
        elif not policy.trained:
            measured(number, base)
    del base  # two fully trained models together are too much for many a GPU
    for number, policy in enumerate(policies):
        if policy.own_weights:
            measured(number, load_model(policy.own_weights, arguments))
    return answers, rows


def load_model(folder: str, arguments: Arguments):
    import torch

    from hps.models.sources import load_causal

    return load_causal(folder, dtype=getattr(torch, arguments.dtype))


def read_run(policy: Policy) -> dict | None:
    """The record of the run whose policy is evaluated; none for the SFT policy and for one that others trained.

    Raises InputError when the summary is not one of a training, or the policy not the one that this training saved or
    that was fetched.
    """
    if policy.published:
        provenance.fingerprint(policy.trained)
    if policy.published or not policy.trained:
        return None
    summary = read_json(policy.training)
    if not isinstance(summary, dict):
        raise InputError(policy.training, "not the summary of a training")
    run = Run.read(summary.get("run"), policy.training)
    if summary.get("policy") != provenance.fingerprint(policy.trained):
        raise InputError(policy.trained, f"is not the policy that {policy.training} says was saved")
    return run.record()


def published(policy: Policy) -> dict | None:
    """What evaluation.json says of a policy that others trained: its name, and where it is from."""
    from hps.models.sources import FACTS

    if not policy.published:
        return None
    record = read_json(Path(policy.trained) / FACTS)
    return {"name": policy.published} | {key: record[key] for key in ("repo", "folder", "commit") if key in record}


def sample_with_vllm(
    tokenizer,
    policies: Sequence[Policy],
    sampled: Sequence[Sequence[Sequence["TestPrompt"]]],
    arguments: Arguments,
) -> list[list[list[list[Response]]]]:
    """Of each policy, for each of its test sets, N responses to each prompt. The same weights share an engine."""
    from hps.generation import vllm_engine

    answers: list[list[list[list[Response]]]] = [[] for _ in policies]
    weights = [policy.own_weights or arguments.policy for policy in policies]
    for folder in dict.fromkeys(weights):
        numbers = [number for number, own in enumerate(weights) if own == folder]
        asked = [Request(p.prompt_id, p.prompt) for number in numbers for own in sampled[number] for p in own]
        with vllm_engine.opened(
            folder,
            arguments.policy,
            dtype=arguments.dtype,
            sequences=arguments.sequences,
            tensor_parallel=arguments.tensor_parallel,
            max_length=longest(asked, sampling(0, arguments)),
            adapters=[policies[number].adapter for number in numbers if policies[number].adapter],
        ) as engine:
            for number in numbers:
                policy = policies[number]
                of_policy = engine.under(policy.adapter)
                answers[number] = [sample(of_policy, tokenizer, own, policy.seed, arguments) for own in sampled[number]]
    return answers


def sampling(seed: int, arguments: Arguments) -> Sampling:
    """How the samples of a policy are drawn: the same for all methods."""
    return Sampling(
        n=arguments.samples,
        temperature=arguments.temperature,
        top_p=1.0,
        max_new_tokens=arguments.max_new_tokens,
        seed=stable_hash(seed, "evaluate"),
    )


def sample(
    engine: Engine, tokenizer, prompts: Sequence["TestPrompt"], seed: int, arguments: Arguments
) -> list[list[Response]]:
    """N responses to each prompt."""
    requests = [Request(prompt.prompt_id, prompt.prompt) for prompt in prompts]
    answers = {
        request.prompt_id: responses
        for batch in generate(engine, tokenizer, requests, sampling(seed, arguments))
        for request, responses in batch
    }
    return [answers[prompt.prompt_id] for prompt in prompts]


def facts(test_set: str, policy: Policy, run: dict | None, arguments: Arguments) -> dict:
    """What evaluation.json records of a policy on a test set; nothing of the policies beside it."""
    from hps.evaluation import bleu

    number = arguments.test_sets.index(test_set)
    own = {name: getattr(arguments, name)[number] for name in ("pairs", "examples")}
    inputs = [own["pairs"], Path(own["examples"]) / INDEX]
    inputs += [arguments.policy, arguments.eval_reward]
    inputs += filter(None, [arguments.harm, policy.training, policy.trained if policy.published else ""])
    settings = {name: value for name, value in asdict(arguments).items() if name not in ("policies", "test_sets")}
    return {
        "run": run,
        "published": published(policy),
        "responses": read_json(policy.training).get("responses") if run else None,
        "test_set": test_set,
        "seed": policy.seed,
        "bleu_signature": bleu.signatures(),
        "harm": harm_known_from(arguments),
        "provenance": provenance.collect(settings | own | asdict(policy), inputs),
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
