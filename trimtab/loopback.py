"""Whether an address is one that only this machine can reach."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's loopback: 127.0.0.1, ::1, localhost and their like."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
