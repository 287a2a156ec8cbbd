"""The page as a program: gradio draws it, a guard stands before it, uvicorn answers on one address."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cxrlab.console import DISCLAIMER
from cxrlab.errors import UserError
from cxrlab.imports import need
from cxrlab.page.api import Api
from cxrlab.page.case import NO_DIAGNOSIS
from cxrlab.page.desk import Desk
from cxrlab.page.guard import LOCAL, App, Guard
from cxrlab.page.limits import Limits
from cxrlab.page.worth import Worth, panel, worth

_PAGE = "the page"
_HEAD = (
    '<link rel="icon" href="/favicon.ico" type="image/svg+xml"><link rel="stylesheet" href="/page/style.css">'
    '<script src="/page/script.js" defer></script>'
)
_DROP = """
<section class="cxr" aria-label="Images to examine">
<label class="drop" for="cxr-files" id="cxr-drop">
<input id="cxr-files" type="file" multiple accept="{accept}">
<strong>Drop chest X-rays here, or choose files</strong>
<span>PNG, JPEG, TIFF or DICOM, up to {limit} each. They stay on this machine and are kept nowhere.</span>
</label>
<p id="cxr-status" role="status" aria-live="polite"></p>
<ul id="cxr-errors" role="alert"></ul>
</section>
"""
_ACCEPT = ".png,.jpg,.jpeg,.tif,.tiff,.bmp,.webp,.dcm,.dicom,image/*,application/dicom"
_VISIT = """
<section class="cxr" id="cxr-visit" aria-label="This visit" hidden>
<h2>This visit</h2>
<div class="wide"><table class="compare"><thead><tr><th scope="col">File</th>{columns}</tr></thead>
<tbody id="cxr-list"></tbody></table></div>
<p class="soft">Kept in this browser tab only: closing or reloading it forgets everything.</p>
<p class="actions"><button type="button" data-do="table">Save this list (CSV)</button>
<button type="button" data-do="clear">Forget this visit</button></p>
</section>
<div class="cxr" id="cxr-cases"></div>
"""


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
        self.known = [worth(predictor) for predictor in desk.predictors]
        self._limits = limits or Limits()
        self._api = Api(desk, self.known, max_upload_mb=max_upload_mb, max_waiting=max_waiting, limits=self._limits)
        with ThreadPoolExecutor(1) as thread:  # in a loop: gradio would make some of its own and never close them
            drawn = thread.submit(asyncio.run, _drawn(self.known, max_upload_mb)).result()
        self.app: App = Guard(drawn, self._api, host)
        self._server: Any = None

    def serve(self, listening: socket.socket, ready: Callable[[], object] = lambda: None) -> None:
        """Answers until Ctrl-C, SIGTERM, or until :meth:`stop` is called in another thread.

        A file that is being examined at that moment is not waited for: nothing interrupts its thread.

        Args:
            listening: As :func:`open_socket` gives it; closed at the end.
            ready: Called when the first request can be answered.
        """
        from cxrlab.page.connections import Server  # here: it imports uvicorn, which is optional

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


async def _drawn(known: Sequence[Worth], max_upload_mb: float) -> App:
    """Gradio's application, which shows texts and nothing else: files go to :class:`Api` and never through it."""
    # Before the import, and for everything that it starts.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(_scratch())}
    gradio, fastapi = need("gradio", _PAGE), need("fastapi", _PAGE)
    fonts = [
        "system-ui",
        "Segoe UI",
        "Roboto",
        "Helvetica Neue",
        "Arial",
        "sans-serif",
    ]  # the reader's own; none is fetched
    theme = gradio.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]
    )
    with gradio.Blocks(title="cxrlab: chest X-rays, examined", analytics_enabled=False) as blocks:
        for text in _texts(known, max_upload_mb):
            gradio.Markdown(text, sanitize_html=False, latex_delimiters=[])
    app: App = gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        show_error=False,
        theme=theme,
        head=_HEAD,
    )
    shutil.rmtree(_scratch(), ignore_errors=True)  # gradio makes folders in it for what this page does not have
    return app


@functools.cache
def _scratch() -> Path:
    """A folder of this process's own; gradio settles on the one that it finds when it is imported."""
    return Path(tempfile.mkdtemp(prefix="cxrlab-page-"))


def _texts(known: Sequence[Worth], max_upload_mb: float) -> list[str]:
    synthetic = [each.name for each in known if each.synthetic]
    chip = ""
    if synthetic:
        chip = (
            '<p class="notice"><strong>SYNTHETIC.</strong> Trained on phantoms drawn by a program: what it says of a '
            "patient means nothing.</p>"
        )
    one = len(known) == 1
    columns = "".join(
        f'<th scope="col">{"Says" if one else _braceless(each.name)}</th>'
        + ('<th scope="col">Value</th>' if one else "")
        for each in known
    )
    head = (
        f'<header class="cxr"><h1>Chest X-rays, examined</h1><p class="notice"><strong>{DISCLAIMER}</strong> '
        f"{NO_DIAGNOSIS}</p>{chip}</header>"
    )
    whose = "this model is" if one else "these models are"
    folded = (
        f'<details class="cxr folded" open><summary>What {whose} worth</summary>{_braceless(panel(known))}</details>'
    )
    return [head, folded, _DROP.format(limit=f"{max_upload_mb:g} MB", accept=_ACCEPT), _VISIT.format(columns=columns)]


def _braceless(text: str) -> str:
    """HTML that gradio, which fills in what stands in braces, leaves alone."""
    return text.replace("{", "&#123;").replace("}", "&#125;")
