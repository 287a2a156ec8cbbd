"""Importing large libraries in less time, and optional ones with a sentence where they are not installed."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from cxrlab.errors import MissingLibraryError

OPTIONAL = {
    "captum": ("captum", "saliency"),
    "defusedxml": ("defusedxml", "excel"),
    "hydra_plugins.hydra_joblib_launcher": ("hydra-joblib-launcher", "sweeps"),
    "hydra_plugins.hydra_optuna_sweeper": ("hydra-optuna-sweeper", "optuna"),
    "hydra_plugins.hydra_submitit_launcher": ("hydra-submitit-launcher", "sweeps"),
    "imagecodecs": ("imagecodecs", "dicom"),
    "kagglehub": ("kagglehub", "kaggle"),
    "monai": ("monai", "lungs"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "onnxscript": ("onnxscript", "export"),
    "openpyxl": ("openpyxl", "excel"),
    "pydicom": ("pydicom", "dicom"),
    "skimage": ("scikit-image", "gate"),
    "starlette": ("starlette", "app"),
    "uvicorn": ("uvicorn", "app"),
}
"""Libraries that only some commands need, by the package that is imported: what pip calls it, and its extra."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Keeps the garbage collector from looking through what is being imported.

    PyTorch and what comes with it are nearly a million objects that live as long as the process. Python would go
    through them again and again while they come, a quarter of the time that importing takes, and now and then later.
    """
    first = "torch" not in sys.modules
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if first:  # later there may be garbage, an earlier job's trainer for example, which must stay collectable
            gc.freeze()
            atexit.register(gc.unfreeze)  # extension modules complain of what is still there when Python has ended
        if was_enabled:
            gc.enable()


def need(module: str, what: str, otherwise: str = "") -> Any:
    """Imports a module of an optional library.

    Args:
        module: Dotted name of a package in :data:`OPTIONAL`, or of a module below one.
        what: What needs it: the beginning of the message's sentence.
        otherwise: What can be done instead of installing it; empty where there is nothing.

    Returns:
        The module.

    Raises:
        MissingLibraryError: It is not installed, or what is installed cannot be imported.
    """
    check_installed(module, what, otherwise)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingLibraryError(_sentence(module, what, f"cannot be imported here ({reason})", otherwise)) from error


def check_installed(module: str, what: str, otherwise: str = "") -> None:
    """Checks that an optional library is installed, without importing it.

    Args:
        module: As for :func:`need`.
        what: Likewise.
        otherwise: Likewise.

    Raises:
        MissingLibraryError: It is not installed.
    """
    if not is_installed(module):
        raise MissingLibraryError(missing(module, what, otherwise))


def is_installed(module: str) -> bool:
    """Whether an optional library is installed; it is not imported."""
    package = _package(module)
    if package in sys.modules:
        return sys.modules[package] is not None
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it would be part of is not there
        return False


def missing(module: str, what: str, otherwise: str = "") -> str:
    """The sentence about an optional library that is not installed; arguments as for :func:`need`."""
    return _sentence(module, what, "is not installed", otherwise)


def command_to_install(module: str) -> str:
    """What to type to get an optional library, in backquotes."""
    return f"`pip install 'cxrlab[{OPTIONAL[_package(module)][1]}]'`"


def _sentence(module: str, what: str, reason: str, otherwise: str) -> str:
    library, _ = OPTIONAL[_package(module)]
    alternative = f", or {otherwise}" if otherwise else ""
    return f"{what} needs {library}, which {reason}: type {command_to_install(module)}{alternative}"


def _package(module: str) -> str:
    """The entry of :data:`OPTIONAL` that a module belongs to."""
    parts = module.split(".")
    return next(name for end in range(1, len(parts) + 1) if (name := ".".join(parts[:end])) in OPTIONAL)
