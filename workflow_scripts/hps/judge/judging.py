"""From items to judgements: by the endpoint, or by the toy world's true reward."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

from hps.judge import prompt
from hps.judge.client import Client, Refused, UnusableAnswer
from hps.judge.comparisons import JUDGEMENTS, SIDES, JudgedPair, method_first
from hps.support import progress, secrets
from hps.support.errors import InputError

ASK_AGAIN = 3
"""How often a malformed reply is asked again before the judgement counts as invalid."""
TRIAL = 4
"""Prompts that are judged first; if all of them fail, so would the rest, and it is not paid for."""
CUT_OFF = "the reply was cut off by judge.answer_tokens:"
TRUE_REWARD_SCALE = (-5.0, 5.0)
"""Where replies of the toy world's grammar lie; stretched onto the judge's 0 to 5."""


def by_true_reward(items: Sequence[JudgedPair]) -> list[dict]:
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


async def by_endpoint(items: Sequence[JudgedPair], client: Client, orders: str, seed: int) -> list[dict]:
    """Rows of JUDGEMENTS from the endpoint, `limits.concurrency` items at a time.

    Raises InputError when the endpoint cannot be used, the budget is used up, or none of the first `TRIAL` prompts
    gets a valid judgement: what is under way is waited for and kept, then the first such error is raised.
    """
    rows: list[list[dict]] = [[] for _ in items]
    stopped: list[InputError] = []

    async def judge_all(numbers: Sequence[int]) -> None:
        waiting = iter(numbers)

        async def worker() -> None:
            for number in waiting:
                if stopped:
                    return
                try:
                    for first in method_first(items[number], orders, seed):
                        rows[number].append(await judge(items[number], client, first))
                except InputError as error:
                    stopped.append(error)
                bar.update()

        await asyncio.gather(*(worker() for _ in range(client.limits.concurrency)))

    first_of_prompt = {item.prompt_id: number for number, item in reversed(list(enumerate(items)))}
    trial = sorted(first_of_prompt.values())[:TRIAL]
    with progress.bar(total=len(items), what="judge", unit="pair") as bar:
        try:
            await client.settle()
            await judge_all(trial)
            problems = [row["problem"] for number in trial for row in rows[number]]
            if not stopped and len(trial) == TRIAL and all(problems):
                stopped.append(
                    InputError("judge", f"none of the first {TRIAL} prompts {nothing_valid(client, problems)}")
                )
            await judge_all([number for number in range(len(items)) if number not in trial])
        finally:
            await client.close()
    if stopped:
        raise stopped[0]
    return [row for own in rows for row in own]


def nothing_valid(client: Client, problems: Sequence[str]) -> str:
    """What to do when there is no valid judgement, and why there is none."""
    form, limits = client.form, client.limits
    return (
        f"got a valid judgement; the last: {problems[-1]}. Settings that can be why: judge.answer_tokens "
        f"({limits.answer_tokens}), judge.structured_output ({limits.structured_output}; "
        f"{'' if form.structured else 'not '}asked for), judge.token_limit ({form.token_limit}). "
        f"{kept(client.cache.folder)}"
    )


def kept(cache: str | Path) -> str:
    """How to have judged again what is invalid."""
    return f"What was answered is kept in {cache}; with judge.renew_invalid what is invalid there is asked anew"


async def judge(item: JudgedPair, client: Client, first: bool) -> dict:
    """One reading of a pair; `first`: the method's response is shown first. A row of JUDGEMENTS, valid or not."""
    row = await _reading(item, client, first, fresh=False)
    if row["problem"] and client.limits.renew_invalid:
        row = await _reading(item, client, first, fresh=True)
    return row


async def _reading(item: JudgedPair, client: Client, first: bool, *, fresh: bool) -> dict:
    shown = item.responses if first else item.responses[::-1]
    messages = prompt.messages(item.conversation, *shown)
    row = dict.fromkeys(JUDGEMENTS.names) | item.key | {"method_first": first}
    problem = ""
    for replies in range(1, ASK_AGAIN + 2):
        row["replies"] = replies
        try:
            answer = await client.ask(messages, fresh=fresh)
            scores = prompt.read_reply(answer.reply)
        except UnusableAnswer as error:
            problem = str(error)
        except prompt.MalformedReply as error:
            messages = prompt.again(messages, answer.reply, str(error))
            problem = secrets.masked(f"{CUT_OFF} {error}" if answer.cut_off else str(error))
        except Refused as error:
            return row | {"problem": str(error)}
        else:
            for side, own in zip(SIDES, scores if first else scores[::-1], strict=True):
                row |= {f"{side}_score": prompt.mean_score(own), f"{side}_criteria": json.dumps(own)}
            return row
    return row | {"problem": problem}
