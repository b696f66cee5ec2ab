"""Which addresses may an HTTP node ask? Public ones; private ones only if both the node and the machine allow it.

A definition may come from somebody who has no business inside the network that runs it, and an answer may redirect
anywhere. So the address that a name resolves to is what is looked at, and the connection is made to that very
address: a name that resolves to another one a moment later gains nothing.

What is public is what the registries of IANA say is globally reachable
(https://www.iana.org/assignments/iana-ipv4-special-registry, and the same for IPv6), multicast excepted; addresses
that carry another one inside (IPv4-mapped, NAT64, 6to4) are as public as that one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from stepwell.errors import DefinitionError
from stepwell.nodes.parts.errors import HttpNoAnswer, HttpRefused

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

VARIABLE: Final = "STEPWELL_HTTP_ALLOW"
"""The environment variable that names the private addresses which nodes with `allow_private` may ask."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_LOW_BITS: Final = 0xFFFFFFFF
_NUMERIC = re.compile(r"(\d+|0[xX][0-9a-fA-F]*)")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")


class AllowList(msgspec.Struct, frozen=True):
    """Hosts, addresses and networks (`10.1.0.0/16`) that are not public and may be asked nevertheless."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def permits(self, host: str, address: Address) -> bool:
        """Whether the address may be asked under this name."""
        return host in self.hosts or any(address in network for network in self.networks)


def read_allow_list(text: str, place: str = VARIABLE) -> AllowList:
    """An allow-list from its text: hosts, addresses and networks, separated by commas.

    Raises:
        DefinitionError: an entry is none of them; `place` is named.
    """
    hosts, networks = set(), []
    for entry in (one.strip() for one in text.split(",")):
        if not entry:
            continue
        try:
            networks.append(ipaddress.ip_network(entry.strip("[]")))
        except ValueError as error:
            host = entry.lower().rstrip(".")
            if "/" in entry or not _HOST.fullmatch(host) or _NUMERIC.fullmatch(host.rpartition(".")[2]):
                raise DefinitionError(
                    f"{place}: {entry!r} is no host, address or network ({error}); write names such as shop.internal, "
                    "addresses, or networks such as 10.1.0.0/16, separated by commas"
                ) from None
            hosts.add(host)
    return AllowList(frozenset(hosts), tuple(networks))


async def permitted(host: str, port: int, allow: AllowList | None) -> list[Address]:
    """The addresses of a host that may be asked, in the order in which to try them; never empty.

    `allow` is None when the node does not allow private addresses.

    Raises:
        HttpRefused: all of its addresses are private and not allowed, or it is written as none should be.
        HttpNoAnswer: the name cannot be resolved now.
    """
    name = host.lower().strip("[]").rstrip(".")
    found = await _addresses(name, port)
    taken = [one for one in found if is_public(one) or (allow is not None and allow.permits(name, one))]
    if not taken:
        raise HttpRefused(_explained(name, found[0], allow))
    return taken


def is_public(address: Address) -> bool:
    """Whether the address is anybody's to ask: globally reachable, and one machine's."""
    for inner in _inside(address):
        if not inner.is_global or inner.is_multicast or inner.is_reserved or inner.is_unspecified:
            return False
    return True


def _inside(address: Address) -> Iterator[Address]:
    """The addresses that count: the one that another carries inside, or itself."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64 or address in _COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & _LOW_BITS)
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    else:
        yield address


async def _addresses(name: str, port: int) -> list[Address]:
    literal = _literal(name)
    if literal is not None:
        return [literal]
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HttpNoAnswer(f"the host {name!r} cannot be resolved: {error}") from None
    found = dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries)
    if not found:
        raise HttpNoAnswer(f"the host {name!r} has no address")
    return list(found)


def _literal(name: str) -> Address | None:
    """The address that the host itself is.

    Raises:
        HttpRefused: it is a number in a form (one number, octal, hexadecimal, too short) that systems read differently.
    """
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        if ":" in name or _NUMERIC.fullmatch(name.rpartition(".")[2]):
            raise HttpRefused(
                f"the host {name!r} is an address in a form that is read in different ways; write it as 192.0.2.1 or "
                "2001:db8::1, or give a name"
            ) from None
        return None


def _explained(name: str, address: Address, allow: AllowList | None) -> str:
    found = f"the host {name!r}" if name == str(address) else f"the host {name!r} is at {address}, which"
    if allow is None:
        remedy = f"set allow_private: true in the node, and name it in {VARIABLE} where the engine runs"
    else:
        remedy = f"name it in {VARIABLE} where the engine runs, such as {VARIABLE}={address}"
    return f"{found} is not public (loopback, private, link-local and the like); if it is meant: {remedy}"
