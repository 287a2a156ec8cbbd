"""Every program as a verb: ``cxrlab train …`` is ``cxrlab-train …`` and ``python train.py …``."""

from __future__ import annotations

import ast
import importlib
import importlib.resources
import sys
from pathlib import Path

from cxrlab import __version__
from cxrlab.console import tell
from cxrlab.errors import did_you_mean


def programs() -> dict[str, str]:
    """What each program does, by its name: those that have a file in ``conf/``. None of them is imported."""
    names = sorted(Path(each.name).stem for each in importlib.resources.files("cxrlab.conf").iterdir())
    sources = {name: Path(__file__).with_name(f"{name}.py") for name in names}
    return {name: _purpose(source) for name, source in sources.items() if source.is_file() and not name.startswith("_")}


def _purpose(source: Path) -> str:
    """The first sentence of a module, without its example."""
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].partition(": ``")[0].rstrip(".")


def main() -> None:
    """The command line.

    Raises:
        SystemExit: With 0 after a list of the verbs, with 1 after a verb that is none; or as the program ends.
    """
    known = programs()
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help", "--version"):
        lines = [f"cxrlab {__version__}"]
        if verb != "--version":
            lines += ["", *(f"  cxrlab {name:<9} {purpose}" for name, purpose in known.items())]
            lines += ["", "cxrlab <verb> --help lists what can be set; the first to try: cxrlab train"]
        for line in lines:
            tell(line)
        raise SystemExit(0)
    if verb not in known:
        tell(f"error: {verb}: no such verb; there are {', '.join(known)}{did_you_mean(verb, known)}", error=True)
        raise SystemExit(1)
    sys.argv = [f"cxrlab {verb}", *rest]  # commands that are printed for pasting take this form
    importlib.import_module(f"cxrlab.{verb}").main()


if __name__ == "__main__":
    main()
