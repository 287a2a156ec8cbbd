"""The page of ``src/app.py``: a file dropped in, and what is said of it beside what the model is worth.

``desk`` examines bytes, ``case`` and ``worth`` put it into words, ``pictures`` into images, ``guard`` and ``api`` stand
between browser and program, ``server`` puts all of it on an address. Uploaded bytes are in memory only, from the moment
they arrive until they are answered: there is no temporary file, and no name or address of a client is ever opened.
"""

from cxrlab.page.desk import Desk
from cxrlab.page.server import Page, open_socket

__all__ = ["Desk", "Page", "open_socket"]
