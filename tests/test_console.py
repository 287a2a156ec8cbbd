"""Nothing that others wrote reaches a terminal or a log as more than text."""

from __future__ import annotations

import ast
import io
import logging
import re
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from cxrlab import console

SOURCE = Path(console.__file__).parent
HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;a title\x07",
    "\x1b]8;;https://example.org\x1b\\a link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZWNobyBoaQ==\x07",
    "\x9b2J\x9d0;one byte\x9c",
    "\u202egnp.mlif\u202c \u2066x\u2069 \u200f\ufeff\u200b",
    "over\rwritten\x08\x08\x7f",
    "a\nerror: nothing is wrong",
    "a\u2028b\u2029c\x85d\x0be\x0cf",
    "[bold red]x[/] [link=https://example.org]y[/link] :skull:",
    "not utf-8 \udcff\udc80",
)


_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def _is_harmless(text: str) -> bool:
    return not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]", text
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_said_is_harmless_and_begins_no_line_of_its_own(
    text: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "cxrlab"):
        console.say(f"file     {text}", "done")
    console.tell(f"sweep    {text}")
    console.tell(f"error: {text}", error=True)
    printed = capsys.readouterr()
    for shown in (printed.out, printed.err, *caplog.messages):
        assert _is_harmless(shown)
    margins = {line.split()[0] for line in (printed.out + printed.err).splitlines() if line[:1].strip()}
    assert margins == {"file", "done", "sweep", "error:"}


def test_text_in_any_script_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Lungenröntgen 胸部 صدر грудь n\u0303 \N{GRINNING FACE} [x] :skull: a_b"
    console.say(text)
    assert capsys.readouterr().out == text + "\n"


def test_a_line_that_never_ends_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    console.tell("error: " + "x" * 1_000_000, error=True)
    err = capsys.readouterr().err
    assert len(err) < 2 * console.LONGEST_LINE
    assert "(1000007 characters)" in err


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_text_and_no_markup(text: str) -> None:
    screen = io.StringIO()
    table = Table("name", title="sets")
    table.add_row(text)
    console.show(table, Console(file=screen, width=200, force_terminal=False))
    assert _is_harmless(screen.getvalue())
    assert "[bold red]" not in text or text.partition(" :")[0] in screen.getvalue()


def test_a_terminal_keeps_the_colours_of_a_table() -> None:
    screen = io.StringIO()
    table = Table("name", title="sets")
    table.add_row("\x1b[2J", style="red")
    console.show(table, Console(file=screen, width=200, force_terminal=True, color_system="standard"))
    assert "\x1b[31m" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()


def test_a_log_a_warning_and_a_traceback_are_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "read %s", ("\x1b[2J\nERROR forged",), None)
    assert console.LogFormatter("%(levelname)s %(message)s").format(record) == "INFO read \\x1b[2J\n  ERROR forged"
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    console.guard_terminal()
    assert _is_harmless(warnings.formatwarning("\x1b[2J", UserWarning, "f", 1))
    try:
        raise RuntimeError("\x1b[2J")
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.endswith("RuntimeError: \\x1b[2J\n")


def test_only_this_module_prints() -> None:
    """A way past it would be a way out for everybody's text."""
    allowed = {"steps/predict.py: print(json.dumps(row), file=sys.stdout, flush=True)"}
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "print" or re.search(r"(std(out|err)|console\(?\)?)\.(write|print|log)$", called):
                found.add(f"{name}: {ast.unparse(node)}")
    found = {each for each in found if not each.startswith("console.py")}
    assert found <= allowed


VALUES = (
    *("runs/a", "a b", "a,b", "runs/ü (1)", "a'b", 'a"b', "a\\b", "a\\'b", 'a\\"b', "a${b}", "a\\${b}", "x=y", "1e3"),
    *("null", "true", "a\\", "{a}", "[x]", "~/x", "a#b", "$HOME", "`id`", "a:b", "-x", "C:\\new\\", "a;b&c|d", ""),
)


@pytest.mark.parametrize("value", VALUES)
def test_a_printed_command_can_be_pasted(value: str) -> None:
    program, override = shlex.split(console.command("predict", ckpt_path=value))
    assert program == "cxrlab-predict"
    parsed = OverridesParser.create().parse_override(override)
    assert OmegaConf.create({"key": parsed.value()}).key == value


@pytest.mark.parametrize(
    ("typed", "prefix"),
    [
        ("/somewhere/bin/cxrlab-train", "cxrlab-predict"),
        ("cxrlab train", "cxrlab predict"),
        ("src/train.py", "python src/predict.py"),
    ],
)
def test_a_command_has_the_form_that_was_typed(typed: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    monkeypatch.chdir(SOURCE.parent)
    assert console.command("predict", "input=…", ckpt_path="my run") == f"""{prefix} 'ckpt_path="my run"' input=…"""


def test_a_command_finds_the_programs_from_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SOURCE / "train.py")])
    script = shlex.split(console.command("cache"))[1]
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_somebody_elses_script_of_the_same_name_is_none_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api.py").touch()
    monkeypatch.setattr(sys, "argv", ["api.py", "quickly"])
    assert console.command("train") == "cxrlab-train"
    assert console.typed() == "python api.py quickly"


@pytest.mark.parametrize("typed", ["model.dropout=[0,0]", "+model.dropout=a=b", "++model.dropout=1", "~model.dropout"])
def test_the_key_of_what_is_typed(typed: str) -> None:
    assert console.key_of(typed) == "model.dropout"


def test_our_script_is_ours_through_a_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["linked/predict.py", "input=scans"])
    assert re.fullmatch(r"python \S*/predict\.py input=scans", console.typed())


def test_what_is_hushed_is_only_in_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", logger="cxrlab")
    with console.hushed():
        console.say("an epoch")
        console.say("the result", loud=True)
        console.show(Table(title="a table"))
    console.say("afterwards")
    assert capsys.readouterr().out.split("\n") == ["the result", "afterwards", ""]
    assert caplog.messages == ["an epoch", "the result", "afterwards"]


def test_long_work_is_never_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "_SILENCE", 0.05)
    with console.working("audit", 4) as step:
        step("reading")
        time.sleep(0.12)
        step("looking")
        time.sleep(0.12)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "audit    reading, 0 of 4 steps done"
    assert re.fullmatch(r"audit    looking, 1 of 4 steps done, about \d+ s left", lines[-1])
    time.sleep(0.12)
    assert capsys.readouterr().out == ""


def test_quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.working("audit", 1) as step:
        step("reading")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_long_work_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(console, "get_console", lambda: screen)
    with console.working("probe", 2) as step:
        step("[red]images\x1b[2J")
        step("page")
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "probe: page" in told
    assert "50%" in told
    assert "\x1b[2Jimages" not in told


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (1500, "25 min"), (12600, "3.5 h")])
def test_a_duration_is_short(seconds: float, words: str) -> None:
    assert console.duration(seconds) == words


def test_values_are_drawn_as_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(console.as_tree("config", {"a": {"b": [1, 2], "[red]c": None}, "d": [{"e": 1}]}))
    words = [line.strip("│├└─ ") for line in capsys.readouterr().out.splitlines()]
    assert words == ["config", "a", "b: [1, 2]", "[red]c: None", "d", "0", "e: 1"]
