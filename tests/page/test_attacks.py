"""The page under attack, over real sockets: what a client may hold, and that others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
from PIL import Image
from starlette.responses import Response
from tests.page.conftest import Address, Serve, held, wait_for

from cxrlab.inference import Predictor
from cxrlab.page import Desk, Page
from cxrlab.page.api import _Film
from cxrlab.page.guard import Guard
from cxrlab.page.server import Limits
from cxrlab.reading.image import ReadImage, UnreadableError, read_image_bytes

LIMITS = Limits(head=0.4, pause=0.4, upload=1, answer=0.5, connections=24, per_address=12)
PLACES = 3
UPLOAD = b"POST /api/examine HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
SCRIPTS = 100 * b"GET /page/script.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
STATE = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def page(serve: Serve, predictor: Predictor) -> Iterator[Address]:
    with serve(Desk([predictor]), max_upload_mb=1, max_waiting=PLACES, limits=LIMITS) as address:
        yield address


@pytest.fixture
def honest(page: Address, film: bytes) -> Iterator[None]:
    """Somebody else, who is answered before, during and after."""
    seen: list[int] = []
    over = threading.Event()

    def visit() -> None:
        while True:
            seen.append(page.ask("POST", "/api/examine", film)[0])
            if over.wait(0.05):
                return

    visitor = threading.Thread(target=visit)
    visitor.start()
    yield
    over.set()
    visitor.join(20)
    assert set(seen) == {200}
    assert page.ask("POST", "/api/examine", film)[0] == 200


_OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Nothing of a test is open after it."""
    yield
    while _OPEN:
        _OPEN.pop().close()


def connected(page: Address, source: str = "127.0.0.1") -> socket.socket:
    _OPEN.append(page.connected(source))
    return _OPEN[-1]


