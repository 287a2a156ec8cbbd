"""Addresses: what is listened on, what is told, and what is wrong with it."""

from __future__ import annotations

import errno
import socket
from unittest import mock

import pytest

from cxrlab.errors import UserError
from cxrlab.inference import Predictor
from cxrlab.page import Desk, Page, open_socket
from cxrlab.page.server import address, is_local


@pytest.mark.parametrize(
    ("host", "shown", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "localhost", True),
        ("[::1]", "[::1]", True),
        ("0.0.0.0", "127.0.0.1", False),
    ],
)
def test_an_address_can_be_typed_into_a_browser(host: str, shown: str, local: bool) -> None:
    try:
        listening = open_socket(host, 0)
    except UserError:
        if ":" not in host:
            raise
        pytest.skip("NOT CHECKED: this machine has no IPv6")
    with listening:
        assert address(host, listening) == f"http://{shown}:{listening.getsockname()[1]}/"
        assert is_local(host) == local


def test_what_is_wrong_with_an_address_is_a_sentence() -> None:
    denied = OSError(errno.EACCES, "Permission denied")
    unknown = socket.gaierror(-2, "Name or service not known")
    with (
        mock.patch.object(socket.socket, "bind", side_effect=denied),
        pytest.raises(UserError, match=r"port: 80 may not be used by you; port=7860"),
    ):
        open_socket("127.0.0.1", 80)
    with (
        mock.patch("socket.getaddrinfo", side_effect=unknown),
        pytest.raises(UserError, match=r"host: nowhere\.invalid is no address of this machine \(Name or"),
    ):
        open_socket("nowhere.invalid", 0)


def test_a_page_that_was_never_started_can_be_stopped(predictor: Predictor) -> None:
    Page(Desk([predictor])).stop()
