"""Which addresses may be called: a page that anyone can reach must not call internal ones.

A base URL that a visitor typed is called only over https and only at public addresses. The name is
resolved here, every address it has is checked, and the connection goes to an address that was
checked, so that a name that resolves differently the next time (DNS rebinding) gains nothing. TLS
still verifies the certificate against the name. What the operator configured is not restricted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

import httpx

from backend.errors import AddressRefused

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to the addresses that the name has."""
CHECKED_FOR_S = 60.0
"""Seconds for which checked addresses are connected to again without asking for them anew."""
MAX_URL_CHARS = 500
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = {ipaddress.ip_address("168.63.129.16")}
"""Azure's host service: a public address that answers virtual machines only, with their secrets."""
_PUBLIC_FIX = (
    "Type the https address of a public provider; whoever runs this app can allow another host"
    " with RANKSCOPE_PROVIDER_HOSTS."
)
_NOT_URL_FIX = "Type an address such as https://api.example.com/v1, without key or query."


def base_url(text: str) -> httpx.URL:
    """Read a base URL.

    Raises:
        AddressRefused: It is none, or it holds a password, a query or a fragment. The message does
            not repeat it: it may hold a key.
    """
    try:
        url = httpx.URL(text.strip()) if len(text) <= MAX_URL_CHARS else None
    except (httpx.InvalidURL, UnicodeError):
        url = None
    if url is None or url.scheme not in ("http", "https") or not _HOST.fullmatch(url.raw_host):
        raise AddressRefused("The base URL is not an http or https address.", fix=_NOT_URL_FIX)
    if url.userinfo or url.query or url.fragment:
        raise AddressRefused(
            "The base URL holds a user, a query or a fragment.",
            fix="Leave them out; the key has a field of its own.",
        )
    return url.copy_with(path=url.path.rstrip("/"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when it wraps an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip.is_site_local:
            return False
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and not ip.is_unspecified
        and ip not in _METADATA
    )


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedTransport(httpx.AsyncBaseTransport):
    """Sends requests to checked addresses only.

    Args:
        allowed: Hosts, as `name` or `name:port`, that the operator vouches for: these may be
            internal and may be called without TLS.
        verify: What certificates are trusted.
        limits: Of the connections that are kept.
        resolve: Finds the addresses of a name.
    """

    def __init__(
        self,
        *,
        allowed: Collection[str],
        verify: ssl.SSLContext,
        limits: httpx.Limits,
        resolve: Resolve,
    ) -> None:
        self._allowed = {host.strip().lower() for host in allowed}
        self._resolve = resolve
        self._inner = httpx.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False)
        self._checked: dict[tuple[str, str, int], tuple[float, Sequence[str]]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send to the first of the checked addresses that takes the connection.

        Raises:
            AddressRefused: The request is not https, or an address of the host is not public.
        """
        host = request.url.raw_host.decode("ascii")
        errors: list[httpx.TransportError] = []
        for address in await self._addresses(request.url):
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # `Host` is set already, to the name.
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                errors.append(exc)
        self._checked.clear()
        raise errors[0] if errors else httpx.ConnectError("The host has no address.")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        host = url.raw_host.decode("ascii").lower()
        port = url.port or (443 if url.scheme == "https" else 80)
        until, known = self._checked.get((url.scheme, host, port), (0.0, ()))
        if time.monotonic() < until:
            return known
        vouched = bool({host, f"{host}:{port}"} & self._allowed)
        if url.scheme != "https" and not vouched:
            raise AddressRefused("The base URL is not https.", fix=_PUBLIC_FIX)
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise httpx.ConnectError(f"{host} cannot be resolved.") from exc
        if not vouched and not all(is_public(address) for address in addresses):
            raise AddressRefused(f"{host} is not a public address.", fix=_PUBLIC_FIX)
        self._checked[url.scheme, host, port] = time.monotonic() + CHECKED_FOR_S, addresses
        return addresses
