"""Score every candidate of one shard with the reward model: r_est (in the toy world also with the true reward).

    python workflow_scripts/annotate.py --pairs train.parquet --candidates candidates.parquet \\
        --reward-model models/reward --reward-output gated --reward-system-turn keep --score-tokens 16384 --toy \\
        --out scored.parquet
"""

from dataclasses import dataclass
from typing import Literal

from hps.data.schemas import CANDIDATES, KEY, PAIRS, SCORED
from hps.support import cli
from hps.support.cli import argument
from hps.support.files import read_table, write_table


@dataclass(kw_only=True)
class Arguments:
    pairs: str = argument("prompts (Parquet)")
    candidates: str = argument("candidates (Parquet)")
    reward_model: str = argument("model folder")
    reward_output: Literal["gated", "mean"] = argument("how several objectives become one score")
    reward_system_turn: Literal["keep", "remove"] = argument("of conversations, the chat template's own included")
    score_tokens: int = argument("tokens of a batch")
    toy: bool = argument("the toy world's true reward is known: record it too", False)
    out: str = argument("rewards (Parquet)")


def main(arguments: Arguments) -> None:
    from hps.models.reward_model import RewardModel
    from hps.toyworld import true_reward

    messages = {row["prompt_id"]: row["messages"] for row in read_table(arguments.pairs, PAIRS.names)}
    # An empty response is never trained on, so it needs no score.
    candidates = [row for row in read_table(arguments.candidates, CANDIDATES.names) if row["status"] != "empty"]
    conversations = [(messages[row["prompt_id"]], row["response"]) for row in candidates]
    model = RewardModel.load(
        arguments.reward_model, output=arguments.reward_output, system_turn=arguments.reward_system_turn
    )
    rewards = model.score(conversations, batch_tokens=arguments.score_tokens)
    rows = [
        {name: row[name] for name in KEY}
        | {"reward": reward, "true_reward": true_reward(*conversation) if arguments.toy else None}
        for row, reward, conversation in zip(candidates, rewards, conversations, strict=True)
    ]
    write_table(arguments.out, rows, SCORED)


if __name__ == "__main__":
    cli.run(main, Arguments)
