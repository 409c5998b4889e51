"""The client of model providers, against a server on a real socket that misbehaves in each way."""

from __future__ import annotations

import json
import ssl
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from loguru import logger
from provider import Answer, Asked, Provider, running
from pydantic import BaseModel, SecretStr

from backend.errors import (
    AddressRefused,
    AnswerInvalid,
    KeyRefused,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
    RequestTooLarge,
)
from backend.providers.address import base_url, is_public
from backend.providers.breaker import CircuitBreaker
from backend.providers.client import ATTEMPTS, ProviderClient
from backend.providers.presets import PRESETS

KEY = "sk-secret-0123456789abcdefghijklmnopqrstuvwxyz"


class Echo(BaseModel):
    value: int


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running(lambda asked: Answer({"value": 1})) as served:
        yield served


@pytest.fixture
def client(provider: Provider) -> Iterator[ProviderClient]:
    made = ProviderClient(provider.url, label="Acme", key=SecretStr(KEY), timeout_s=10)
    yield made
    made.close()


def ask(client: ProviderClient, *, timeout_s: float | None = None, limit: int = 10_000) -> int:
    return client.post("/echo", {"q": 1}, Echo, limit_bytes=limit, timeout_s=timeout_s).value


def test_a_request_carries_the_key_in_its_header_and_nowhere_else(
    provider: Provider, client: ProviderClient
) -> None:
    assert ask(client) == 1

    (asked,) = provider.asked
    assert asked.path == "/v1/echo"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in asked.path + json.dumps(asked.body)


def test_connections_are_reused(provider: Provider, client: ProviderClient) -> None:
    for _ in range(5):
        ask(client)

    assert len({asked.peer for asked in provider.asked}) == 1


def test_many_threads_ask_side_by_side(provider: Provider, client: ProviderClient) -> None:
    """Each waits for all the others, so that one lock around the call would never let them pass."""
    meeting = threading.Barrier(6, timeout=10)

    def meet(asked: Asked) -> Answer:
        meeting.wait()
        return Answer({"value": 7})

    provider.behave = meet
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda _: ask(client), range(6))) == [7] * 6


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_failure_that_passes_is_not_noticed(
    provider: Provider, client: ProviderClient, status: int
) -> None:
    answers = iter([Answer(status=status), Answer(hang_up=True), Answer({"value": 3})])
    provider.behave = lambda asked: next(answers)

    assert ask(client) == 3
    assert len(provider.asked) == 3


def test_retries_are_bounded(provider: Provider, client: ProviderClient) -> None:
    provider.behave = lambda asked: Answer({"error": {"message": "try later"}}, status=503)

    with pytest.raises(ProviderUnavailable, match=r"Acme is overloaded.*HTTP 503: try later"):
        ask(client)
    assert len(provider.asked) == ATTEMPTS


def test_retry_after_is_waited_for(provider: Provider, client: ProviderClient) -> None:
    """The pause of our own would be over after a quarter of that."""
    answers = iter([Answer(status=429, headers={"Retry-After": "1"}), Answer({"value": 3})])
    times = []

    def behave(asked: Asked) -> Answer:
        times.append(threading.get_native_id())
        return next(answers)

    provider.behave = behave
    with pytest.raises(ProviderUnavailable, match="overloaded"):
        ask(client, timeout_s=0.9)  # There is no time to wait for that long: no second try.
    assert len(times) == 1
    answers = iter([Answer(status=429, headers={"Retry-After": "1"}), Answer({"value": 3})])
    assert ask(client, timeout_s=5) == 3


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "1e999", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_retry_after_that_makes_no_sense_is_passed_over(
    provider: Provider, client: ProviderClient, value: str
) -> None:
    answers = iter([Answer(status=503, headers={"Retry-After": value}), Answer({"value": 3})])
    provider.behave = lambda asked: next(answers)

    assert ask(client) == 3


SLOW = {
    "a body, byte by byte": Answer(b" " * 5_000 + b'{"value": 1}', drip_s=0.02),
    "a header, byte by byte": Answer({"value": 1}, drip_headers_s=0.02),
    "nothing": Answer({"value": 1}, silent_s=8),
}


