"""Where an address may lead that comes from data: a guard against requests that somebody else wants this process to make.

An address that is configured is trusted. One that stands in a document, an event, a value or an answer was written by somebody
who may want to be let in where only this process gets: it has to be ``http:`` or ``https:``, to name nobody's password, and to
lead to a public address at a port where services of the web are. Other networks have to be configured
(``CFM_OUTBOUND_NETWORKS``).

A name is looked up once, and the connection goes to just what was looked at: a second look could find something else.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from cfm_core.errors import FatalError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SCHEMES = {"http": 80, "https": 443}
"""What may stand in front, and which port is meant where none is named."""
LONGEST = 2048
"""Characters of an address."""

_FIRST_FREE_PORT = 1024
"""Below it there are services of other kinds, which could be made to take a request for something else."""
_METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)
"""Where clouds tell whoever asks what a machine may do: no network that holds them lets them in, only they themselves."""
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class RefusedDestinationError(FatalError):
    """An address leads where it must not."""


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system has them; raises OSError where there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where addresses in data may lead: to public addresses, and into ``networks``."""

    networks: tuple[Network, ...] = ()
    look_up: Callable[[str, int], list[str]] = look_up
    """Finds the addresses of a name."""

    @classmethod
    def of(cls, text: str) -> Destinations:
        """Those that ``CFM_OUTBOUND_NETWORKS`` says, with commas between them.

        Raises:
            FatalError: one is no network.
        """
        try:
            return cls(tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()))
        except ValueError as error:
            raise FatalError(f"CFM_OUTBOUND_NETWORKS: {error}") from None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Destinations:
        """Those of this process's environment."""
        return cls.of((os.environ if environ is None else environ).get("CFM_OUTBOUND_NETWORKS", ""))

    def check(self, url: str) -> tuple[str, int]:
        """Look at an address without looking up its name; gives host and port. For one that somebody else is going to ask.

        Raises:
            RefusedDestinationError: it leads where it must not, as far as can be seen; the message repeats its host alone.
        """
        host, port = _taken_apart(url)
        if (address := _literal(host)) is not None:
            self._check(host, port, [address])
        elif host.rstrip(".").lower() == "localhost" or host.rstrip(".").lower().endswith(".localhost"):
            self._check(host, port, [ipaddress.ip_address("127.0.0.1")])
        elif not _is_usual(port):
            raise _refused(host, f"port {port} is not one of the web's")
        return host, port

    def check_did(self, did: str) -> None:
        """The same for the address at which the document of a DID is, where its method has one.

        Raises:
            RefusedDestinationError: it leads where it must not, or there is no such address.

        Source: did:web method specification, section 3.2.
        """
        if did.startswith("did:web:"):
            host = unquote(did.removeprefix("did:web:").partition(":")[0].partition("#")[0])
            if any(letter in host for letter in "/?#"):
                raise RefusedDestinationError("a DID names no host, or one that cannot be")
            self.check(f"https://{host}/")

    def looked_up(self, host: str, port: int) -> list[str]:
        """The addresses of ``host``, any of which may be connected to; none if one of them must not be.

        Raises:
            RefusedDestinationError: it leads where it must not.
            OSError: nobody knows it.
        """
        try:
            found = self.look_up(host, port)
        except UnicodeError as error:
            raise OSError(f"{host[:100]!r} is no name") from error
        self._check(host, port, [ipaddress.ip_address(one.partition("%")[0]) for one in found])
        return found

    def connect(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """A connection to one of ``looked_up``.

        Raises:
            RefusedDestinationError: it leads where it must not.
            OSError: nobody knows it, or nobody answers.
        """
        failure: OSError | None = None
        for address in self.looked_up(host, port):
            try:
                return socket.create_connection((address, port), timeout)
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host} has no address")

    def _check(self, host: str, port: int, addresses: Iterable[Address]) -> None:
        for address in addresses:
            # Of what leads through another network, both ends count.
            for one in (*_within(address), address):
                if one in _METADATA:
                    known = any(
                        network.prefixlen == network.max_prefixlen and one in network for network in self.networks
                    )
                    if not known:
                        raise _refused(host, "that is where a cloud tells secrets")
                elif not any(one in network for network in self.networks):
                    if (kind := _not_public(one)) is not None:
                        raise _refused(host, f"it is {kind}, and not in CFM_OUTBOUND_NETWORKS")
                    if not _is_usual(port):
                        raise _refused(host, f"port {port} is not one of the web's")


def _taken_apart(url: str) -> tuple[str, int]:
    """Host and port of ``url``; what programs may understand in different ways is none."""
    if len(url) > LONGEST:
        raise RefusedDestinationError(f"an address has more than {LONGEST} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise RefusedDestinationError("an address has characters that none may have")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise RefusedDestinationError("an address cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise RefusedDestinationError("an address in data must be http: or https:")
    if "@" in parts.netloc:
        raise _refused(host, "it names a user")
    if not host or "%" in host or port == 0:
        raise RefusedDestinationError("an address names no host, or one that cannot be")
    return host, port or SCHEMES[parts.scheme]


def _literal(host: str) -> Address | None:
    """The address that ``host`` is, in any of the ways that systems understand: ``127.1`` and ``0x7f000001`` are, too."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return ipaddress.ip_address(str(found[0][4][0]).partition("%")[0])


def _within(address: Address) -> Iterable[Address]:
    """The IPv4 addresses that an IPv6 address is a way to."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 1):
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _not_public(address: Address) -> str | None:
    """What an address is that not everybody reaches; None for a public one."""
    kinds = {
        "loopback": address.is_loopback,
        "link-local": address.is_link_local,
        "unspecified": address.is_unspecified,
        "multicast": address.is_multicast,
        "private": address.is_private,
        "reserved": address.is_reserved or not address.is_global,
        "site-local": isinstance(address, ipaddress.IPv6Address) and address.is_site_local,
    }
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        # Counts as what is within.
        return None
    return next((kind for kind, is_one in kinds.items() if is_one), None)


def _is_usual(port: int) -> bool:
    return port in SCHEMES.values() or port >= _FIRST_FREE_PORT


def _refused(host: str, reason: str) -> RefusedDestinationError:
    return RefusedDestinationError(f"an address in data leads to {host[:100]!r}: {reason}")
