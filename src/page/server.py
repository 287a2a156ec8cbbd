"""uvicorn, with limits: a client that takes too long, or too many connections, loses them.

uvicorn limits neither the time in which the head of a request has to arrive nor the time in which an answer has to be
taken, and its limit on connections turns honest visitors away while others hold theirs and send nothing.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cxrlab.errors import UserError, check_range
from cxrlab.page.guard import ANY, LOCAL, is_this_machine

_LONGEST_HEAD = 16_384  # bytes
_ACCEPTED = 4  # connections at a time, between which those that are there are read
_BACKLOG = 1024  # connections that the system may hold until they are accepted


@dataclass(frozen=True)
class Limits:
    """Limits of one connection and of all together; one that is out of its range is a ValueError."""

    head: float = 10  # seconds in which the head of a request has to arrive, after the connection or the last answer
    pause: float = 10  # seconds that an upload may stand still
    upload: float = 60  # seconds that an upload may take in all
    answer: float = 30  # seconds in which an answer has to be taken
    connections: int = 128  # at a time
    per_address: int = 32  # of another machine; this one's own is that of all programs, a proxy too

    def __post_init__(self) -> None:
        for field in fields(self):
            whole = field.name in ("connections", "per_address")
            check_range(field.name, getattr(self, field.name), 1 if whole else 0, low_open=not whole, integer=whole)


class Connection(H11Protocol):
    """One connection, whose client may do what ``limits`` say; the other arguments are uvicorn's own."""

    def __init__(self, limits: Limits, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._state: tuple[str, object] = ("head", None)
        self._since = self.loop.time()
        self._dropped = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room where there are too many: the connection goes that has waited longest for its client."""
        super().connection_made(transport)
        every = [each for each in self.connections if isinstance(each, Connection) and not each._dropped]
        address = (self.client or ("",))[0]
        alike = [each for each in every if each.client and each.client[0] == address and not is_this_machine(address)]
        for found, most in ((alike, self._limits.per_address), (every, self._limits.connections)):
            if len(found) > most and not self._dropped:
                waiting = [each for each in found if each is not self and each._waits_for()]
                # An upload goes last: until its head is there, a connection has cost its client nothing.
                min(waiting, key=lambda each: (each._waits_for() == "body", each._since), default=self)._drop()

    def check(self) -> None:
        """Closes the connection where its client has taken too long; called ten times a second."""
        state = (self._waits_for(), self.cycle)
        if state != self._state:
            self._state, self._since = state, self.loop.time()
        longest = {"head": self._limits.head, "answer": self._limits.answer}.get(state[0], math.inf)
        if self.loop.time() - self._since > longest:
            self._drop()

    def _waits_for(self) -> str:
        """What the client has to do: take an ``answer``, send a ``head`` or a ``body``; empty: it is our turn."""
        if self.transport.get_write_buffer_size():
            return "answer"
        if self.cycle is None or self.cycle.response_complete:
            return "head"
        return "body" if self.cycle.more_body else ""

    def _drop(self) -> None:
        self._dropped = True
        self.transport.abort()  # close() would wait until everything is sent


class Server(uvicorn.Server):
    """Answers until Ctrl-C, SIGTERM or ``should_exit``; calls ``ready`` when it can answer the first request."""

    def __init__(self, app: ASGIApp, limits: Limits, ready: Callable[[], object]) -> None:
        settings = uvicorn.Config(
            app,
            http=functools.partial(Connection, limits),  # type: ignore[arg-type]
            h11_max_incomplete_event_size=_LONGEST_HEAD,
            log_config=None,
            log_level="critical",  # what a client does wrong is no line of the terminal; our guard tells of our errors
            access_log=False,  # of addresses and times of visits
            proxy_headers=False,  # nobody may say that he is somebody else
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=1,
            backlog=_ACCEPTED,
        )
        super().__init__(settings)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_BACKLOG)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Looks after all connections, ten times a second."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.check()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, waits a second for what is being answered, and closes every connection that is left.

        uvicorn leaves open what did not end within that second, and its loop ends with sockets that nobody closes.
        """
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.transport.abort()
        await asyncio.sleep(0)  # in which the loop closes what was aborted


def open_socket(host: str, port: int) -> socket.socket:
    """Takes an address of this machine before anything else is done, which may take a while; port 0: any that is free.

    Raises:
        UserError: It is taken, or is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        listening = socket.socket(family)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        said = {
            errno.EADDRINUSE: f"port: {port} on {host} is taken by another program; port=0 takes any that is free",
            errno.EACCES: f"port: {port} may not be used by you; port=7860 or any above 1023 may",
        }
        unknown = f"host: {host} is no address of this machine ({error.strerror}); host=127.0.0.1 is"
        raise UserError(said.get(error.errno or 0, unknown)) from None
    return listening


def address(host: str, listening: socket.socket) -> str:
    """What to type into a browser on this machine."""
    bare = host.strip("[]")
    shown = "127.0.0.1" if bare in ANY else f"[{bare}]" if ":" in bare else bare
    return f"http://{shown}:{listening.getsockname()[1]}/"


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host.strip("[]").lower() in LOCAL
