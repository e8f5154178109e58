"""The judge's endpoint: any server that speaks OpenAI's chat completions, asked within limits and never twice."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from jsonschema import Draft202012Validator

from hps.judge import prompt
from hps.judge.cache import Answer, Cache, name_of
from hps.support import secrets
from hps.support.errors import InputError
from hps.support.files import parse_json

if TYPE_CHECKING:
    from hps.data.chat import Message

# Of a reply's body, only what is read here. Servers that show a judge's thoughts have them in a field of their own
# (`reasoning_content`), in a part of the content of another type, or in the text, where `prompt` skips them.
_TEXT = {"required": ["text"], "properties": {"text": {"type": "string"}}}
_PART = {"type": "object", "if": {"properties": {"type": {"const": "text"}}}, "then": _TEXT}
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
                        "message": {
                            "type": "object",
                            "properties": {"content": {"type": ["string", "array", "null"], "items": _PART}},
                        }
                    },
                },
            },
            "usage": {"type": ["object", "null"]},
        },
    }
)
REFUSALS = (400, 413, 415, 422, 501)
"""HTTP statuses that refuse one request and say nothing of others."""
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
"""What servers call the limit on a reply's tokens."""
_HOST = re.compile(r"[0-9a-z._-]+|[0-9a-f:.]+")


@dataclass(frozen=True)
class Endpoint:
    """Where the judge is. The key, and a URL's password, stay out of `repr`, of logs and of every file."""

    url: str = field(repr=False)
    model: str
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        for secret in (self.key, parts.password or "", f"{parts.username}:{parts.password}"):
            secrets.hide(secret)
            secrets.hide(unquote(secret))

    @property
    def host(self) -> str:
        """The server's name alone: a URL can carry a password."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True)
class Form:
    """How a request is put."""

    token_limit: str
    """The name of the limit on a reply's tokens, of TOKEN_LIMITS."""
    structured: bool
    """Whether the reply's JSON schema is sent along, for the server to hold the judge to it."""
    temperature: float | None
    """None: none is sent, and the server's own holds."""


@dataclass(frozen=True)
class Limits:
    """How the endpoint may be used."""

    concurrency: int  # requests at a time
    timeout: float  # seconds for one whole reply
    retries: int  # after 408, 409, 429, 5xx, a timeout or a lost connection, with growing pauses or as Retry-After says
    answer_tokens: int  # of one reply
    temperature: float | None
    max_requests: int  # answers in the cache, earlier runs' included
    max_tokens: int | None = None  # their tokens; overrun by what is under way when it is reached
    token_limit: str = "auto"  # of TOKEN_LIMITS; auto: the one that the server takes
    structured_output: str = "auto"  # always, never; auto: where the server takes it
    renew_invalid: bool = False  # ask anew where what is kept of earlier runs gives no valid judgement

    @property
    def forms(self) -> list[Form]:
        """The forms of request that are allowed, the preferred one first."""
        names = TOKEN_LIMITS if self.token_limit == "auto" else (self.token_limit,)
        structured = {"auto": (True, False), "always": (True,), "never": (False,)}[self.structured_output]
        return [Form(name, schema, self.temperature) for name in names for schema in structured]


class UnusableAnswer(ValueError):
    """HTTP 200, but no chat completion."""


class Refused(ValueError):
    """The endpoint will not answer this request (a status of REFUSALS): too long, as a rule."""


def endpoint_from(environment: Mapping[str, str], url: str, model: str, key: str) -> Endpoint:
    """The endpoint that three environment variables describe, white space around their values left out.

    Args:
        url, model, key: names of the variables.

    Raises:
        InputError: variables are missing or empty, all of them named; the URL is none; model or key hold what no
            request can.
    """
    missing = missing_variables(environment, url, model, key)
    if missing:
        raise InputError(", ".join(missing), "not set: the judge's URL, model and key come from the environment")
    values = {name: environment[name].strip() for name in (url, model)}
    if not _is_url(values[url]):
        raise InputError(url, "is no URL of the form http://host:port/v1")
    if not values[model].isprintable():
        raise InputError(model, f"holds a character that no model's name has: {values[model]!r}")
    return Endpoint(values[url], values[model], secrets.read(key, environment[key]))


def _is_url(text: str) -> bool:
    """Whether a request can be sent there."""
    try:
        parts = urlsplit(text)
        host = _HOST.fullmatch(parts.hostname or "")
        return (
            bool(host)
            and parts.scheme in ("http", "https")
            and parts.port != 0
            and secrets.VISIBLE.fullmatch(text) is not None
        )
    except ValueError:  # a port beyond 65535, a broken IPv6 address
        return False


def missing_variables(environment: Mapping[str, str], *names: str) -> list[str]:
    """Those of `names` that are not set, or empty."""
    return [name for name in names if not environment.get(name, "").strip()]


