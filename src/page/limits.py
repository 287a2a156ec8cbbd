"""How long a client of the page may take, and how much of it one client may have."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields

from cxrlab.errors import check_range

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names and addresses under which a machine reaches itself."""


@dataclass(frozen=True)
class Limits:
    """Limits of one connection and of all together; seconds, or counts.

    Attributes:
        head: Seconds in which the head of a request has to arrive, from the connection or from the answer before it.
        pause: Seconds that an upload may stand still.
        upload: Seconds that an upload may take in all.
        answer: Seconds in which an answer has to be taken.
        connections: At a time.
        per_address: At a time, of an address of another machine; this one's own is that of all programs, a proxy too.

    Raises:
        ValueError: A limit is out of its range.
    """

    head: float = 10
    pause: float = 10
    upload: float = 60
    answer: float = 30
    connections: int = 128
    per_address: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            whole = field.name in ("connections", "per_address")
            check_range(field.name, getattr(self, field.name), 1 if whole else 0, low_open=not whole, integer=whole)


def is_this_machine(address: str) -> bool:
    """Whether an address that connected is one of this machine's own: 127.0.0.1, ::1 and the like."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