def deaf() -> socket.socket:
    """A client that takes little of an answer; not connected yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    _OPEN.append(connection)
    return connection


def insist(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(SCRIPTS)
        time.sleep(0.05)


def ended(connection: socket.socket) -> bytes:
    """All that the server says until it closes the connection, which it has to do."""
    said = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return said
        if not part:
            return said
        said += part


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        connection.settimeout(20)


def trickle(connection: socket.socket, data: bytes, seconds: float = 10) -> float:
    """Sends a byte ten times a second; the seconds until the server has closed the connection."""
    began = time.monotonic()
    for byte in data:
        if time.monotonic() - began > seconds or not is_open(connection):
            break
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            break
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.usefixtures("honest")
def test_a_connection_that_sends_nothing_is_closed(page: Address) -> None:
    silent = [connected(page) for _ in range(8)]
    began = time.monotonic()
    assert [ended(each) for each in silent] == [b""] * 8
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize("head", [STATE[:-2] + b"X-A: " + b"a" * 100, b"\r\n" * 100, b"G" * 100])
def test_a_head_that_never_ends_is_closed_however_often_a_byte_comes(page: Address, head: bytes) -> None:
    with connected(page) as connection:
        assert trickle(connection, head) < 5


@pytest.mark.usefixtures("honest")
def test_so_is_the_second_head_of_a_connection(page: Address) -> None:
    with connected(page) as connection:
        connection.sendall(STATE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert 0.3 < trickle(connection, STATE[:-4] + b"a" * 100) < 5


@pytest.mark.usefixtures("honest")
def test_slow_uploads_hold_no_place_and_end(page: Address) -> None:
    """More of them than there are places, each never silent for long."""
    with mock.patch.dict(vars(LIMITS), upload=3, pause=2):  # a busy machine sends them late
        slow = [connected(page) for _ in range(2 * PLACES)]
        for each in slow:
            each.sendall(UPLOAD)
        for _ in range(5):
            for each in slow:
                each.sendall(b"x")
            time.sleep(0.1)
            assert json.loads(page.ask("GET", "/api/state")[2])["in_line"] <= 1  # the honest visitor's
        threads = [threading.Thread(target=trickle, args=(each, b"x" * 100)) for each in slow]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        said = [ended(each) for each in slow]
        assert {each[:13] for each in said} == {b"HTTP/1.1 408 "}
        assert b"took more than 3 s; send it again." in said[0]


@pytest.mark.usefixtures("honest")
def test_one_address_has_so_many_connections_and_its_longest_waiting_goes(page: Address) -> None:
    with mock.patch("cxrlab.page.server.is_this_machine", return_value=False):
        opened = [connected(page) for _ in range(2 * LIMITS.per_address)]
        opened[-1].sendall(STATE)
        assert opened[-1].recv(100).startswith(b"HTTP/1.1 200 ")
    assert sum(is_open(each) for each in opened) <= LIMITS.per_address
    assert not any(is_open(each) for each in opened[: LIMITS.per_address // 2])


@pytest.mark.usefixtures("honest")
def test_all_addresses_together_have_so_many(page: Address) -> None:
    with mock.patch.dict(vars(LIMITS), head=30):
        try:
            opened = []
            for number in range(5 * 8):
                opened.append(connected(page, f"127.0.0.{number // 8 + 2}"))
                time.sleep(0.01)  # the honest visitor runs in this process, too, and has to say what it wants
        except OSError:
            pytest.skip("NOT CHECKED: 127.0.0.2 is no address of this machine")
        wait_for(lambda: sum(is_open(each) for each in opened) <= LIMITS.connections)
        assert is_open(opened[-1])


def test_a_flood_of_connections_keeps_nobody_out(serve: Serve, predictor: Predictor, film: bytes) -> None:
    over = threading.Event()

    def flood(page: Address) -> None:
        while not over.is_set():
            connected(page)
            if len(_OPEN) > 300:
                _OPEN.pop(0).close()

    with serve(Desk([predictor])) as page, ThreadPoolExecutor(1) as attacker:
        attacker.submit(flood, page)
        try:
            assert [page.ask("POST", "/api/examine", film)[0] for _ in range(5)] == [200] * 5
        finally:
            over.set()


@pytest.mark.usefixtures("honest")
def test_one_that_does_not_read_is_given_up(page: Address) -> None:
    connection = deaf()
    connection.connect((page.host, page.port))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        insist(connection)


def test_one_that_does_not_read_is_left_no_connection_when_the_page_ends(serve: Serve, predictor: Predictor) -> None:
    connection = deaf()
    with serve(Desk([predictor]), limits=Limits(answer=300)) as page:
        connection.connect((page.host, page.port))
        assert page.page._server is not None
        state = page.page._server.server_state
        while not any(each.transport.get_write_buffer_size() for each in state.connections):
            connection.sendall(SCRIPTS)
            time.sleep(0.05)
    assert not state.connections
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(100_000):  # a connection that was left open would end in a timeout here
            pass


@pytest.mark.usefixtures("honest")
def test_a_film_that_nobody_takes_holds_a_place_until_it_is_given_up(page: Address) -> None:
    """Lossless pixels are many times the bytes of the file that was sent for them."""

    def waiting() -> int:
        return sum(not each.done() for each in list(taken))

    taken: list[Future[None]] = []
    made = _Film.__init__

    def noted(film: _Film, *arguments: Any, **options: Any) -> None:
        made(film, *arguments, **options)
        taken.append(film.taken)

    with (
        mock.patch.object(Desk, "film", return_value=(bytes(50_000_000), None)),
        mock.patch.object(_Film, "__init__", noted),
        mock.patch.dict(vars(LIMITS), answer=2),
    ):
        connection = connected(page)
        connection.sendall(b"POST /api/film HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        # A thread makes the film; it is in line as soon as the loop has it from there.
        wait_for(lambda: bool(taken) and any(future is taken[0] for _, future in page.page._line))
        assert waiting() == 1
        server = page.page._server
        assert server is not None
        buffers = [each.transport.get_write_buffer_size() for each in server.server_state.connections]
        assert max(buffers) < 2_000_000  # of fifty
        wait_for(lambda: not waiting())
        assert len(ended(connection)) < 50_000_000


@pytest.mark.usefixtures("honest")
def test_memory_of_uploads_has_an_end_and_the_oldest_is_given_up(page: Address) -> None:
    """Each within the limit of one, all together over that of all: whoever comes later is served."""
    with mock.patch.dict(vars(LIMITS), upload=30, pause=30):
        large = [connected(page) for _ in range(2 * PLACES)]
        for each in large:
            each.sendall(UPLOAD.replace(b"100000", b"1000000") + bytes(900_000))
            time.sleep(0.05)
        assert ended(large[0]).startswith(b"HTTP/1.1 408 ")
        assert is_open(large[-1])


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    "path",
    [
        *("/assets/" + "a/" * 3000 + "b", "/assets/" + "a" * 300, "/static/" + "%61" * 300, "/" + "a" * 60000),
        *("/assets/%00", "/assets/x%00.js", "/static/%ff", "/assets/%C3%A9.js", "/static/%2e%2e/%2e%2e/etc/passwd"),
        *("/assets/..%2f..%2fetc%2fpasswd", "//etc/passwd", "/page/card/%00", "/api/examine%00", "/%", "/%zz", "*"),
        *("/api/state?" + "a" * 5000, "/page/card/" + "9" * 900, "http://evil.example/", "/assets/%0d%0aX:y", "/;/../"),
    ],
)
def test_no_path_fails_inside(page: Address, path: str, caplog: pytest.LogCaptureFixture) -> None:
    for method in ("GET", "POST", "HEAD"):
        with connected(page) as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            said = ended(connection)
        assert said.startswith(b"HTTP/1.1 4"), (method, said[:200])
        assert b"root:" not in said
    assert not caplog.text


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    "head",
    [
        *(b"TRACE / HTTP/1.1", b"CONNECT evil.example:80 HTTP/1.1", b"PUT /api/examine HTTP/1.1", b"get / HTTP/1.1"),
        *(b"M-SEARCH * HTTP/1.1", b"PRI * HTTP/2.0", b"GET / HTTP/1", b"GET /", b"OPTIONS * HTTP/1.1"),
        *(b"\x16\x03\x01\x02\x00\x01", b"GET \xff"),
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5000)),
        b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000,
        b"GET /api/state HTTP/1.1\r\nHost: evil.example",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nHost: evil.example\r\nConnection: Upgrade, close",
    ],
)
def test_odd_methods_versions_and_heads_are_refused(
    page: Address, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    more = b"" if b"Host:" in head else b"\r\nHost: localhost"
    with connected(page) as connection:
        with contextlib.suppress(OSError):  # it was refused before it was sent
            connection.sendall(head + more + b"\r\nConnection: close\r\n\r\n")
        said = ended(connection)
    assert said[:10] in (b"HTTP/1.1 4", b""), said[:200]
    assert not caplog.text


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    "lengths",
    [
        *(b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5, 6", b"Content-Length: -5"),
        *(b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        *(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"Transfer-Encoding: chunked"),
        *(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, identity"),
        *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding : chunked"),
        *(b"Content-Length : 5", b"Transfer-Encoding:\x0bchunked", b"Content-Length: 1e3"),
        *(b"Content-Length: " + b"9" * digits for digits in (18, 30, 5000)),
    ],
)
def test_a_request_of_two_readings_is_refused_and_nothing_behind_it_is_answered(
    page: Address, lengths: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Request smuggling: what one program takes for the end of a body, another takes for the middle of it."""
    with connected(page) as connection:
        head = b"POST /api/examine HTTP/1.1\r\nHost: localhost\r\n" + lengths + b"\r\n\r\n"
        connection.sendall(head + b"0\r\n\r\n" + STATE)
        said = ended(connection)
    assert said[:8] == b"HTTP/1.1", said[:200]
    if lengths == b"Transfer-Encoding: chunked":
        assert said[8:13] == b" 411 "
    else:
        assert said[8:13] in ((b" 400 ", b" 411 ", b" 501 ") if b"Transfer" in lengths else (b" 400 ", b" 413 "))
    assert said.count(b"HTTP/1.1") == 1
    assert b"in_line" not in said
    assert not caplog.text


