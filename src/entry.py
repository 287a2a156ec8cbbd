"""From a command line to a job, for every entry point: a user's mistake ends in a sentence, not in a traceback."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from cxrlab.config import plugins, resolvers
from cxrlab.config.help import help_text
from cxrlab.config.hints import meant
from cxrlab.config.new_folder import remove_unused
from cxrlab.config.preflight import takes
from cxrlab.console import guard_terminal, tell
from cxrlab.errors import ConfigError, UserError, did_you_mean
from cxrlab.imports import OPTIONAL, missing
from cxrlab.locks import claimed

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ENTRY = (errno.EROFS, errno.EACCES, errno.EPERM)


_BUG = "This came out of the program itself, not of what was typed."
_AGAIN = "type the same again"
_INTERRUPTED = "\ninterrupted; nothing that was finished is lost; to go on, {}"
_log = logging.getLogger("cxrlab")


class _JobFailed(CompactHydraException):
    """Lets Hydra run a sweep's other jobs and then exit with 1, without a traceback."""


class _Surroundings:
    """Sets a process up: our interpolations, clean lines; a copy does so in the process into which it is unpickled."""

    def __init__(self) -> None:
        guard_terminal()
        resolvers.register()

    def __reduce__(self) -> tuple[type[_Surroundings], tuple[()]]:
        return _Surroundings, ()


def command_line(config_name: str, job: Callable[[DictConfig, list[str]], object], again: str = _AGAIN) -> None:
    """Composes the configuration that was typed and runs a job with it, or several jobs in a sweep.

    Args:
        config_name: Of the file in ``conf/``.
        job: Called with the configuration and with what was typed.
        again: How to go on after Ctrl-C or with a disk that was full.

    Raises:
        SystemExit: With 1 after a user's mistake, which was told on stderr, and 0 after ``--help``; whatever else goes
            wrong passes through.
    """
    sys.argv[1:] = _overrides_first(sys.argv[1:])
    if any(word in ("--help", "-h") for word in sys.argv[1:]):
        _tell_help(config_name)
        raise SystemExit(0)
    _read_env(Path(".env"))
    plugins.register()
    surroundings = _Surroundings()

    @functools.wraps(job)
    def run(config: DictConfig) -> object:
        assert surroundings  # a launcher takes them to its processes along with this function
        try:
            with errors_as_sentences(again), _own_folder(config):
                return job(config, list(HydraConfig.get().overrides.task))
        except _JobFailed:
            raise
        except Exception as error:
            error.add_note(_BUG)
            _log.exception("the job ended with an error")  # a launcher's process would take the traceback with it
            raise

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, and the words below are ours
    HydraConfig.instance().cfg = None  # of an earlier command in this process
    try:
        with _mistakes_as_sentences():
            hydra.main(version_base="1.3", config_path="pkg://cxrlab.conf", config_name=config_name)(run)()
    except SystemExit as end:
        if end.code:
            remove_unused()
        raise


