"""From items to judgements: by the endpoint, or by the toy world's true reward."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

from hps.judge import prompt
from hps.judge.client import Client, Refused, UnusableAnswer
from hps.judge.comparisons import JUDGEMENTS, SIDES, Item, method_first
from hps.support import progress
from hps.support.errors import InputError

ASK_AGAIN = 3
"""How often a malformed reply is asked again before the judgement counts as invalid."""
TRUE_REWARD_SCALE = (-5.0, 5.0)
"""Where replies of the toy world's grammar lie; stretched onto the judge's 0 to 5."""


def by_true_reward(items: Sequence[Item]) -> list[dict]:
    """Rows of JUDGEMENTS from the known true reward: blind to order, so one reading an item.

    Raises InputError when a sample has no true reward.
    """
    rows = []
    for item in items:
        if None in item.true_rewards:
            raise InputError(f"{item.method} on {item.test_set}", f"prompt {item.prompt_id} has no true reward")
        scores = {f"{side}_score": on_scale(reward) for side, reward in zip(SIDES, item.true_rewards, strict=True)}
        rows.append(dict.fromkeys(JUDGEMENTS.names) | item.key | scores | {"replies": 0})
    return rows


def on_scale(true_reward: float) -> float:
    """A true reward as the judge would say it: on 0 to 5, in steps of one half (ties are as coarse as a judge's)."""
    (low, high), (worst, best) = TRUE_REWARD_SCALE, prompt.SCALE
    value = worst + (true_reward - low) / (high - low) * (best - worst)
    return min(best, max(worst, math.floor(value / prompt.STEP + 0.5) * prompt.STEP))


async def by_endpoint(items: Sequence[Item], client: Client, orders: str, seed: int) -> list[dict]:
    """Rows of JUDGEMENTS from the endpoint, `limits.concurrency` items at a time.

    Raises InputError when the endpoint cannot be used or the budget is used up: what is under way is waited for and
    kept, then the first such error is raised.
    """
    rows: list[list[dict]] = [[] for _ in items]
    waiting, stopped = iter(enumerate(items)), []
    with progress.bar(total=len(items), what="judge", unit="pair") as bar:

        async def worker() -> None:
            for number, item in waiting:
                if stopped:
                    return
                try:
                    for first in method_first(item, orders, seed):
                        rows[number].append(await judge(item, client, first))
                except InputError as error:
                    stopped.append(error)
                bar.update()

        await asyncio.gather(*(worker() for _ in range(client.limits.concurrency)))
    await client.close()
    if stopped:
        raise stopped[0]
    return [row for own in rows for row in own]


async def judge(item: Item, client: Client, first: bool) -> dict:
    """One reading of a pair; `first`: the method's response is shown first. A row of JUDGEMENTS, valid or not."""
    shown = item.responses if first else item.responses[::-1]
    messages = prompt.messages(item.conversation, *shown)
    row = dict.fromkeys(JUDGEMENTS.names) | item.key | {"method_first": first}
    problem = ""
    for replies in range(1, ASK_AGAIN + 2):
        row["replies"] = replies
        try:
            reply = await client.ask(messages)
            scores = prompt.read_reply(reply)
        except UnusableAnswer as error:
            problem = str(error)
        except prompt.MalformedReply as error:
            problem = str(error)
            messages = prompt.again(messages, reply, problem)
        except Refused as error:
            return row | {"problem": str(error)}
        else:
            for side, own in zip(SIDES, scores if first else scores[::-1], strict=True):
                row |= {f"{side}_score": prompt.mean_score(own), f"{side}_criteria": json.dumps(own)}
            return row
    return row | {"problem": problem}
