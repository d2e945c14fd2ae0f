"""The one door for calls to other people's servers; guards against server-side request forgery.

Users choose the URLs of webhooks and HTTP steps, so a URL may point, or by DNS be made to point,
at our own machines. The guard resolves the host once, refuses every address that is not public,
and connects to exactly the address it has checked (no second look-up that DNS rebinding could
answer differently). Redirects are never followed.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from core.errors import IoTLinkerError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_BODY = 1024 * 1024
"""Bytes of a response's body that are read; the rest is cut off."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_IPV4_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291, 2.4: all that is assigned to the internet
# Beside what `ipaddress` knows: its tables differ between versions of Python.
_REFUSED: tuple[Network, ...] = (
    IPv4Network("100.64.0.0/10"),  # RFC 6598, carrier-grade NAT; holds 100.100.100.200 (metadata)
    IPv4Network("168.63.129.16/32"),  # Azure's wire server: a public address, yet inside the cloud
    IPv4Network("192.0.0.0/24"),  # RFC 6890, protocol assignments; holds 192.0.0.192 (metadata)
    IPv4Network("192.88.99.0/24"),  # RFC 7526, 6to4 relays
    IPv6Network("2001::/23"),  # RFC 2928, protocol assignments; holds Teredo
    IPv6Network("2001:db8::/32"),  # RFC 3849, documentation
    IPv6Network("2002::/16"),  # RFC 3056, 6to4
    IPv6Network("3fff::/20"),  # RFC 9637, documentation
)


class BlockedAddressError(IoTLinkerError):
    """The URL may not be called: its form, or the address it leads to, is refused."""

    code, status, title = "blocked_address", 422, "Address not allowed"


class OutboundError(IoTLinkerError):
    """The other server could not be reached or did not speak HTTP."""

    code, status, title = "outbound_failed", 502, "Call to another server failed"


class OutboundTimeoutError(OutboundError):
    """The other server took too long."""

    code, status, title = "outbound_timeout", 504, "Call to another server timed out"


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A URL that may be called, and the only addresses it may be called at.

    Attributes:
        url: As given, normalised.
        addresses: Checked addresses, in the order in which they should be tried.
    """

    url: httpx.URL
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """What the other server answered.

    Attributes:
        body: At most the asked-for number of bytes, not decompressed.
        truncated: There was more.
    """

    status_code: int
    headers: httpx.Headers
    body: bytes
    truncated: bool


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host from the system's resolver, best first.

    Raises:
        OSError: The name is unknown, or no name server answers.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def embedded_address(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet (no metadata services, no tunnels)."""
    real = embedded_address(address)
    return (
        real.is_global
        and not real.is_multicast
        and not real.is_reserved
        and (isinstance(real, IPv4Address) or real in _GLOBAL_UNICAST)
        and not any(real in network for network in _REFUSED)
    )