@pytest.mark.usefixtures("honest")
def test_a_body_nobody_reads_keeps_no_connection(page: Address) -> None:
    with connected(page) as connection:
        connection.sendall(UPLOAD.replace(b"/api/examine", b"/page/style.css") + b"x")
        assert connection.recv(100).startswith(b"HTTP/1.1 404 ")
        assert trickle(connection, b"x" * 100) < 5


def test_files_of_visitors_who_left_are_not_examined(serve: Serve, predictor: Predictor, film: bytes) -> None:
    def send(site: Address, name: str, in_line: int) -> socket.socket:
        connection = connected(site)
        head = f"POST /api/examine HTTP/1.1\r\nHost: localhost\r\nX-File-Name: {name}\r\nContent-Length: {len(film)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + film)
        wait_for(lambda: site.in_line == in_line)
        return connection

    with (
        mock.patch("cxrlab.page.api._DECODING", 1),
        held(Desk, "examine") as (go, looked),
        serve(Desk([predictor]), max_waiting=PLACES) as site,
    ):
        first = send(site, "first", 1)
        gone = [send(site, "gone", 1 + number) for number in range(1, PLACES)]
        assert site.ask("POST", "/api/examine", film)[0] == 503
        for each in gone:
            each.close()
        wait_for(lambda: site.in_line == 1)
        stays = send(site, "stays", 2)
        go.set()
        for each in (first, stays):
            assert each.recv(100).startswith(b"HTTP/1.1 200 ")
    assert [name for _, name, _ in looked] == ["first", "stays"]


