"""Which addresses a URL out of a stranger's document may lead to, enforced where the socket is made.

The check sees the very address that is connected to, so a literal IP, a name that resolves to a private one,
a redirect and a name that changes between look-up and connection (DNS rebinding) all meet the same wall.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Address = IPv4Address | IPv6Address

# What some releases of Python 3.11 to 3.13 call global, and no picture lives on.
_NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "240.0.0.0/4",  # reserved, and broadcast
        "::/96",  # IPv4-compatible, RFC 4291
        "64:ff9b:1::/48",  # NAT64 of the local network, RFC 8215
        "100::/64",  # discard, RFC 6666
        "2001:2::/48",  # benchmarks, RFC 5180
        "2001:10::/28",  # ORCHID, RFC 4843
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
        "fc00::/7",  # unique local
        "fec0::/10",  # site-local, RFC 3879
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_REFUSAL = "is not a public address"


class PrivateAddressError(OSError):
    """A connection to an address that is not public was asked for; none was made."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Makes sockets to permitted addresses only: the `socket_factory` of an aiohttp connector.

    Attributes:
        allow_private: permit every address.
        allow_networks: networks permitted although not public, such as 10.1.0.0/16.
    """

    allow_private: bool = False
    allow_networks: tuple[str, ...] = ()

    def permits(self, text: str) -> bool:
        """Whether a numeric address (IPv6 perhaps with a zone, as in fe80::1%eth0) may be connected to."""
        if self.allow_private:
            return True
        address = ip_address(text.partition("%")[0])
        return is_public(address) or any(address in ip_network(network) for network in self.allow_networks)

    def __call__(self, addr_info: Sequence[Any]) -> socket.socket:
        """A socket for a `getaddrinfo` tuple.

        Raises:
            PrivateAddressError: its address is not permitted.
        """
        family, kind, protocol, _, address = addr_info
        if not self.permits(address[0]):
            raise PrivateAddressError(f"{address[0]} {_REFUSAL}")
        return socket.socket(family, kind, protocol)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet; one that carries IPv4 is judged by that."""
    carried = _carried(address)
    if carried is not None:
        return is_public(carried)
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        return False
    return not any(address in network for network in _NEVER)


def is_refusal(error: OSError) -> bool:
    """Whether a connection failed because of `Guard`; a name with several addresses is told by the text."""
    return isinstance(error, PrivateAddressError) or _REFUSAL in str(error)


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour
