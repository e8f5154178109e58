"""Score every candidate of one shard with the reward model: r_est (in the toy world also with the true reward).

Responses of a prompt with the same text are scored once, so that they tie exactly.

    python workflow_scripts/annotate.py --pairs train.parquet --candidates candidates.parquet \\
        --reward-model models/reward --reward-output gated --reward-system-turn keep --score-tokens 16384 --toy \\
        --out scored.parquet
"""

from dataclasses import dataclass

from hps.data import stages
from hps.data.schemas import CANDIDATES, KEY, SCORED
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.files import identity
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("annotate")):
    pairs: str = argument("prompts (Parquet)")
    candidates: str = argument("candidates (Parquet)")
    reward_model: str = argument("model folder")
    toy: bool = argument("the toy world's true reward is known: record it too", False)
    out: str = argument("rewards (Parquet)")


def main(arguments: Arguments) -> None:
    from hps.models.reward_model import RewardModel
    from hps.toyworld import true_reward

    rows = stages.rows(arguments.candidates, CANDIDATES)
    messages = stages.conversations(arguments.pairs, rows, arguments.candidates)
    # An empty response is never trained on, so it needs no score.
    candidates = [row for row in rows if row["status"] != "empty"]
    distinct = list(dict.fromkeys((row["prompt_id"], row["response"]) for row in candidates))
    conversations = [(messages[prompt_id], response) for prompt_id, response in distinct]
    model = RewardModel.load(
        arguments.reward_model, output=arguments.reward_output, system_turn=arguments.reward_system_turn
    )
    rewards = model.score(conversations, batch_tokens=arguments.score_tokens)
    scores = {
        of: {"reward": reward, "true_reward": true_reward(*conversation) if arguments.toy else None}
        for of, reward, conversation in zip(distinct, rewards, conversations, strict=True)
    }
    made_from = {
        "candidates": identity(arguments.candidates),
        "reward": provenance.identity(arguments.reward_model),
    }
    scored = [{name: row[name] for name in KEY} | scores[row["prompt_id"], row["response"]] for row in candidates]
    stages.write(arguments.out, scored, SCORED, made_from)


if __name__ == "__main__":
    cli.run(main, Arguments)
