"""The page of ``src/app.py``: a film is dropped in and shown, with what a model says of it and what the model is worth.

``desk`` examines bytes; ``documents`` and ``worth`` put the results into words, ``pictures`` into images,
``templates/`` into HTML. ``api`` has the addresses, ``guard`` stands before them, ``server`` puts both on a port and
limits clients. Uploaded bytes are in memory only, from the moment they arrive until they are answered: there is no
temporary file, and no name or address of a client is ever opened. Importing this needs the extra ``app``.
"""

from cxrlab.page.api import Page
from cxrlab.page.desk import Desk
from cxrlab.page.server import open_socket

__all__ = ["Desk", "Page", "open_socket"]
