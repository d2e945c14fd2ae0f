"""Outbound calls reach public addresses and nothing else."""

import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.outbound import (
    BlockedAddressError,
    Network,
    OutboundError,
    OutboundGuard,
    OutboundTimeoutError,
    Resolver,
    embedded_address,
    is_public,
)
from tests.support.certificates import make_certificate
from tests.support.receiver import Answer, Receiver, receiving

LOOPBACK = [IPv4Network("127.0.0.0/8")]

INTERNAL = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",  # Alibaba Cloud's metadata
    "127.0.0.1",
    "168.63.129.16",  # Azure's wire server
    "169.254.169.254",  # metadata of most clouds
    "172.16.0.1",
    "192.0.0.192",  # Oracle Cloud's metadata
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b:1::1",
    "2001::1",
    "2002:7f00:1::",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",  # AWS's metadata
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "3fff::1",
    "5f00::1",
    "ff02::1",
]


def answering(*addresses: str) -> OutboundGuard:
    """Return a guard for whose resolver every name has these addresses."""
    return OutboundGuard([], resolver=_fixed(addresses))


def _fixed(addresses: Sequence[str]) -> Resolver:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


@pytest.mark.parametrize("address", INTERNAL)
async def test_internal_addresses_are_refused(address: str) -> None:
    with pytest.raises(BlockedAddressError):
        await answering(address).check("http://example.com/")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost/",
    ],
)
async def test_every_spelling_of_loopback_is_refused(url: str) -> None:
    with pytest.raises(BlockedAddressError):
        await OutboundGuard([]).check(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com:0/",
        "http://example.com:70000/",
        "http://exa\nmple.com/",
    ],
)
async def test_urls_of_the_wrong_form_are_refused(url: str) -> None:
    with pytest.raises(BlockedAddressError):
        await answering("93.184.216.34").check(url)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_is_public_is_nothing_special(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        real = embedded_address(address)
        assert real.is_global
        special = ("private", "loopback", "link_local", "multicast", "unspecified", "reserved")
        assert [kind for kind in special if getattr(real, f"is_{kind}")] == []


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_form(address: IPv4Address) -> None:
    for prefix in ("::ffff:", "64:ff9b::", *(["::"] if int(address) > 1 else [])):
        assert is_public(ip_address(f"{prefix}{address}")) == is_public(address)


@given(
    st.sampled_from(
        [
            *(IPv4Network(n) for n in ("10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16")),
            *(IPv6Network(n) for n in ("fc00::/7", "fe80::/10")),
        ]
    ).flatmap(lambda network: st.ip_addresses(network=str(network)).map(lambda a: (network, a)))
)
async def test_a_private_address_may_be_called_only_in_an_allowed_network(
    pair: tuple[Network, IPv4Address | IPv6Address],
) -> None:
    network, address = pair
    resolver = _fixed([str(address)])
    target = await OutboundGuard([network], resolver=resolver).check("https://example.com/")
    assert target.addresses == (address,)
    with pytest.raises(BlockedAddressError, match="outbound calls may not reach"):
        await OutboundGuard([], resolver=resolver).check("https://example.com/")


async def test_one_internal_address_among_public_ones_refuses_the_host() -> None:
    with pytest.raises(BlockedAddressError, match=r"10\.0\.0\.1"):
        await answering("93.184.216.34", "10.0.0.1").check("https://example.com/")


async def test_a_name_that_does_not_resolve_is_an_outbound_error() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    with pytest.raises(OutboundError, match=r"nowhere\.example does not resolve"):
        await OutboundGuard([], resolver=unknown).check("https://nowhere.example/")


async def test_the_connection_goes_to_the_checked_address_with_the_given_host(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    guard = OutboundGuard(LOOPBACK, resolver=rebinding)
    answer = await guard.send(client, "GET", receiver.url("bücher.example", "/a?b=1"))
    assert answer.status_code == 204
    assert asked == ["xn--bcher-kva.example"]
    [request] = receiver.received
    assert request.headers["host"] == f"xn--bcher-kva.example:{receiver.port}"
    assert request.target == "/a?b=1"


async def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(
    tmp_path: Path,
) -> None:
    certificate = make_certificate(tmp_path, "hooks.example")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=certificate)
    guard = OutboundGuard(LOOPBACK, resolver=_fixed(["127.0.0.1"]))
    async with receiving(tls=served) as receiver, httpx.AsyncClient(verify=trusted) as client:
        url = f"https://hooks.example:{receiver.port}/"
        assert (await guard.send(client, "GET", url)).status_code == 204
        with pytest.raises(OutboundError, match="Hostname mismatch"):
            await guard.send(client, "GET", url.replace("hooks", "other"))
    assert len(receiver.received) == 1


async def test_the_next_address_is_tried_when_one_refuses_the_connection(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    guard = OutboundGuard(LOOPBACK, resolver=_fixed(["127.0.0.2", "127.0.0.1"]))
    # The receiver listens on 127.0.0.1 only.
    assert (await guard.send(client, "GET", receiver.url())).status_code == 204


async def test_redirects_are_not_followed(receiver: Receiver, client: httpx.AsyncClient) -> None:
    receiver.answers.append(Answer(302, {"Location": "http://169.254.169.254/latest"}))
    answer = await OutboundGuard(LOOPBACK).send(client, "GET", receiver.url())
    assert (answer.status_code, len(receiver.received)) == (302, 1)


async def test_only_a_bounded_part_of_the_answer_is_read(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    receiver.answers.append(Answer(200, body=b"x" * 5000))
    receiver.answers.append(Answer(200, body=b"x" * 100))
    guard = OutboundGuard(LOOPBACK)
    long = await guard.send(client, "GET", receiver.url(), max_body=100)
    assert (long.body, long.truncated) == (b"x" * 100, True)
    short = await guard.send(client, "GET", receiver.url(), max_body=100)
    assert (short.body, short.truncated) == (b"x" * 100, False)


async def test_a_server_that_never_answers_is_given_up(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    receiver.answers.append(Answer(hang=True))
    with pytest.raises(OutboundTimeoutError):
        await OutboundGuard(LOOPBACK).send(client, "GET", receiver.url(), timeout=0.3)


async def test_headers_that_frame_the_request_cannot_be_given(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    given_headers = {
        "Host": "internal",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "X-Mine": "yes",
    }
    await OutboundGuard(LOOPBACK).send(
        client, "POST", receiver.url(), headers=given_headers, content=b"hello"
    )
    [request] = receiver.received
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "transfer-encoding" not in request.headers
    assert (request.body, request.headers["x-mine"]) == (b"hello", "yes")


async def test_cookies_of_one_call_are_not_sent_with_another(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    receiver.answers.append(Answer(200, {"Set-Cookie": "session=secret"}))
    guard = OutboundGuard(LOOPBACK)
    await guard.send(client, "GET", receiver.url())
    await guard.send(client, "GET", receiver.url())
    assert "cookie" not in receiver.received[1].headers
    assert len(client.cookies) == 0


async def test_a_header_that_would_split_the_request_is_refused(
    receiver: Receiver, client: httpx.AsyncClient
) -> None:
    with pytest.raises(OutboundError):
        await OutboundGuard(LOOPBACK).send(
            client, "GET", receiver.url(), headers={"X-A": "1\r\nX-B: 2"}
        )
    assert receiver.received == []
