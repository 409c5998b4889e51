"""JSON over HTTP to a provider that may be slow, wrong or hostile.

Requests run on one event loop in a thread of its own, because only there a deadline ends whatever
is going on: resolving, connecting, a header or a body that arrives a byte at a time. Callers block.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
import threading
from collections.abc import Collection, Coroutine, Generator
from email.utils import parsedate_to_datetime
from functools import lru_cache
from time import time
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from backend.errors import (
    AnswerInvalid,
    KeyRefused,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
    RequestTooLarge,
)
from backend.providers.address import CheckedTransport, Resolve, base_url, resolve
from backend.providers.breaker import CircuitBreaker

Answer = TypeVar("Answer", bound=BaseModel)
Value = TypeVar("Value")
ATTEMPTS = 4
CONNECT_S = 5.0
"""Seconds for a connection: a provider that is there takes it within one."""
KEEP_IDLE_S = 60.0
"""Seconds for which an idle connection is kept: the next search saves a TLS handshake."""
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
"""Uncompressed: then the limit on an answer's size holds for what it unpacks to."""
_BACKOFF = wait_exponential_jitter(multiplier=0.2, max=8.0, exp_base=2.0, jitter=0.2)
_BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Worth another try: overloaded, starting, or behind a proxy that lost it."""
_ERROR_BYTES = 16_384
_QUOTED_CHARS = 200
_PIECE_CHARS = 6


class _TryAgain(Exception):
    """A failure that may pass."""

    def __init__(self, error: ProviderError, after_s: float = 0.0) -> None:
        self.error, self.after_s = error, after_s
        super().__init__(error.message)


class _Bearer(httpx.Auth):
    """Puts the key into the request, where `repr` and logs hide it, and nowhere else."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class ProviderClient:
    """Posts JSON to one base URL and validates what comes back. Safe to call from many threads.

    Args:
        url: The base URL.
        label: What messages call the provider; empty names its host.
        key: Sent as a bearer token, never in a URL, and kept out of messages and logs.
        timeout_s: Seconds for one call in all, its retries included, unless it says otherwise.
        restricted: Whether the URL comes from a visitor: then it must be public (`address.py`).
        allowed: Hosts that are exempt from that.
        resolve: Finds the addresses of a name, for restricted URLs.
        verify: What certificates are trusted; None trusts the usual authorities.

    Raises:
        AddressRefused: The URL is not one.
        KeyRefused: The key cannot be sent in a header.
    """

    def __init__(
        self,
        url: str,
        *,
        label: str = "",
        key: SecretStr | None = None,
        timeout_s: float = 30.0,
        restricted: bool = False,
        allowed: Collection[str] = (),
        resolve: Resolve = resolve,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._base = base_url(url)
        self.label = label or f"The provider at {self._base.host}"
        self._key = _checked_key(key, self.label)
        self._auth = _Bearer(self._key) if self._key is not None else None
        self._timeout_s = timeout_s
        self._breaker = CircuitBreaker()
        verify = verify or _usual_authorities()
        limits = httpx.Limits(keepalive_expiry=KEEP_IDLE_S)
        checked = CheckedTransport(allowed=allowed, resolve=resolve, verify=verify, limits=limits)
        self._http = httpx.AsyncClient(
            transport=checked if restricted else None,
            verify=verify,
            limits=limits,
            follow_redirects=False,  # A redirect would take the key to another host.
            trust_env=not restricted,  # A proxy would connect where it likes.
        )

    def __repr__(self) -> str:
        return f"ProviderClient({str(self._base)!r})"

    def post(
        self,
        path: str,
        body: dict[str, object],
        answer: type[Answer],
        *,
        limit_bytes: int,
        timeout_s: float | None = None,
    ) -> Answer:
        """Post once, and again after failures that may pass.

        Args:
            path: Stands below the base URL.
            body: What is asked.
            answer: The shape of the answer.
            limit_bytes: A larger answer is not read on.
            timeout_s: Seconds for all of it; None takes the client's own.

        Raises:
            ProviderUnavailable: It is down, overloaded or too slow, or failed so often that it is
                left alone for some seconds.
            KeyRefused: The key is wrong, revoked or missing.
            RequestTooLarge: The body is larger than the provider takes.
            RequestRefused: It knows no such model or path, or refuses the input.
            AnswerInvalid: The answer is not JSON of that shape, or larger than the limit.
            AddressRefused: The base URL may not be called.
        """
        wait_s = self._breaker.admit()
        if wait_s:
            raise ProviderUnavailable(
                f"{self.label} failed several times and is left alone for {wait_s:.0f} s.",
                fix="Wait, or choose another provider or the local model.",
            )
        total_s = self._timeout_s if timeout_s is None else timeout_s
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        try:
            raw = _on_loop(self._deliver(path, content, limit_bytes, total_s))
            parsed = self._parse(raw, answer)
        except ProviderUnavailable:
            self._breaker.failed()
            raise
        except ProviderError:
            self._breaker.succeeded()  # It is there, whatever it says.
            raise
        self._breaker.succeeded()
        return parsed

    def close(self) -> None:
        """Close all connections."""
        _on_loop(self._http.aclose())

    async def _deliver(self, path: str, content: bytes, limit: int, total_s: float) -> bytes:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TryAgain),
            wait=_wait,
            stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(total_s),
            reraise=True,
        )
        try:
            return await asyncio.wait_for(
                retrying(self._once, path, content, limit, total_s), total_s
            )
        except asyncio.TimeoutError:
            raise ProviderUnavailable(
                f"{self.label} did not answer within {total_s:g} s.",
                fix="Try again, allow it more time, or use the local model.",
            ) from None
        except _TryAgain as exc:
            raise exc.error from None

    async def _once(self, path: str, content: bytes, limit: int, total_s: float) -> bytes:
        url = self._base.copy_with(path=self._base.path + path)
        timeout = httpx.Timeout(total_s, connect=min(CONNECT_S, total_s))
        try:
            async with self._http.stream(
                "POST", url, content=content, headers=HEADERS, auth=self._auth, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    body = await self._read(response, _ERROR_BYTES, cut=True)
                    raise self._refusal(response, body)
                return await self._read(response, limit)
        except httpx.TransportError as exc:
            raise _TryAgain(
                ProviderUnavailable(
                    f"{self.label} cannot be reached ({type(exc).__name__}).",
                    fix="Check that it runs, the base URL, and the network.",
                )
            ) from None  # The request hangs on the exception, and the key on the request.

    async def _read(self, response: httpx.Response, limit: int, *, cut: bool = False) -> bytes:
        """Read a body up to a limit; beyond it, cut it off or refuse it."""
        if response.headers.get("content-encoding", "identity").lower() != "identity" and not cut:
            raise AnswerInvalid(
                f"{self.label} sent a compressed answer that was not asked for.",
                fix="Check the base URL, or what stands between.",
            )
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > limit:
                if cut:
                    break
                raise AnswerInvalid(
                    f"{self.label} sent more than the {limit:,} bytes that were to be expected.",
                    fix="Check the base URL and the model.",
                )
        return bytes(body[:limit])

    def _refusal(self, response: httpx.Response, body: bytes) -> Exception:
        """An answer that is not 200 as the error that it means."""
        status, said = response.status_code, self._quote(body)
        if status in _BUSY:
            busy = ProviderUnavailable(
                f"{self.label} is overloaded or failing (HTTP {status}{said}).",
                fix="Try again later, or use the local model.",
            )
            return _TryAgain(busy, _retry_after(response.headers.get("retry-after", "")))
        if status in (401, 403):
            given = "refused the key" if self._key is not None else "needs a key"
            return KeyRefused(
                f"{self.label} {given} (HTTP {status}).",
                fix="Enter a valid key, in the page's key field or in the environment.",
            )
        if status == 413:
            return RequestTooLarge(
                f"A text is larger than {self.label} takes (HTTP 413).",
                fix="Raise its limit, or choose a model with a longer context.",
            )
        if 300 <= status < 400:
            return RequestRefused(
                f"{self.label} redirects to another address (HTTP {status}), where the key would"
                " not be safe.",
                fix="Set the base URL to the address where it really is.",
            )
        return RequestRefused(
            f"{self.label} refused the request (HTTP {status}{said}).",
            fix="Check the model's name and the base URL, which usually ends in /v1.",
        )

    def _parse(self, raw: bytes, answer: type[Answer]) -> Answer:
        try:
            return answer.model_validate_json(raw)
        except ValidationError as exc:
            first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        if raw.lstrip()[:1] == b"<":
            what = "a web page, not JSON"
        elif first["type"] == "json_invalid":
            what = "something that is not JSON"
        else:
            where = ".".join(str(part) for part in first["loc"])
            said = self._quote(raw)
            what = f"another form than was asked for ({where}: {first['msg']}{said})"
        raise AnswerInvalid(
            f"{self.label} answered with {what}.",
            fix="Check the base URL, which usually ends in /v1, and the model's name.",
        )

    def _quote(self, body: bytes) -> str:
        """The provider's own error message, if it sent one: short, on one line, without the key."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return ""
        error = data.get("error", data.get("message", "")) if isinstance(data, dict) else ""
        message = error.get("message", "") if isinstance(error, dict) else error
        if not isinstance(message, str) or not message:
            return ""
        message = re.sub(r"[^\x20-\x7e]+", " ", message)
        if self._key is not None:
            message = _without_key(message, self._key.get_secret_value())
        return f": {message[:_QUOTED_CHARS]}"


def _without_key(message: str, key: str) -> str:
    """Blank out every word that holds a piece of the key: providers quote keys, also in part."""
    size = min(len(key), _PIECE_CHARS)
    pieces = {key[i : i + size] for i in range(len(key) - size + 1)}

    def shown(word: re.Match[str]) -> str:
        return "…" if any(piece in word[0] for piece in pieces) else word[0]

    return re.sub(r"\S+", shown, message)


def _wait(state: RetryCallState) -> float:
    """Growing pauses with jitter, or as long as the provider asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after_s if isinstance(error, _TryAgain) else 0.0
    return max(asked, _BACKOFF(state))


def _retry_after(value: str) -> float:
    """Seconds that `Retry-After` names, as a number or as a date; 0 when it names none."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _checked_key(key: SecretStr | None, label: str) -> SecretStr | None:
    """A key that fits into a header; the message does not repeat one that does not."""
    bare = key.get_secret_value().strip() if key is not None else ""
    if not bare:
        return None
    if not re.fullmatch(r"[\x21-\x7e]{1,4096}", bare):
        raise KeyRefused(
            f"The key for {label} holds spaces, line breaks or other characters that no key has.",
            fix="Copy it again.",
        )
    return SecretStr(bare)


@lru_cache
def _usual_authorities() -> ssl.SSLContext:
    """Reading them takes 20 ms: once is enough."""
    return httpx.create_ssl_context()


_starting = threading.Lock()


@lru_cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="providers", daemon=True).start()
    return loop


def _on_loop(work: Coroutine[Any, Any, Value]) -> Value:
    """Run on the loop that all requests of this process share."""
    with _starting:
        loop = _started_loop()
    return asyncio.run_coroutine_threadsafe(work, loop).result()