class OutboundGuard:
    """Checks and makes outbound calls.

    Args:
        allow_networks: Networks that may be called although they are not public.
        resolver: Look-up of host names; the system's by default.
        resolve_timeout: Seconds for one look-up.
    """

    def __init__(
        self,
        allow_networks: Iterable[Network],
        *,
        resolver: Resolver = resolve,
        resolve_timeout: float = 5.0,
    ) -> None:
        self._allowed = tuple(allow_networks)
        self._resolve = resolver
        self._resolve_timeout = resolve_timeout

    async def check(self, url: str | httpx.URL) -> ResolvedTarget:
        """Resolve a URL and refuse it unless every address it has may be called.

        Raises:
            BlockedAddressError: Not http or https, has a user or password, or leads to an address
                that is neither public nor allowed.
            OutboundError: The host name does not resolve.
            OutboundTimeoutError: No name server answered in time.
        """
        target = self.check_form(url)
        port = target.port or _DEFAULT_PORTS[target.scheme]
        try:
            async with asyncio.timeout(self._resolve_timeout):
                found = await self._resolve(_ascii_host(target), port)
        except TimeoutError as error:
            raise OutboundTimeoutError(f"the name {target.host} did not resolve in time") from error
        except (OSError, UnicodeError) as error:
            raise OutboundError(f"the name {target.host} does not resolve") from error
        # A scope (`fe80::1%eth0`) is of no use to a public address.
        addresses = tuple(ip_address(text.partition("%")[0]) for text in found)
        if not addresses:
            raise OutboundError(f"the name {target.host} has no address")
        for address in addresses:
            if not (is_public(address) or self._is_allowed(address)):
                raise BlockedAddressError(
                    f"{target.host} leads to {address}, which outbound calls may not reach"
                )
        return ResolvedTarget(target, addresses)

    def check_form(self, url: str | httpx.URL) -> httpx.URL:
        """Check what needs no look-up, for forms that people fill in.

        Raises:
            BlockedAddressError: Malformed, not http or https, without a host, or with a user.
        """
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise BlockedAddressError(f"the URL is malformed: {error}") from error
        if target.scheme not in _DEFAULT_PORTS:
            raise BlockedAddressError("the URL must begin with http:// or https://")
        if target.userinfo:
            raise BlockedAddressError("the URL must not contain a user or password")
        if not target.host:
            raise BlockedAddressError("the URL has no host")
        if target.port is not None and not 0 < target.port < 65536:
            raise BlockedAddressError("the URL's port is not between 1 and 65535")
        return target

    async def send(
        self,
        client: httpx.AsyncClient,
        method: str,
        url: str | httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        timeout: float = 15.0,
        max_body: int = MAX_BODY,
    ) -> OutboundResponse:
        """Make one call to a checked address and read a bounded part of the answer.

        Args:
            client: Whose connections are used; must not go through a proxy.
            method: HTTP method.
            url: Where to; checked here.
            headers: Sent as given, except those of the connection itself (`Host`, `Connection`,
                `Accept-Encoding`, `Content-Length`, `Transfer-Encoding`).
            content: The body, sent byte for byte.
            timeout: Seconds for everything: look-up, connection, answer.
            max_body: Bytes of the answer's body to read.

        Raises:
            BlockedAddressError: See `check`.
            OutboundTimeoutError: It took longer than `timeout`.
            OutboundError: No connection, a bad certificate, or an answer that is not HTTP.
        """
        try:
            async with asyncio.timeout(timeout):
                target = await self.check(url)
                requests = [
                    _request(method, target.url, address, headers, content, timeout)
                    for address in target.addresses
                ]
                for request in requests[:-1]:
                    try:
                        return await _exchange(client, request, max_body)
                    except httpx.ConnectError:
                        continue  # nothing was sent; the next address may answer
                return await _exchange(client, requests[-1], max_body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise OutboundTimeoutError(f"no complete answer within {timeout:g} s") from error
        except httpx.HTTPError as error:
            raise OutboundError(str(error) or type(error).__name__) from error

    def _is_allowed(self, address: Address) -> bool:
        # An allowed IPv4 network covers the same addresses written as IPv6, and nothing else.
        real = embedded_address(address)
        return any(real in network or address in network for network in self._allowed)


def _request(
    method: str,
    url: httpx.URL,
    address: Address,
    headers: Mapping[str, str] | None,
    content: bytes,
    timeout: float,
) -> httpx.Request:
    merged = httpx.Headers(headers)
    for framing in ("Content-Length", "Transfer-Encoding"):  # follows from the content alone
        merged.pop(framing, None)
    merged["Host"] = url.netloc.decode("ascii")
    # Connections are pooled by address: one that was opened, and whose certificate was checked,
    # for one name must not serve another name at the same address.
    merged["Connection"] = "close"
    # A compressed answer could unpack to a thousand times the bytes that were read.
    merged["Accept-Encoding"] = "identity"
    merged.setdefault("User-Agent", "IoTLinker")
    extensions: dict[str, object] = {"timeout": httpx.Timeout(timeout).as_dict()}
    if url.scheme == "https":
        extensions["sni_hostname"] = _ascii_host(url)  # also what the certificate must be for
    # Built without the client, which would add the cookies of other calls.
    return httpx.Request(
        method,
        url.copy_with(host=str(address)),
        headers=merged,
        content=content,
        extensions=extensions,
    )


async def _exchange(
    client: httpx.AsyncClient, request: httpx.Request, max_body: int
) -> OutboundResponse:
    response = await client.send(request, stream=True, follow_redirects=False, auth=None)
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_body:
                break
    finally:
        await response.aclose()
        client.cookies.clear()  # the client keeps them although we never send any
    return OutboundResponse(
        response.status_code, response.headers, bytes(body[:max_body]), len(body) > max_body
    )


def _ascii_host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")  # internationalised names in their ASCII form