def _read_env(path: Path) -> None:
    """Takes the two variables of this project from a file, if they are not set already; it ignores everything else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        found = re.fullmatch(r"\s*(?:export\s+)?(CXRLAB_DATA|CXRLAB_CACHE)\s*=\s*(.*?)(?:\s+#.*)?\s*", line)
        if found and found[2]:
            os.environ.setdefault(found[1], str(Path(found[2].strip("'\"")).expanduser()))


def _tell_help(program: str) -> None:
    """Prints what ``conf/`` says of a program's keys, instead of Hydra's help, which leaves the comments out."""
    typed = get_args_parser().parse_args(sys.argv[1:])
    try:
        text = help_text(program, typed.overrides, [typed.config_dir] if typed.config_dir else [])
    except ConfigError as error:
        tell(f"error: {error}", error=True)
        raise SystemExit(1) from None
    with _mistakes_as_sentences():
        for line in text.splitlines():
            tell(line)


@contextmanager
def _mistakes_as_sentences() -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise before a job has begun, or between jobs, into sentences."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output has gone, as in `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more when it closes
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # between a sweep's jobs, or while they run in other processes
        tell(_INTERRUPTED.format(_AGAIN), error=True)
        raise SystemExit(INTERRUPTED) from None
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError, RuntimeError) as error:
        plugin = re.search(r"Unknown plugin class : '(hydra_plugins\.hydra_\w+?_(launcher|sweeper))\.", str(error))
        if plugin and plugin[1] in OPTIONAL:
            tell(f"error: {missing(plugin[1], f'hydra/{plugin[2]}')}", error=True)
            raise SystemExit(1) from None
        # Before a job has begun there are only what was typed, YAML files and the run folder: all else is a bug.
        if _BUG in getattr(error, "__notes__", ()) or isinstance(error, RuntimeError):
            raise
        tell(f"error: {_sentence(error)}", error=True)
        raise SystemExit(1) from None


def _overrides_first(words: Sequence[str]) -> list[str]:
    """A command line with all its overrides before its options: Hydra's parser refuses overrides in several pieces.

    Raises:
        SystemExit: An option is none of Hydra's.
    """
    known = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    overrides: list[str] = []
    options: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        name = word.partition("=")[0]
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            tell(f"error: {word}: keys are typed without dashes, as {name[2:]}=…; --help lists them", error=True)
            raise SystemExit(1)
        (options if word.startswith("-") else overrides).append(word)
        action = known.get(word)
        if action is not None and left and (action.nargs is None or left[0] in (action.choices or ())):
            options.append(left.pop(0))
    return [*overrides, *options]


@contextmanager
def errors_as_sentences(again: str) -> Iterator[None]:
    """Turns a :class:`UserError` into its sentence and exit status 1, and Ctrl-C into the exit status of shells.

    Args:
        again: What to do after Ctrl-C, or when there is room on the disk.
    """
    try:
        yield
    except UserError as error:
        _tell(str(error))
    except (ConfigCompositionException, MissingConfigException, OverrideParseException) as error:
        _tell(_sentence(error))  # of another program's configuration, which the job composes: a matrix's recipe
    except OSError as error:
        if error.errno in _NO_ROOM:
            _tell(f"{error.filename or 'the disk'}: {error.strerror}; make room, then {again}")
        if error.errno in _NO_ENTRY and error.filename:
            _tell(f"{error.filename}: {error.strerror}; hydra.run.dir=… chooses another folder for what is written")
        raise
    except KeyboardInterrupt:
        how = again if HydraConfig.get().mode == RunMode.RUN else _AGAIN
        tell(_INTERRUPTED.format(how), error=True)
        raise SystemExit(INTERRUPTED) from None


def _own_folder(config: DictConfig) -> AbstractContextManager[None]:
    """Keeps every other process out of the folder that a program writes to, if it writes to one."""
    folder = config.get("output_dir")
    return claimed(str(folder), wait=HydraConfig.get().mode == RunMode.MULTIRUN) if folder else nullcontext()


def _tell(sentence: str) -> NoReturn:
    """Ends a run, or a job of a sweep, with a sentence."""
    if HydraConfig.get().mode == RunMode.RUN:
        tell(f"error: {sentence}", error=True)
        raise SystemExit(1) from None
    number = HydraConfig.get().job.num
    # At once: Hydra tells of the first failed job only, and at the end.
    tell(f"error in job {number}: {sentence}", error=True)
    raise _JobFailed(f"job {number} failed, see above; the other jobs ran") from None


def _sentence(error: Exception) -> str:
    """What is wrong with a command line or a file of ``conf/``, and what to type instead."""
    cause = error.__cause__
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error.missing_cfg_file, error.options or (), text)
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.parent_node is not None:
        return f"{cause.full_key}: {_why_no_key(cause, text)}"
    if isinstance(error, OverrideParseException):
        if "=" not in str(error.override):
            return f"{error.override}: not of the form key=value"
        reason = text.partition("\nSee http")[0].rpartition("\n")[2]
        hint = "in a shell, quote brackets and blanks: 'key=[1, 2]'"
        return f"{error.override}: not of the form key=value ({reason}); {hint}"
    if taken := re.match(r"'(.+)' is validated against ConfigStore schema", text):
        return f"{taken[1]}.yaml: an option of cxrlab has this name already; give your file another one"
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {text.partition(chr(10))[0]}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; hydra.run.dir=… chooses another folder"
    return f"{text} ({str(cause).partition(chr(10))[0]})" if isinstance(cause, OmegaConfBaseException) else text


def _why_no_key(error: ConfigAttributeError | ConfigKeyError, text: str) -> str:
    """What to type instead of a key that does not exist: a similar one, or the same with a plus where that is taken."""
    root: Any = error.parent_node._get_root()
    hint = meant(str(error.full_key), root)
    addition = re.search(r"\+\S+$", text)
    target = OmegaConf.select(error.parent_node, "_target_") if OmegaConf.is_dict(error.parent_node) else None
    if hint or not addition or not isinstance(target, str):
        return f"no such key{hint}"
    if not takes(target, str(error.key)):
        return f"no such key, and {target} has no such argument"
    if target == "pytorch_lightning.Trainer":
        from cxrlab.steps.trainer_keys import ARGUMENTS  # its library is imported by now

        rule = ARGUMENTS.get(str(error.key))
        if isinstance(rule, str):
            return f"refused: {rule}"
    return f"no such key yet; {addition[0]} adds it"


def _unknown_option(file: str, options: Sequence[str], text: str) -> str:
    group, _, option = file.rpartition("/")
    where = re.match(r"In '(.+?)': ", text)
    wanted_by = f" (wanted by {where[1]}.yaml)" if where and "/" in where[1] else ""
    options = [each for each in options if not each.startswith("_")]  # those are parts of others
    known = f"; there are {', '.join(options)}" if options else ""
    return f"{group}={option}: no such option{wanted_by}{known}{did_you_mean(option, options)}"
