"""The HTTP client under OpenAI's: a reply arrives whole, within a time and a size, or it is none."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import openai

LARGEST = 4 << 20
"""Bytes of a reply's body. Two sets of scores need 300; a judge that thinks aloud, some hundred thousand."""
_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")


class TooLarge(openai.OpenAIError):
    """A body of more than `LARGEST` bytes. An OpenAIError, as OpenAI's client asks again after any other."""


class WholeReplies(openai.DefaultAsyncHttpxClient):
    """Ends a reply that takes longer than `seconds` in all, however steadily its bytes come. Follows no redirect."""

    def __init__(self, seconds: float):
        super().__init__(follow_redirects=False)
        self.seconds = seconds

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(self.seconds):
                response = await super().send(request, **options | {"stream": True})
                try:
                    body = await _body(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx2.ReadTimeout("the reply did not end in time", request=request) from None
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_TRANSFER]
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


async def _body(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > LARGEST:
            raise TooLarge(f"a reply of more than {LARGEST >> 20} MiB")
    return bytes(body)
