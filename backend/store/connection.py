"""The way to a Qdrant server: one client, and its failures as errors that tell the fix."""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
import httpx
from loguru import logger
from pydantic import SecretStr
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from backend.errors import (
    IndexDamaged,
    StoreError,
    StoreKeyRefused,
    StoreRefused,
    StoreTooOld,
    StoreUnavailable,
)

MIN_VERSION = (1, 19)
"""The first release that matches keywords by prefix and places each part in memory by itself."""
ATTEMPTS = 3
_PAUSE = wait_exponential_jitter(multiplier=0.1, max=1.0, jitter=0.1)
_BUSY = {429, 500, 502, 503, 504}
_GRPC_DOWN = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL"}
_GRPC_KEY = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
_QUOTED_CHARS = 300
Value = TypeVar("Value")


class QdrantServer:
    """A Qdrant server or cluster. Safe to use from many threads; recovers when the server does.

    Args:
        url: Its REST address, such as `http://localhost:6333`; `https` encrypts.
        key: Its API key.
        grpc_port: Port of its gRPC interface; None uses REST.
        timeout_s: Seconds for one request.

    Raises:
        StoreRefused: The address or the key cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        key: SecretStr | None = None,
        grpc_port: int | None = None,
        timeout_s: int = 10,
    ) -> None:
        self.url = _checked_url(url)
        self._timeout_s = timeout_s
        bare = key.get_secret_value().strip() if key is not None else None
        if bare is not None and not re.fullmatch(r"[\x21-\x7e]+", bare):
            raise StoreRefused(
                "The API key of the Qdrant server is empty or holds spaces or line breaks.",
                fix="Copy it again into RANKSCOPE_QDRANT_KEY, or unset that.",
            )
        if bare and self.url.startswith("http://"):
            logger.warning("The API key of {url} travels without encryption", url=self.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # The same, on stderr.
            self._client = QdrantClient(
                url=self.url,
                api_key=bare or None,
                prefer_grpc=grpc_port is not None,
                grpc_port=grpc_port or 6334,
                timeout=timeout_s,
                check_compatibility=False,  # `ask` checks, once there is an answer.
                limits=httpx.Limits(keepalive_expiry=60.0),  # A kept connection saves a handshake.
            )
        self._fit = False
        self._checking = threading.Lock()

    def __repr__(self) -> str:
        return f"QdrantServer({self.url!r})"

    def ask(self, request: Callable[[QdrantClient], Value]) -> Value:
        """Make a request, and again after failures that may pass. Requests must bear repetition.

        Raises:
            StoreUnavailable: The server is down, overloaded or too slow.
            StoreKeyRefused: It wants another API key.
            StoreTooOld: Its version is below `MIN_VERSION`.
            IndexDamaged: A collection that is asked for is not there.
            StoreRefused: It refuses for another reason, which the message quotes.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_PAUSE,
            reraise=True,
        )
        try:
            answer: Value = retrying(self._once, request)
            return answer
        except _Passing as exc:
            raise exc.error from None

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _once(self, request: Callable[[QdrantClient], Value]) -> Value:
        try:
            if not self._fit:
                self._check_version()
            return request(self._client)
        except (ApiException, QdrantException, grpc.RpcError) as exc:
            raise self._meaning(exc) from exc

    def _check_version(self) -> None:
        with self._checking:
            version = self._client.info().version
            numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
            if numbers < MIN_VERSION:
                least = ".".join(map(str, MIN_VERSION))
                raise StoreTooOld(
                    f"The Qdrant server at {self.url} has version {version}; {least} is needed.",
                    fix="Update the server, or unset RANKSCOPE_QDRANT_URL to search in process.",
                )
            self._fit = True

    def _meaning(self, exc: Exception) -> Exception:
        """What stands behind a failure of the client."""
        if isinstance(exc, UnexpectedResponse):
            return self._status(exc.status_code or 0, _said(exc.content))
        if isinstance(exc, grpc.RpcError):
            return self._code(exc)
        if isinstance(exc, ResponseHandlingException):
            if isinstance(exc.source, httpx.TimeoutException):
                # Once more would take as long again.
                return self._unavailable(f"did not answer within {self._timeout_s} s")
            if isinstance(exc.source, httpx.TransportError):
                return _Passing(
                    self._unavailable(f"cannot be reached ({type(exc.source).__name__})")
                )
            return StoreRefused(
                f"What answers at {self.url} is not a Qdrant server, or of an unknown version.",
                fix="Check RANKSCOPE_QDRANT_URL: it is the server's REST address.",
            )
        return _Passing(self._unavailable("is overloaded"))

    def _status(self, status: int, said: str) -> Exception:
        if status in (401, 403):
            return self._key_refused(said)
        if status in _BUSY:
            return _Passing(self._unavailable(f"is overloaded or failing (HTTP {status}{said})"))
        if status == 404 and "doesn't exist" in said:
            return self._gone(said)
        return self._refused(f"HTTP {status}{said}")

    def _code(self, exc: grpc.RpcError) -> Exception:
        code = getattr(exc.code(), "name", "UNKNOWN")
        said = f": {str(exc.details() or '')[:_QUOTED_CHARS]}"
        if code in _GRPC_KEY:
            return self._key_refused(said)
        if code in _GRPC_DOWN:
            failure = self._unavailable(f"does not answer over gRPC ({code})")
            return failure if code == "DEADLINE_EXCEEDED" else _Passing(failure)
        return self._gone(said) if code == "NOT_FOUND" else self._refused(f"{code}{said}")

    def _unavailable(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The Qdrant server at {self.url} {what}.",
            fix="Start it, or check RANKSCOPE_QDRANT_URL and the network; then ask again.",
        )

    def _key_refused(self, said: str) -> StoreKeyRefused:
        return StoreKeyRefused(
            f"The Qdrant server at {self.url} does not accept the API key{said}.",
            fix="Set RANKSCOPE_QDRANT_KEY to a key that may read and write collections.",
        )

    def _gone(self, said: str) -> IndexDamaged:
        return IndexDamaged(
            f"The Qdrant server at {self.url} does not have the index{said}.",
            fix="Index the collection again.",
        )

    def _refused(self, what: str) -> StoreError:
        return StoreRefused(
            f"The Qdrant server at {self.url} refused a request ({what}).",
            fix="Check its limits and strict mode, and that its version is supported.",
        )


class _Passing(Exception):
    """A failure that may pass."""

    def __init__(self, error: StoreError) -> None:
        self.error = error
        super().__init__(error.message)


def _said(content: bytes) -> str:
    """The server's own words, on one line."""
    try:
        status = json.loads(content)["status"]
        words = status["error"] if isinstance(status, dict) else str(status)
    except (ValueError, KeyError, TypeError):
        words = content[:_QUOTED_CHARS].decode("utf-8", "replace")
    words = " ".join(str(words).split())[:_QUOTED_CHARS]
    return f": {words}" if words else ""


def _checked_url(url: str) -> str:
    """An http or https address without user or query; the message repeats no part of a bad one."""
    bare = url.strip().rstrip("/")
    try:
        parts = urlsplit(bare)
        fine = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not (parts.username or parts.password or parts.query or parts.fragment)
        )
        _ = parts.port
    except ValueError:
        fine = False
    if not fine:
        raise StoreRefused(
            "RANKSCOPE_QDRANT_URL is not an http or https address.",
            fix="Set it to one such as http://localhost:6333, without user or key.",
        )
    return bare
