"""Evaluate one policy on one test set: BLEU, reward, margins, KL, per prompt.

    python workflow_scripts/evaluate.py --test-set hh_rlhf --policy models/policy --trained runs/.../policy \\
        --training runs/.../training.json --eval-reward models/eval_reward --pairs test.parquet ... --out DIR

Without --trained it is the SFT policy itself, whose margins and KL are zero by definition and are left empty.
The folder gets evaluation.json, per_prompt.parquet and the samples themselves, samples.parquet.
"""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from hps import cli, provenance
from hps.cli import argument
from hps.files import read_json, read_table, stable_hash, write_json, write_table, writing
from hps.schemas import CANDIDATES, PAIRS, PER_PROMPT, SAMPLES


@dataclass(kw_only=True)
class Arguments:
    test_set: str = argument("data set evaluated on")
    pairs: str = argument("test prompts with their human pair (Parquet)")
    candidates: list[str] = argument("candidates of the test prompts, all shards", [])
    scored: list[str] = argument("their rewards, all shards", [])
    reference: list[str] = argument("their reference log-probs, all shards", [])
    policy: str = argument("model folder of the policy before training")
    eval_reward: str = argument("model folder of the evaluation reward model")
    samples: int = argument("responses a prompt")
    temperature: float = argument("of sampling")
    max_new_tokens: int = argument("of a response")
    pick: str = argument("per_metric or by_reward")
    bleu_reference: str = argument("chosen or best_reward")
    truncated: str = argument("drop or keep: may a truncated candidate be in the annotated pair?")
    seed: int = argument("with prompt and number, decides each sample; the same for all methods")
    sequences: int = argument("responses generated together")
    score_tokens: int = argument("padded tokens of a scoring batch")
    dtype: str = argument("of the frozen weights", "float32")
    out: str = argument("folder")
    trained: str = argument("adapter or model folder of the run; none: the SFT policy", "")
    training: str = argument("summary of the run (JSON)", "")
    toy: bool = argument("the toy world's true reward is known: record it too", False)


def main(arguments: Arguments) -> None:
    import torch

    from hps import bleu, chat, evaluation
    from hps.generation import Request, Sampling, generate
    from hps.logprobs import Group, SequenceScorer
    from hps.models.reward_model import RewardModel
    from hps.models.sources import default_device, load_causal, load_tokenizer
    from hps.toyworld import true_reward

    tokenizer = load_tokenizer(arguments.policy)
    device, dtype = default_device(), getattr(torch, arguments.dtype)
    sft = load_causal(arguments.policy, dtype=dtype, device=device)
    policy, as_reference = sft, nullcontext
    if (Path(arguments.trained) / "adapter_config.json").is_file():
        from peft import PeftModel

        policy = PeftModel.from_pretrained(sft, arguments.trained)
        as_reference = policy.disable_adapter
    elif arguments.trained:
        policy = load_causal(arguments.trained, dtype=dtype, device=device)
    policy.eval()

    prompts = evaluation.read_test_prompts(
        lambda messages: chat.prompt_ids(tokenizer, messages),
        lambda text: chat.response_ids(tokenizer, text),
        read_table(arguments.pairs, PAIRS.names),
        [row for path in arguments.candidates for row in read_table(path, CANDIDATES.names)],
        arguments.scored,
        arguments.reference,
        {"ok", "truncated"} if arguments.truncated == "keep" else {"ok"},
    )
    sampling = Sampling(
        arguments.samples,
        arguments.temperature,
        1.0,
        arguments.max_new_tokens,
        stable_hash(arguments.seed, "evaluate"),
    )
    requests = [Request(prompt.prompt_id, prompt.prompt) for prompt in prompts]
    answers = {
        request.prompt_id: responses
        for batch in generate(policy, tokenizer, requests, sampling, arguments.sequences)
        for request, responses in batch
    }
    scored = evaluation.score_samples(
        RewardModel.load(arguments.eval_reward, device=device),
        prompts,
        [answers[prompt.prompt_id] for prompt in prompts],
        arguments.bleu_reference,
        arguments.score_tokens,
        true_reward if arguments.toy else None,
    )
    rows = [
        {name: None for name in PER_PROMPT.names}
        | {"prompt_id": prompt.prompt_id}
        | evaluation.summarize_samples(own, arguments.pick)
        for prompt, own in zip(prompts, scored, strict=True)
    ]
    if arguments.trained:
        scorer = SequenceScorer(policy, arguments.score_tokens)
        for row, margins in zip(rows, evaluation.margins(scorer, prompts), strict=True):
            row.update(margins)
        with_winner = [i for i, prompt in enumerate(prompts) if "human" in prompt.pairs]
        winners = [Group(prompts[i].prompt, [prompts[i].responses["chosen", 0]]) for i in with_winner]
        reference = SequenceScorer(sft, arguments.score_tokens)
        for i, kl in zip(with_winner, evaluation.sequence_kl(scorer, reference, as_reference, winners), strict=True):
            rows[i]["kl"] = kl

    inputs = [arguments.pairs, *arguments.candidates, *arguments.scored, *arguments.reference, arguments.policy]
    inputs += [arguments.eval_reward] + ([arguments.training] if arguments.training else [])
    with writing(arguments.out) as folder:
        folder.mkdir()
        write_table(folder / "samples.parquet", [row for own in scored for row in own], SAMPLES)
        write_table(folder / "per_prompt.parquet", rows, PER_PROMPT)
        write_json(
            folder / "evaluation.json",
            {
                "run": read_json(arguments.training)["run"] if arguments.training else None,
                "test_set": arguments.test_set,
                "bleu_signature": bleu.signatures(),
                "provenance": provenance.collect(asdict(arguments), inputs),
            },
        )


if __name__ == "__main__":
    cli.run(main, Arguments)
