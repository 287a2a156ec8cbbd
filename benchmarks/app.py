"""Asks a running page for many files at a time: how long an answer takes, what fails, and whether memory grows.

A process of its own runs ``python src/app.py``; several clients send it phantoms, each one after another. Between them
there is nothing but this machine's own network. What is timed is one request from its first byte to the last of its
answer, waiting in line included; a file that was sent away because too many wait is sent again, as the page's script
does, and counted. Memory is the program's resident set (Linux): before, after a tenth of the requests, and at the end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from cxrlab.datamodules import SyntheticSource
from cxrlab.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
WAIT = 300  # seconds for the program to load its model


@dataclass
class Found:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    sent_again: int = 0
    calls: dict[str, int] = field(default_factory=dict)


@contextmanager
def running(typed: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Process number and address of a page."""
    command = [sys.executable, str(ROOT / "src/app.py"), "port=0", *typed]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("page "):
                yield process.pid, line.split()[1]
                return
        raise UserError(f"the page did not start:\n{''.join(said)}")
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def draw(folder: Path, count: int, size: int) -> list[bytes]:
    """Phantoms as PNG, and every fourth as JPEG: files as people have them, none twice."""
    source = SyntheticSource(str(folder), n_train=2, n_test=count, size=size)
    paths = source.manifest().query("split == 'test'")["path"]
    files = []
    for number, path in enumerate(paths):
        data = Path(path).read_bytes()
        if number % 4 == 3:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
            data = cv2.imencode(".jpg", pixels)[1].tobytes()
        files.append(data)
    return files


def send(address: str, path: str, files: Sequence[bytes], found: Found) -> None:
    """One client: its files one after another, over one connection."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)
    for data in files:
        began = time.perf_counter()
        try:
            while (answer := ask(connection, path, data))[0] == 503:
                found.sent_again += 1
                time.sleep(0.2)
        except OSError as error:
            found.failures.append(repr(error))
            connection.close()
            continue
        status, body = answer
        found.seconds.append(time.perf_counter() - began)
        said = json.loads(body)
        if status != 200:
            found.failures.append(f"{status}: {said}")
            continue
        call = said["predictions"][0]["label"] or said["predictions"][0]["kind"]
        found.calls[call] = found.calls.get(call, 0) + 1
    connection.close()


def ask(connection: http.client.HTTPConnection, path: str, data: bytes) -> tuple[int, bytes]:
    connection.request("POST", path, data, {"Content-Type": "application/octet-stream"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def memory(process: int) -> float:
    """Resident set in MB; NaN where the system does not say."""
    try:
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
    except OSError:
        pass
    return float("nan")


def load(address: str, path: str, files: Sequence[bytes], clients: int, total: int) -> Found:
    """All clients at once; file i goes to client i modulo their number."""
    found = Found()
    wanted = [files[number % len(files)] for number in range(total)]
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(send, address, path, wanted[client::clients], found) for client in range(clients)]:
            done.result()
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed, as plain values."""
    files = draw(arguments.cache, arguments.files, arguments.size)
    typed = [f"ckpt_path={arguments.ckpt_path}", *arguments.overrides]
    path = f"/api/examine{'?card=true' if arguments.card else ''}"
    with running(typed) as (process, address):
        load(address, path, files, arguments.clients, arguments.clients)  # what a first request makes
        before = memory(process)
        tenth = max(arguments.clients, arguments.requests // 10)
        load(address, path, files, arguments.clients, tenth)
        early = memory(process)
        began = time.perf_counter()
        found = load(address, path, files, arguments.clients, arguments.requests)
        wall = time.perf_counter() - began
        after = memory(process)
    p50, p95, longest = (float(np.quantile(found.seconds, share)) for share in (0.5, 0.95, 1.0))
    return {
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "requests": arguments.requests,
        "clients": arguments.clients,
        "card": arguments.card,
        "bytes": {"median": int(np.median([len(data) for data in files])), "files": len(files)},
        "answers": len(found.seconds),
        "failures": found.failures,
        "sent_again": found.sent_again,
        "calls": found.calls,
        "seconds": {"p50": p50, "p95": p95, "max": longest},
        "per_second": len(found.seconds) / wall,
        "memory_mb": {"before": before, "after a tenth": early, "after": after},
    }


def show(found: dict[str, Any]) -> None:
    seconds, megabytes = found["seconds"], found["memory_mb"]
    what = "card, map and report" if found["card"] else "JSON only"
    print(f"{found['requests']} requests, {found['clients']} at a time, {what}")
    print(f"failures      {len(found['failures'])}")
    for reason in found["failures"][:5]:
        print(f"              {reason}")
    print(f"sent again    {found['sent_again']} (too many waited)")
    print(f"an answer     p50 {seconds['p50']:.3f} s, p95 {seconds['p95']:.3f} s, longest {seconds['max']:.3f} s")
    print(f"throughput    {found['per_second']:.1f} files a second")
    print("memory        " + ", ".join(f"{name} {value:.0f} MB" for name, value in megabytes.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt_path", help="a run folder or a .ckpt file")
    parser.add_argument("overrides", nargs="*", help="further keys of src/app.py, as lungs=runs/lungs saliency=none")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=8, help="that send at a time")
    parser.add_argument("--files", type=int, default=24, help="different ones")
    parser.add_argument("--size", type=int, default=1024, help="pixels along a side of a phantom, 64 to 2048")
    parser.add_argument("--card", action="store_true", help="ask for what the page shows, map and report included")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/cxrlab"), help="keeps the phantoms")
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    given = parser.parse_args(arguments)
    found = measure(given)
    show(found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
