"""The judge's endpoint: any server that speaks OpenAI's chat completions, asked within limits and never twice."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from hps.judge.cache import Answer, Cache, name_of
from hps.support.errors import InputError

if TYPE_CHECKING:
    from hps.data.chat import Message

# Of a reply's body, only what is read here.
_BODY = Draft202012Validator(
    {
        "type": "object",
        "required": ["choices"],
        "properties": {
            "choices": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["message"],
                    "properties": {
                        "message": {"type": "object", "properties": {"content": {"type": ["string", "null"]}}}
                    },
                },
            },
            "usage": {"type": ["object", "null"], "properties": {"total_tokens": {"type": ["integer", "null"]}}},
        },
    }
)


@dataclass(frozen=True)
class Endpoint:
    """Where the judge is. `key` stays out of `repr`, of logs and of every file."""

    url: str
    model: str
    key: str = field(repr=False)

    @property
    def host(self) -> str:
        """The server's name alone: a URL can carry a password."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True)
class Limits:
    """How the endpoint may be used."""

    concurrency: int  # requests at a time
    timeout: float  # seconds for one answer
    retries: int  # after 408, 409, 429, 5xx, a timeout or a lost connection, with growing pauses or as Retry-After says
    answer_tokens: int  # of one reply
    temperature: float
    max_requests: int  # answers in the cache, earlier runs' included
    max_tokens: int | None = None  # their tokens; overrun by what is under way when it is reached


class UnusableAnswer(ValueError):
    """HTTP 200, but no chat completion."""


class Refused(ValueError):
    """The endpoint will not answer this request (HTTP 400, 413, 422): too long, as a rule."""


def endpoint_from(environment: Mapping[str, str], url: str, model: str, key: str) -> Endpoint:
    """The endpoint that three environment variables describe.

    Args:
        url, model, key: names of the variables.

    Raises:
        InputError: variables are missing or empty, all of them named; or the URL is none.
    """
    missing = missing_variables(environment, url, model, key)
    if missing:
        raise InputError(", ".join(missing), "not set: the judge's URL, model and key come from the environment")
    parts = urlsplit(environment[url])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(url, "is no URL of the form http://host:port/v1")
    return Endpoint(environment[url], environment[model], environment[key])


def missing_variables(environment: Mapping[str, str], *names: str) -> list[str]:
    """Those of `names` that are not set, or empty."""
    return [name for name in names if not environment.get(name)]


class Client:
    """Asks the endpoint; an answer that is in the cache is not asked for again. For one event loop."""

    def __init__(self, endpoint: Endpoint, cache: Cache, limits: Limits):
        from openai import AsyncOpenAI

        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a request, otherwise
        self.endpoint, self.cache, self.limits = endpoint, cache, limits
        self.paid, self.paid_tokens = cache.totals()
        self.asked = 0
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._openai = AsyncOpenAI(
            base_url=endpoint.url, api_key=endpoint.key, max_retries=limits.retries, timeout=limits.timeout
        )

    async def ask(self, messages: Sequence[Message]) -> str:
        """The judge's reply to `messages`.

        Raises:
            UnusableAnswer: the endpoint sent something else than a chat completion.
            Refused: it does not take this request.
            InputError: it does not answer at all, or the budget is used up.
        """
        request = {
            "model": self.endpoint.model,
            "messages": list(messages),
            "temperature": self.limits.temperature,
            "max_tokens": self.limits.answer_tokens,
        }
        async with self._locks[name_of(request)]:  # the same question from elsewhere waits for this answer
            answer = self.cache.get(request)
            if answer is None:
                self._check_budget()
                self.paid += 1  # before the answer is there, so that those under way count
                try:
                    body = await self._send(request)
                except (InputError, Refused):
                    self.paid -= 1
                    raise
                self.asked += 1
                answer = self._read(body)
                self.paid_tokens += answer.tokens or 0
                self.cache.put(request, answer)
                if answer.tokens is None and self.limits.max_tokens is not None:
                    raise InputError("judge.max_tokens", "the endpoint does not say what it used; set max_requests")
        return answer.reply

    async def close(self) -> None:
        await self._openai.close()

    async def _send(self, request: dict[str, Any]) -> str:
        import openai

        try:
            response = await self._openai.chat.completions.with_raw_response.create(**request)
        except openai.APIStatusError as error:
            said = self._without_key(f"HTTP {error.status_code}: {error.message}")
            if error.status_code in (400, 413, 422):
                raise Refused(said) from None
            raise self._stop(said) from None
        except openai.APITimeoutError:
            raise self._stop(f"no answer within {self.limits.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise self._stop(self._without_key(f"{error} {error.__cause__ or ''}")) from None
        return response.text

    def _read(self, body: str) -> Answer:
        try:
            value = json.loads(body)
        except (json.JSONDecodeError, RecursionError):
            raise UnusableAnswer("the endpoint's answer is not JSON") from None
        if not _BODY.is_valid(value):
            raise UnusableAnswer("the endpoint's answer is no chat completion")
        tokens = (value.get("usage") or {}).get("total_tokens")
        return Answer(value["choices"][0]["message"].get("content") or "", tokens)

    def _check_budget(self) -> None:
        kept = f"{self.paid} answers are kept in {self.cache.folder}, and a higher limit goes on from there"
        if self.paid >= self.limits.max_requests:
            raise InputError("judge.max_requests", f"the limit of {self.limits.max_requests} is reached; {kept}")
        if self.limits.max_tokens is not None and self.paid_tokens >= self.limits.max_tokens:
            raise InputError(
                "judge.max_tokens", f"{self.paid_tokens} tokens used, {self.limits.max_tokens} allowed; {kept}"
            )

    def _stop(self, why: str) -> InputError:
        retries = f"asked up to {self.limits.retries + 1} times"
        kept = f"what was answered is kept in {self.cache.folder}"
        return InputError(f"judge at {self.endpoint.host}", f"{' '.join(why.split())} ({retries}; {kept})")

    def _without_key(self, text: str) -> str:
        """A server's message can repeat what it was sent."""
        return " ".join(text.replace(self.endpoint.key, "[key]").split())[:300]