@pytest.mark.parametrize("slow", SLOW)
def test_the_deadline_ends_an_answer_that_comes_slowly(
    provider: Provider, client: ProviderClient, slow: str
) -> None:
    """Each byte comes in time, so that a limit on the wait for the next one would never strike."""
    provider.behave = lambda asked: SLOW[slow]

    with pytest.raises(ProviderUnavailable, match=r"did not answer within 0\.5 s"):
        ask(client, timeout_s=0.5)


def test_an_answer_without_end_is_not_read_to_its_end(
    provider: Provider, client: ProviderClient
) -> None:
    provider.behave = lambda asked: Answer(b'{"value": 1}' + b" " * 50_000_000)

    with pytest.raises(AnswerInvalid, match=r"more than the 1,000 bytes"):
        ask(client, limit=1_000)


def test_a_compressed_answer_is_not_unpacked(provider: Provider, client: ProviderClient) -> None:
    """It was not asked for, and a megabyte of it can unpack to a gigabyte."""
    provider.behave = lambda asked: Answer(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    with pytest.raises(AnswerInvalid, match="compressed"):
        ask(client)


REFUSALS = {
    "a revoked key": (Answer(status=401), KeyRefused, "refused the key .*Enter a valid key"),
    "a forbidden key": (Answer(status=403), KeyRefused, "refused the key"),
    "no such model": (
        Answer({"error": {"message": "model foo not found"}}, status=404),
        RequestRefused,
        "HTTP 404: model foo not found.*Check the model's name",
    ),
    "a flat message": (Answer({"message": "no credit"}, status=402), RequestRefused, "no credit"),
    "too large": (Answer(status=413), RequestTooLarge, "HTTP 413"),
    "a web page": (Answer(b"<!doctype html><h1>Hi"), AnswerInvalid, "a web page.*ends in /v1"),
    "not JSON": (Answer(b"value: 1"), AnswerInvalid, "not JSON"),
    "nothing": (Answer(b""), AnswerInvalid, "not JSON"),
    "cut off": (Answer(b'{"value": '), AnswerInvalid, "not JSON"),
    "deep": (Answer(b"[" * 9_000), AnswerInvalid, "Acme answered with"),
    "another form": (Answer({"values": [1]}), AnswerInvalid, r"another form.*value: Field req"),
    "an error as success": (
        Answer({"error": {"message": "out of quota"}}),
        AnswerInvalid,
        "another form.*out of quota",
    ),
    "a redirect": (
        Answer(status=307, headers={"Location": "http://127.0.0.1:9/steal"}),
        RequestRefused,
        "redirects to another address.*Set the base URL",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_pass_is_a_typed_error_with_its_fix_at_once(
    provider: Provider, client: ProviderClient, case: str
) -> None:
    answer, error, message = REFUSALS[case]
    provider.behave = lambda asked: answer

    with pytest.raises(error, match=message) as caught:
        ask(client)
    assert type(caught.value) is error
    assert caught.value.fix
    assert len(provider.asked) == 1


def test_without_a_key_the_error_asks_for_one(provider: Provider) -> None:
    provider.behave = lambda asked: Answer(status=401)
    client = ProviderClient(provider.url, label="Acme")

    with pytest.raises(KeyRefused, match="Acme needs a key"):
        ask(client)
    client.close()


def test_nobody_listening_is_said_and_tried_again() -> None:
    client = ProviderClient("http://127.0.0.1:9/v1", label="Acme", timeout_s=3)

    with pytest.raises(ProviderUnavailable, match=r"Acme cannot be reached.*Check that it runs"):
        ask(client)
    client.close()


def test_the_key_stays_out_of_errors_logs_and_repr(
    provider: Provider, client: ProviderClient
) -> None:
    """Also when the provider sends it back in what it says."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="TRACE", diagnose=False)
    said = f"Incorrect API key provided: {KEY}\n({KEY[:30]}…)"
    hostile = [
        Answer({"error": {"message": said}}, status=400),
        Answer({"error": said}, status=401),
        Answer({"message": said, "value": KEY}),
        Answer({"value": KEY}),
        Answer(KEY.encode()),
        Answer(hang_up=True),
    ]
    try:
        for answer in hostile:
            provider.behave = lambda asked, answer=answer: answer
            with pytest.raises(ProviderError) as caught:
                ask(client, timeout_s=1)
            logger.opt(exception=caught.value).error("failed with {client!r}", client=client)
            lines += [*traceback.format_exception(caught.value), repr(caught.value)]
    finally:
        logger.remove(sink)

    assert lines
    for line in lines:
        assert KEY[10:26] not in line


def test_no_variable_on_the_way_of_a_request_shows_the_key(
    provider: Provider, client: ProviderClient
) -> None:
    """Crash reporters print them."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="TRACE", backtrace=True, diagnose=True)
    for answer in (Answer(hang_up=True), Answer(status=401), Answer(b"<p>")):
        provider.behave = lambda asked, answer=answer: answer
        try:
            ask(client, timeout_s=1)
        except ProviderError as exc:
            logger.opt(exception=exc).error("failed")
    logger.remove(sink)

    assert "_deliver" in "".join(lines)
    assert KEY not in "".join(lines)


@pytest.mark.parametrize("key", ["two words", "line\nbreak: x", "schlüssel", "a\0b", "x" * 5_000])
def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        ProviderClient("https://example.com", label="Acme", key=SecretStr(key))

    assert key not in str(caught.value)


def test_spaces_around_a_key_are_copied_by_mistake(provider: Provider) -> None:
    client = ProviderClient(provider.url, label="Acme", key=SecretStr(f" {KEY}\n"))
    ask(client)
    client.close()

    assert provider.asked[0].headers["Authorization"] == f"Bearer {KEY}"


# The circuit breaker


def test_a_provider_that_keeps_failing_is_left_alone_and_then_tried_again(
    provider: Provider, client: ProviderClient
) -> None:
    now = 0.0
    client._breaker = CircuitBreaker(failures=2, pause_s=10, clock=lambda: now)
    provider.behave = lambda asked: Answer(status=503, headers={"Retry-After": "99"})
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match="overloaded"):
            ask(client)
    count = len(provider.asked)
    with pytest.raises(ProviderUnavailable, match="left alone for 10 s"):
        ask(client)
    assert len(provider.asked) == count

    now = 11.0
    provider.behave = lambda asked: Answer({"value": 5})
    assert [ask(client), ask(client)] == [5, 5]


def test_after_the_pause_one_call_tries_for_all() -> None:
    now = 0.0
    breaker = CircuitBreaker(failures=1, pause_s=10, clock=lambda: now)
    breaker.failed()
    assert breaker.admit() == 10
    now = 10.0

    assert [breaker.admit(), breaker.admit()] == [0, 10]
    breaker.failed()
    assert breaker.admit() == 10
    breaker.succeeded()
    assert breaker.admit() == 0


def test_refusals_do_not_open_the_circuit(provider: Provider, client: ProviderClient) -> None:
    """A provider that says no is there."""
    provider.behave = lambda asked: Answer(status=401)
    for _ in range(6):
        with pytest.raises(KeyRefused):
            ask(client)

    assert len(provider.asked) == 6


# Which addresses may be called


@pytest.mark.parametrize(
    "text",
    [
        *["", "example.com", "ftp://example.com", "file:///etc/passwd", "https://", "//x/y"],
        *["https://key@example.com", "https://u:p@example.com", "https://example.com/v1?key=1"],
        *["https://example.com/#x", "https://exa mple.com", "https://" + "a" * 600, "javascript:1"],
    ],
)
def test_what_is_no_base_url_is_refused(text: str) -> None:
    with pytest.raises(AddressRefused):
        base_url(text)


def test_a_key_in_a_url_is_not_repeated() -> None:
    with pytest.raises(AddressRefused) as caught:
        base_url(f"https://{KEY}@example.com")

    assert KEY not in str(caught.value)


def test_a_base_url_loses_its_last_slash() -> None:
    assert str(base_url(" https://example.com/v1/ ")) == "https://example.com/v1"


INTERNAL = [
    *["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"],
    *["192.168.1.1", "169.254.169.254", "100.64.0.1", "168.63.129.16", "192.0.0.1", "198.18.0.1"],
    *["224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0"],
    *["fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1"],
    *["::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"],
    *["2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:f5ff:fffe"],
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


def restricted(url: str, addresses: Sequence[str] | None = None, **more: object) -> ProviderClient:
    """A client for a URL that a visitor typed; `addresses` is what the name service says."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        assert addresses is not None
        return addresses

    told = {"resolve": resolve} if addresses is not None else {}
    return ProviderClient(url, label="Acme", restricted=True, timeout_s=3, **told, **more)


@pytest.mark.parametrize(
    "host",
    [
        *["localhost", "LOCALHOST.", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0", "[::1]"],
        *["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "[fd00:ec2::254]"],
    ],
)
def test_a_visitors_url_does_not_reach_this_machine(provider: Provider, host: str) -> None:
    """Asked of the real resolver, in every spelling that it takes."""
    client = restricted(f"https://{host}:{provider.port}/v1")

    # A resolver may not know a spelling; then there is nothing to connect to either.
    with pytest.raises(ProviderError, match=r"not a public address|cannot be reached"):
        ask(client)
    client.close()
    assert provider.asked == []


def test_a_visitors_url_must_be_https(provider: Provider) -> None:
    client = restricted("http://example.com/v1", ["93.184.216.34"])

    with pytest.raises(AddressRefused, match="not https"):
        ask(client)
    client.close()


def test_one_internal_address_among_public_ones_is_enough_to_refuse() -> None:
    client = restricted("https://example.com/v1", ["93.184.216.34", "10.0.0.1"])

    with pytest.raises(AddressRefused, match=r"example\.com is not a public address"):
        ask(client)
    client.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_provider(authority: trustme.CA) -> Iterator[Provider]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("models.test").configure_cert(context)
    with running(lambda asked: Answer({"value": 1}), tls=context) as served:
        yield served


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_the_connection_goes_to_the_address_that_was_checked(
    tls_provider: Provider, authority: trustme.CA
) -> None:
    """No resolver of this machine knows `models.test`; the certificate is for that name alone."""
    host = f"models.test:{tls_provider.port}"
    client = restricted(
        f"https://{host}/v1", ["127.0.0.1"], allowed=[host], verify=trusting(authority)
    )

    assert [ask(client), ask(client)] == [1, 1]
    client.close()
    assert tls_provider.asked[0].headers["Host"] == host
    assert len({asked.peer for asked in tls_provider.asked}) == 1


def test_a_certificate_for_another_name_is_refused(
    tls_provider: Provider, authority: trustme.CA
) -> None:
    host = f"other.test:{tls_provider.port}"
    client = restricted(
        f"https://{host}/v1", ["127.0.0.1"], allowed=["other.test"], verify=trusting(authority)
    )

    with pytest.raises(ProviderUnavailable):
        ask(client)
    client.close()
    assert tls_provider.asked == []


def test_between_the_check_and_the_connection_a_name_is_not_looked_up_again(
    tls_provider: Provider, authority: trustme.CA
) -> None:
    """DNS rebinding: the second look would lead elsewhere."""
    looks: list[int] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        looks.append(port)
        return ["127.0.0.1"] if len(looks) == 1 else ["10.255.255.1"]

    client = ProviderClient(
        f"https://models.test:{tls_provider.port}/v1",
        label="Acme",
        restricted=True,
        allowed=["models.test"],
        timeout_s=2,
        resolve=rebinding,
        verify=trusting(authority),
    )
    assert [ask(client), ask(client)] == [1, 1]
    client.close()
    assert looks == [tls_provider.port]


def test_a_host_that_the_operator_allows_may_be_local_and_without_tls(provider: Provider) -> None:
    client = restricted(provider.url, allowed=[f"127.0.0.1:{provider.port}"])

    assert ask(client) == 1
    client.close()


def test_what_the_operator_configured_is_not_restricted(
    provider: Provider, client: ProviderClient
) -> None:
    assert ask(client) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_addresses_that_can_be_called(name: str) -> None:
    preset = PRESETS[name]

    assert name == "custom" or base_url(preset.base_url)
    assert preset.needs_key == preset.base_url.startswith("https://")
    assert all(not path or path.startswith("/") for path in (preset.rerank_path, preset.chat_path))
    assert preset.max_inputs >= 1
