"""The page of ``src/app.py``: a film is dropped in and shown, with what a model says of it and what the model is worth.

``desk`` examines bytes, ``case`` and ``worth`` put the results into words, ``pictures`` into images, ``templates/``
into HTML. ``api`` has the addresses, ``guard`` stands before them, ``connections`` limits clients, ``server`` puts all
of it on a port. Uploaded bytes are in memory only, from the moment they arrive until they are answered: there is no
temporary file, and no name or address of a client is ever opened.
"""

from cxrlab.page.desk import Desk
from cxrlab.page.server import Page, open_socket

__all__ = ["Desk", "Page", "open_socket"]
