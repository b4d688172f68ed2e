"""Hosts that a record may not name: at these a cloud gives the credentials of a machine to whoever asks from there."""

import ipaddress
import socket

from pyapi_airflow.etl.failures import Refused

# Not link-local, and yet answered by the cloud itself: of AWS over IPv6, of Alibaba.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))


def check_host(host: str, *, shown: str) -> None:
    """Raises Refused for one of them, and OSError for a host without an address. `shown` is its name for people."""
    for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        address = ipaddress.ip_address(str(found[4][0]).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or address in _METADATA:
            raise Refused(f"{shown} is an address of this machine's own network: it is not asked.")
