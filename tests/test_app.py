"""python src/app.py: a page on this machine until Ctrl-C, and nothing left of it afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
from omegaconf import DictConfig, open_dict

from cxrlab.app import app
from cxrlab.config import compose
from cxrlab.errors import CheckpointError, ConfigError, UserError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training on phantoms."""
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("app") / "runs" / "tiny"))


def configured(*typed: str) -> DictConfig:
    config = compose("app", ["accelerator=cpu", *typed], Path())
    with open_dict(config):
        del config["output_dir"]  # this program writes nothing
    return config


@contextmanager
def running(
    folder: Path, *typed: str, program: Path = ROOT / "src/app.py", environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The program in a process of its own; yields process, address, and what it printed before."""
    command = [sys.executable, str(program), "port=0", "accelerator=cpu", *typed]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line.rstrip())
            if line.startswith("page "):
                yield process, line.split()[1], printed
                return
        pytest.fail("\n".join(printed))
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


def ask(address: str, data: bytes | None = None, path: str = "") -> bytes:
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


@pytest.mark.slow
def test_a_visit_from_this_machine_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    """No temporary file while it runs, none after Ctrl-C, no log, and no word about the file on the screen."""
    places = {name: tmp_path / name for name in ("here", "tmp", "home")}
    for place in places.values():
        place.mkdir()
    film = Path(pd.read_csv(run / "predictions.csv")["path"].iloc[0]).read_bytes()
    environment = {"TMPDIR": str(places["tmp"]), "HOME": str(places["home"]), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    with running(places["here"], f"ckpt_path={run}", environment=environment) as (process, address, printed):
        assert b"What this model is worth" in ask(address)
        check_that_only_this_machine_can_reach(address)
        said = json.loads(ask(address, film, "api/examine?card=true"))
        assert said["predictions"][0]["model_name"] == "tiny"
        assert files(places.values()) == []
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        printed += process.stdout.read().splitlines()
        assert process.wait(60) == 0
    assert files(places.values()) == []
    assert printed[0] == "warning  tiny: SYNTHETIC: it was trained on drawn phantoms and knows no patient"
    assert printed[-1] == "ended    nothing was kept"
    assert not [line for line in printed if "examine" in line or "Traceback" in line]


def files(places: object) -> list[Path]:
    return [path for place in places for path in place.rglob("*") if path.is_file()]  # type: ignore[attr-defined]


def check_that_only_this_machine_can_reach(address: str) -> None:
    port = int(address.rsplit(":", 1)[1].strip("/"))
    assert address.startswith("http://127.0.0.1:")
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = configured(f"ckpt_path={run}", f"port={port}")
        with (
            mock.patch("cxrlab.app.open_desk", side_effect=AssertionError("loaded")),
            pytest.raises(UserError, match=rf"port: {port} on 127\.0\.0\.1 is taken by another program; port=0"),
        ):
            app(config)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["port=70000"], r"port must be a whole number in \[0, 65535\], got 70000"),
        (["max_upload_mb=0"], r"max_upload_mb must be a number in \(0, 1000\], got 0"),
        (["max_megapixels=151"], r"max_megapixels must be a number in \(0, 150\], got 151"),
        (["max_waiting=0"], r"max_waiting must be a whole number in \[1, 1000\], got 0"),
        (["accelerator=tpu"], r"accelerator must be one of auto, cpu, gpu, mps, got 'tpu'"),
        (["open_browser=maybe"], r"open_browser must be one of True, False, got 'maybe'"),
        (["ckpt_path=[]"], r"number of models must be a whole number in \[1, 8\], got 0"),
        (["+prot=1"], r"prot: unknown key; did you mean 'port'\?"),
        (["port=x", "max_waiting=x"], r"2 problems in the configuration"),
    ],
)
def test_mistakes_are_told_at_once(run: Path, typed: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        app(configured(f"ckpt_path={run}", *typed))


def test_what_cannot_be_loaded_is_told(run: Path, tmp_path: Path) -> None:
    for typed, sentence in (
        ([f"ckpt_path={tmp_path}"], "no checkpoint|no run|checkpoints"),
        ([f"ckpt_path={run}", f"lungs={tmp_path}"], "no finished run of experiment=lungs"),
        ([f"ckpt_path={run}", "saliency.layer=conv9"], "'conv9' is no layer"),
        ([f"ckpt_path={run}", "host=203.0.113.7"], "is no address of this machine"),
    ):
        with pytest.raises((CheckpointError, ConfigError, UserError), match=sentence):
            app(configured("port=0", *typed))


def test_without_its_libraries_the_extra_is_named(run: Path) -> None:
    with (
        mock.patch.dict(sys.modules, {"starlette": None, "captum": None}),
        pytest.raises(UserError, match=r"^the page needs starlette.*pip install 'cxrlab\[app\]'"),
    ):
        app(configured(f"ckpt_path={run}", "port=0"))


def test_help_imports_no_large_library(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom cxrlab.app import main\nsys.argv = ['app.py', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'starlette', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Research software, not a medical device" in done.stdout


def test_the_browser_is_opened_when_asked_for(run: Path) -> None:
    opened: list[str] = []

    class Served(Exception):
        pass

    def serve(_: object, listening: socket.socket, ready: object) -> None:
        ready()  # type: ignore[operator]
        listening.close()
        raise Served

    with (
        mock.patch("cxrlab.page.Page.serve", serve),
        mock.patch("webbrowser.open", opened.append),
        pytest.raises(Served),
    ):
        app(configured(f"ckpt_path={run}", "port=0", "open_browser=true"))
    assert opened
    assert opened[0].startswith("http://127.0.0.1:")


BUSY = """
import hashlib
from cxrlab.app import main
from cxrlab.page import Desk
Desk.examine = lambda *_, **__: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # half an hour in C
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_whatever_it_is_doing(run: Path, tmp_path: Path, end: signal.Signals) -> None:
    """A connection that is kept, one without a head, half an upload, files that are examined, and some that wait."""
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    with running(tmp_path, f"ckpt_path={run}", program=program) as (process, address, _), ExitStack() as stack:
        place = ("127.0.0.1", int(address.rsplit(":", 1)[1].strip("/")))
        upload = b"POST /api/examine HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        state = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n"
        held = [stack.enter_context(socket.create_connection(place)) for _ in range(9)]
        for connection, data in zip(held, [b"", b"POST", upload, *[upload + b"123456789"] * 5, state], strict=True):
            connection.sendall(data)
        assert held[-1].recv(100).startswith(b"HTTP/1.1 200")
        until = time.monotonic() + 30
        while json.loads(ask(address, path="api/state"))["in_line"] < 5:
            assert time.monotonic() < until
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(end)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5  # two seconds, on a machine that does nothing else