@pytest.mark.parametrize(
    ("address", "status"), [("192.0.2.1", 503), ("192.0.2.2", 200), ("127.0.0.1", 200), ("::ffff:127.0.0.1", 200)]
)
def test_an_address_of_another_machine_has_half_of_the_places(
    predictor: Predictor, film: bytes, address: str, status: int
) -> None:
    """On this machine all programs are one address, and so is everybody behind a proxy on it."""
    page = Page(Desk([predictor]), max_waiting=4)
    scope = {"type": "http", "path": "/api/examine", "method": "POST", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")]}

    async def asked(client: str) -> int:
        parts: list[Any] = [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return parts.pop() if parts else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await page.app({**scope, "client": (client, 1)}, receive, send)
        return int(sent[0]["status"])

    async def together(go: threading.Event) -> int:
        first = [asyncio.create_task(asked(each)) for each in ("192.0.2.1", "192.0.2.1", "127.0.0.1")]
        while len(page._waiting()) < 3:
            await asyncio.sleep(0.01)
        last = asyncio.create_task(asked(address))
        await asyncio.sleep(0.05)
        go.set()
        assert [await each for each in first] == [200, 200, 200]
        return await last

    with held(Page, "_work", Response(b"{}")) as (go, _):
        assert asyncio.run(together(go)) == status
    page._pool.shutdown()


def test_what_fails_inside_is_a_sentence_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: Any) -> None:
        raise OSError("Doe^Jane")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")]}
    with caplog.at_level(logging.ERROR):
        asyncio.run(Guard(broken, "127.0.0.1")(scope, mock.AsyncMock(), send))
    assert sent[0]["status"] == 500
    assert "told in its terminal" in sent[1]["body"].decode()
    assert "a request failed: OSError at" in caplog.text
    assert "Doe" not in caplog.text + sent[1]["body"].decode()


@pytest.mark.usefixtures("honest")
def test_a_jpeg_of_many_scans_is_refused(page: Address) -> None:
    """A progressive JPEG of which one scan is repeated: some kB, and minutes of work."""
    written = io.BytesIO()
    Image.new("L", (4096, 4096), 128).save(written, "JPEG", progressive=True, quality=50)
    data = written.getvalue()
    begin = data.index(bytes.fromhex("ffda000801010001"))
    end = re.compile(rb"\xff[^\0]").search(data, begin + 10)
    assert end
    bomb = data[: end.start()] + data[begin : end.start()] * 1000 + data[end.start() :]
    with mock.patch.dict(vars(LIMITS), upload=30, pause=30):  # on a busy machine it may come slowly
        status, _, body = page.ask("POST", "/api/examine", bomb)
    assert status == 200, body
    said = json.loads(body)["predictions"][0]
    assert (said["verdict"], said["kind"], said["score"]) == ("refuse", "unreadable", None)


def test_a_file_that_takes_long_to_decode_keeps_nobody_waiting(serve: Serve, predictor: Predictor, film: bytes) -> None:
    asked, over = [], threading.Event()

    def read(name: str, data: bytes, max_pixels: int, seconds: float) -> ReadImage:
        if data != b"slow":
            return read_image_bytes(name, data, max_pixels, seconds)
        asked.append(seconds)
        over.wait(20)
        raise UnreadableError(f"{name}: took longer than {seconds:g} s to decode", "")

    with (
        mock.patch("cxrlab.page.desk.read_image_bytes", read),
        serve(Desk([predictor], seconds=3)) as page,
        ThreadPoolExecutor(2) as visitors,
    ):
        slow = [visitors.submit(page.ask, "POST", "/api/examine", b"slow") for _ in range(2)]
        while len(asked) < 2:
            time.sleep(0.01)
        assert page.ask("POST", "/api/examine", film)[0] == 200
        over.set()
        said = [json.loads(each.result()[2])["predictions"][0] for each in slow]
    assert [each["verdict"] for each in said] == ["refuse", "refuse"]
    assert said[0]["reason"] == "took longer than 3 s to decode"


@pytest.mark.parametrize("wrong", [{"head": 0}, {"answer": -1}, {"connections": 0}, {"per_address": 1.5}])
def test_limits_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
