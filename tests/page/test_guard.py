"""Who is let in, and to what: forged requests, other names, other origins, addresses that other frameworks have."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
from typing import Any

import pytest
from starlette.types import Message, Scope
from tests.page.conftest import Address

from cxrlab.page.guard import POLICY, Guard

PASSWD = "/etc/passwd"


def test_the_page_is_served_with_a_policy_that_lets_in_its_own_files_only(site: Address) -> None:
    status, headers, body = site.ask("GET", "/")
    assert status == 200
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert not re.findall(rb"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", body)  # nothing inline
    assert not [rule for rule in rules.values() if "http" in rule]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert not re.findall(rb"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^>]*>", body)
    css = site.ask("GET", "/page/style.css")[2]
    assert b"@import" not in css
    assert not re.findall(rb"url\([\"']?(?:https?:)?//", css)
    assert b"googleapis" not in body + css


ELSEWHERE = f"""
GET /gradio_api/file={PASSWD} /gradio_api/file=../../etc/passwd /gradio_api/file=http://169.254.169.254/latest
GET /file={PASSWD} /gradio_api/file/{PASSWD} /gradio_api/proxy=http://127.0.0.1:1/ /proxy=http://127.0.0.1:1/
GET /gradio_api/upload_progress?upload_id=x /gradio_api/queue/data?session_hash=x /gradio_api/vibe-code /gradio_api/info
GET /gradio_api/heartbeat/x /gradio_api/deep_link /gradio_api/custom_component/x/client/y/index.js
GET /gradio_api/startup-events /config /monitoring /login /docs /openapi.json /svelte/x.js
GET /assets/../../../../etc/passwd /assets/..%2f..%2f..%2f..%2fetc%2fpasswd /assets/%2e%2e/%2e%2e/routes.py
GET /static/{PASSWD} /assets/{PASSWD} /page/{PASSWD} /page/../app.py /page/card/1 /api/examine
POST /gradio_api/upload /upload /gradio_api/queue/join /gradio_api/run/predict /gradio_api/api/predict
POST /gradio_api/call/predict /gradio_api/component_server /gradio_api/process_recording /gradio_api/vibe-edit /
PUT /api/examine
DELETE /api/state
"""
"""Methods, and addresses that are not there; most are those of another framework."""


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method, *paths in map(str.split, ELSEWHERE.strip().splitlines()) for path in paths],
)
def test_what_the_page_does_not_need_is_not_there(site: Address, method: str, path: str) -> None:
    status, _, body = site.ask(method, path, b"" if method != "GET" else None)
    assert status == 404
    assert b"root:" not in body


FORGED = {
    "path": {"path": PASSWD, "meta": {"_type": "gradio.FileData"}},
    "url": {"path": "x", "url": "http://127.0.0.1:{port}/secret", "meta": {"_type": "gradio.FileData"}},
    "list": [{"path": PASSWD, "url": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}}],
    "data": {"data": [{"path": PASSWD, "meta": {"_type": "gradio.FileData"}}], "fn_index": 0, "session_hash": "x"},
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_file_is_bytes_like_any_other(site: Address, kind: str) -> None:
    """What names a path or an address is looked at as the bytes that it is, and nothing is opened or asked."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        body = json.dumps(FORGED[kind]).replace("{port}", str(trap.getsockname()[1])).encode()
        for headers in ({}, {"Content_Type": "application/json"}, {"Content_Type": "multipart/form-data; boundary=x"}):
            status, _, found = site.ask("POST", "/api/examine?card=true", body, **headers)
            said = json.loads(found)["predictions"][0]
            assert status == 200
            assert (said["kind"], said["score"]) == ("unreadable", None)
            assert said["sha256"] == hashlib.sha256(body).hexdigest()
            assert b"root:" not in found
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize("name", [PASSWD, f"../../../..{PASSWD}", f"file://{PASSWD}", "http://127.0.0.1:1/x.png"])
def test_a_name_is_never_opened(site: Address, film: bytes, name: str) -> None:
    said = json.loads(site.ask("POST", "/api/examine", film, X_File_Name=name)[2])
    assert said["file"] == name
    assert said["predictions"][0]["score"] == site.desk.predictors[0].examine("x", film).prediction.score


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example:{port}",
        "127.0.0.1.evil.example",
        "192.168.0.7:{port}",
        "[::2]:{port}",
        "localhost@evil.example",
        "127.0.0.1:{port}:1",
        "",
    ],
)
def test_another_name_is_refused(site: Address, host: str) -> None:
    """DNS rebinding: a page elsewhere whose name suddenly means this machine."""
    for method, path in (("GET", "/"), ("GET", "/api/state"), ("POST", "/api/examine")):
        body = b"x" if method == "POST" else None
        status, _, answer = site.ask(method, path, body, Host=host.format(port=site.port))
        assert status == 403
        assert "is not this machine" in json.loads(answer)["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_names_of_this_machine_are_let_in(site: Address, host: str) -> None:
    assert site.ask("GET", "/api/state", Host=host.format(port=site.port))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_page_elsewhere_can_send_nothing(site: Address, film: bytes, headers: dict[str, str]) -> None:
    status, _, answer = site.ask("POST", "/api/examine", film, **headers)
    assert status == 403
    assert "open the page itself" in json.loads(answer)["error"]


def test_the_page_itself_can(site: Address, film: bytes) -> None:
    headers = {"Origin": f"http://127.0.0.1:{site.port}", "Sec_Fetch_Site": "same-origin"}
    assert site.ask("POST", "/api/examine", film, **headers)[0] == 200


def test_words_of_a_proxy_change_nothing(site: Address) -> None:
    plain = site.ask("GET", "/")[2]
    forged = {"X_Forwarded_Host": "evil.example", "X_Gradio_Server": "http://evil.example", "Cookie": "a=b"}
    assert site.ask("GET", "/?deep_link=x&view=api", None, **forged)[2] == plain


def seen_by(guard: Guard, **scope: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    asked = {"type": "http", "method": "GET", "path": "/", "query_string": b"", **scope}
    asyncio.run(guard(asked, receive, send))
    return sent


async def empty(scope: Scope, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"access-control-allow-origin", b"*")]})
    await send({"type": "http.response.body", "body": b"<script>1</script>"})


def test_on_every_address_of_the_machine_names_are_still_refused() -> None:
    guard = Guard(empty, "0.0.0.0")
    for host, status in (
        ("192.168.0.7:7860", 200),
        ("[2001:db8::1]:7860", 200),
        (socket.gethostname(), 200),
        ("evil.example", 403),
    ):
        assert seen_by(guard, headers=[(b"host", host.encode())])[0]["status"] == status
    named = Guard(empty, "reading-room.local")
    assert seen_by(named, headers=[(b"host", b"reading-room.local:80")])[0]["status"] == 200


def test_what_an_application_allows_others_is_taken_back_and_sockets_are_closed() -> None:
    guard = Guard(empty, "127.0.0.1")
    start, _ = seen_by(guard, headers=[(b"host", b"localhost")])
    names = [name for name, _ in start["headers"]]
    assert b"access-control-allow-origin" not in names
    assert names.count(b"content-security-policy") == 1
    assert dict(start["headers"])[b"content-security-policy"] == POLICY.encode()
    assert seen_by(guard, type="websocket", headers=[]) == [{"type": "websocket.close", "code": 1008}]
