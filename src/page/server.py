"""The page as a program: one address, answered by uvicorn."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from cxrlab.errors import UserError
from cxrlab.imports import check_installed
from cxrlab.page.desk import Desk
from cxrlab.page.limits import LOCAL, Limits
from cxrlab.page.worth import worth


class Page:
    """What a browser is shown.

    Args:
        desk: Examines files.
        host: The address that is listened on, for the guard.
        max_upload_mb: See :class:`cxrlab.page.api.Api`.
        max_waiting: Likewise.
        limits: What a client may do; ``None``: as :class:`cxrlab.page.limits.Limits` has them.

    Attributes:
        known: What each model is worth.
        app: The whole as an ASGI application.

    Raises:
        MissingLibraryError: The extra ``app`` is not installed.
        ValueError: A limit is out of its range.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        host: str = "127.0.0.1",
        max_upload_mb: float = 64,
        max_waiting: int = 16,
        limits: Limits | None = None,
    ) -> None:
        for library in ("starlette", "uvicorn"):
            check_installed(library, "the page")
        from cxrlab.page.api import Api  # here, since they import optional libraries
        from cxrlab.page.guard import Guard

        self.known = [worth(predictor) for predictor in desk.predictors]
        self._limits = limits or Limits()
        self._api = Api(desk, self.known, max_upload_mb=max_upload_mb, max_waiting=max_waiting, limits=self._limits)
        self.app = Guard(self._api, host)
        self._server: Any = None

    def serve(self, listening: socket.socket, ready: Callable[[], object] = lambda: None) -> None:
        """Answers until Ctrl-C, SIGTERM, or until :meth:`stop` is called in another thread.

        A file that is being examined at that moment is not waited for: nothing interrupts its thread.

        Args:
            listening: As :func:`open_socket` gives it; closed at the end.
            ready: Called when the first request can be answered.
        """
        from cxrlab.page.connections import Server  # likewise

        self._server = Server(self.app, self._limits, ready)
        try:
            self._server.run(sockets=[listening])
        finally:
            listening.close()
            self._api.close()

    def stop(self) -> None:
        """Ends :meth:`serve`."""
        if self._server is not None:
            self._server.should_exit = True


def open_socket(host: str, port: int) -> socket.socket:
    """Takes an address before anything else is done, which may take a while.

    Args:
        host: Address or name of this machine.
        port: 0 to 65535; 0: any that is free.

    Raises:
        UserError: It is taken, or is none of this machine.
    """
    bare = host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port: {port} on {host} is taken by another program; port=0 takes any that is free"
            ) from None
        if error.errno == errno.EACCES:
            raise UserError(f"port: {port} may not be used by you; port=7860 or any above 1023 may") from None
        raise UserError(f"host: {host} is no address of this machine ({error.strerror}); host=127.0.0.1 is") from None
    return listening


def address(host: str, listening: socket.socket) -> str:
    """What to type into a browser on this machine."""
    bare = host.strip("[]")
    shown = "127.0.0.1" if bare in ("0.0.0.0", "::", "") else f"[{bare}]" if ":" in bare else bare
    return f"http://{shown}:{listening.getsockname()[1]}/"


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host.strip("[]").lower() in LOCAL