class Client:
    """Asks the endpoint; an answer that is in the cache is not asked for again. For one event loop."""

    def __init__(self, endpoint: Endpoint, cache: Cache, limits: Limits):
        from openai import AsyncOpenAI

        from hps.judge.http_client import WholeReplies

        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a request, otherwise
        self.endpoint, self.cache, self.limits = endpoint, cache, limits
        self.form = limits.forms[0]
        self.paid, self.paid_tokens = cache.totals()
        self._asked: set[str] = set()  # by this client, by the request's name
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._openai = AsyncOpenAI(
            base_url=endpoint.url,
            api_key=endpoint.key,
            max_retries=limits.retries,
            timeout=limits.timeout,
            http_client=WholeReplies(limits.timeout),
        )

    @property
    def asked(self) -> int:
        """How many answers were asked for, and not found in the cache."""
        return len(self._asked)

    async def settle(self) -> None:
        """Find the form of request that the endpoint takes, by one small question; what it refuses is left out.

        The form that an earlier run settled on is kept, for its answers are found by it.

        Raises:
            InputError: it takes none, or refuses a setting, which is named; or as `ask` does.
        """
        forms = self.limits.forms
        known = [form for form in forms if self.cache.get(self._request(prompt.PROBE, form))]
        if known:
            self.form = known[0]
            return
        while True:
            self.form = forms[0]
            try:
                await self.ask(prompt.PROBE)
                return
            except UnusableAnswer as error:
                raise self._stop(str(error)) from None
            except Refused as error:
                said = str(error)
            logging.info("judge: a request with %s is refused: %s", self.form, said)
            forms = list(self._without(said, forms))
            if not forms:
                raise self._stop(f"it refuses a first small request: {said}")

    def _without(self, said: str, forms: Sequence[Form]) -> Iterator[Form]:
        """Those of `forms` that lack what the endpoint refused of the first one; if it named nothing, all others."""
        refused, words = forms[0], said.lower()
        named = [name for name in TOKEN_LIMITS if re.search(rf"\b{name}\b", words)]
        if "temperature" in words and self.limits.temperature is not None:
            raise self._stop(
                f"it refuses judge.temperature {self.limits.temperature:g} ({said}); "
                "null sends none, and the server's own holds"
            )
        for form in forms[1:]:
            if refused.token_limit in named and form.token_limit == refused.token_limit:
                continue
            if re.search("response_format|json_schema|schema|structured|guided|grammar", words) and form.structured:
                continue
            yield form

    def _request(self, messages: Sequence[Message], form: Form) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.endpoint.model, "messages": list(messages)}
        if form.temperature is not None:
            request["temperature"] = form.temperature
        request[form.token_limit] = self.limits.answer_tokens
        return request | ({"response_format": prompt.RESPONSE_FORMAT} if form.structured else {})

    async def ask(self, messages: Sequence[Message], *, fresh: bool = False) -> Answer:
        """The judge's answer to `messages`.

        Args:
            fresh: what earlier runs kept does not count.

        Raises:
            UnusableAnswer: the endpoint sent something else than a chat completion.
            Refused: it does not take this request.
            InputError: it does not answer at all, or the budget is used up.
        """
        request = self._request(messages, self.form)
        name = name_of(request)
        async with self._locks[name]:  # the same question from elsewhere waits for this answer
            answer = self.cache.get(request) if name in self._asked or not fresh else None
            if answer is None:
                self._check_budget()
                self.paid += 1  # before the answer is there, so that those under way count
                try:
                    body = await self._send(request)
                except (InputError, Refused):
                    self.paid -= 1
                    raise
                self._asked.add(name)
                answer = self._read(body)
                self.paid_tokens += answer.tokens or 0
                self.cache.put(request, answer)
                if answer.tokens is None and self.limits.max_tokens is not None:
                    raise InputError("judge.max_tokens", "the endpoint does not say what it used; set max_requests")
        return answer

    async def close(self) -> None:
        await self._openai.close()

    async def _send(self, request: dict[str, Any]) -> bytes:
        import openai

        from hps.judge.http_client import TooLarge

        try:
            response = await self._openai.chat.completions.with_raw_response.create(**request)
        except TooLarge as error:
            raise UnusableAnswer(f"the endpoint's answer is {error}") from None
        except openai.APIStatusError as error:
            said = _short(f"HTTP {error.status_code}: {error.message}")
            if error.status_code in REFUSALS:
                raise Refused(said) from None
            raise self._stop(said) from None
        except openai.APITimeoutError:
            raise self._stop(f"no answer within {self.limits.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise self._stop(_short(f"{error} {error.__cause__ or ''}")) from None
        return response.content

    def _read(self, body: bytes) -> Answer:
        try:
            value = parse_json(body, "the endpoint's answer")
        except InputError as error:
            raise UnusableAnswer(_short(str(error))) from None
        if not _BODY.is_valid(value):
            raise UnusableAnswer("the endpoint's answer is no chat completion")
        choice = value["choices"][0]
        content = choice["message"].get("content") or ""
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        try:
            return Answer(
                content, (value.get("usage") or {}).get("total_tokens"), choice.get("finish_reason") == "length"
            )
        except ValueError as error:
            raise UnusableAnswer(f"the endpoint's answer is no chat completion ({error})") from None

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


def _short(text: str) -> str:
    """A server's message on one line, without what it should not have repeated."""
    return " ".join(secrets.masked(text).split())[:300]
