"""What was said of each file is kept as it is said: inference/journal.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from cxrlab.errors import ConfigError
from cxrlab.inference import COLUMNS, Prediction
from cxrlab.inference.journal import Journal

SETTINGS = {"model": "m", "gate": "g"}


def row(file: Path, score: float | None = 0.25) -> Prediction:
    label = "" if score is None else "Negative"
    verdict = "refuse" if score is None else "accept"
    return Prediction(str(file), "f" * 64, verdict, "frontal", "", score, score, label, 0.5, "m", "g")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    path.write_bytes(b"first")
    return path


def test_a_row_is_on_disk_as_soon_as_it_is_known(tmp_path: Path, file: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(file))
        assert json.loads(journal.path.read_text())["score"] == 0.25


def test_what_was_done_stays_done_until_the_file_changes(tmp_path: Path, file: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        assert not journal.done(str(file))
        journal.add(row(file))
        assert journal.done(str(file))
    with Journal(tmp_path / "out", SETTINGS) as journal:
        assert journal.done(str(file))
        file.write_bytes(b"another")
        assert not journal.done(str(file))


def test_a_line_that_a_kill_cut_off_is_dropped_and_spoils_nothing(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(b"x")
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(file))
        journal.add(row(other))
    whole = journal.path.read_text()
    for end in range(1, len(whole.splitlines()[1])):
        journal.path.write_text(whole[:-end])
        with Journal(tmp_path / "out", SETTINGS) as again:
            assert again.done(str(file))
            assert again.done(str(other)) == (end == 1)  # all but the line's end is there
            again.add(row(other, None))
        assert [json.loads(line)["file"] for line in again.path.read_text().splitlines()][-1] == str(other)


def test_the_table_has_the_files_that_are_asked_for_in_their_order(tmp_path: Path, file: Path) -> None:
    second = tmp_path / 'b,\n"c".png'
    second.write_bytes(b"x")
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(file))
        journal.add(row(second, None))
        journal.write_table([str(second), str(file), "not looked at"])
    table = pd.read_csv(journal.table, keep_default_na=False)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["file"]) == [str(second), str(file)]
    assert list(table["score"]) == ["", "0.25"]


def test_further_columns(tmp_path: Path, file: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS, ["overlay"]) as journal:
        journal.add(row(file), {"overlay": "overlays/x.png"})
        table = journal.write_table([str(file)])
    assert table["overlay"].item() == "overlays/x.png"


def test_a_name_that_is_no_text_is_written_as_it_can_be(tmp_path: Path) -> None:
    name = str(tmp_path / "film") + b"\xff".decode(errors="surrogateescape")
    Path(name).write_bytes(b"x")
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(Path(name)))
        journal.write_table([name])
    with Journal(tmp_path / "out", SETTINGS) as journal:
        assert journal.done(name)
    assert "udcff" in journal.table.read_text()


def test_rows_of_another_model_are_not_mixed_in(tmp_path: Path, file: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(file))
    with pytest.raises(ConfigError, match=r"made with another model; hydra\.run\.dir"):
        Journal(tmp_path / "out", {**SETTINGS, "model": "other"}).__enter__()
    (tmp_path / "out" / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match="another model, gate"):
        Journal(tmp_path / "out", SETTINGS).__enter__()


def test_without_names_a_file_is_known_by_its_bytes(tmp_path: Path, file: Path) -> None:
    file = file.rename(tmp_path / "Doe_Jane.png")
    known = hashlib.sha256(b"first").hexdigest()
    lost = Prediction(
        str(tmp_path / "Doe.dcm"), "", "refuse", "unreadable", "Doe.dcm: gone", None, None, "", 0.5, "m", "g"
    )
    with Journal(tmp_path / "out", SETTINGS, nameless=True) as journal:
        journal.add(dataclasses.replace(row(file), sha256=known), dropped=["PatientName"])
        journal.add(lost)
        assert all(b"Doe" not in path.read_bytes() for path in (tmp_path / "out").iterdir())  # as if killed here
    with Journal(tmp_path / "out", SETTINGS, nameless=True) as journal:
        assert journal.done(str(file))
        assert not journal.done(lost.file)
        journal.add(lost)
        table = journal.write_table([lost.file, str(file)])
        assert journal.known([str(file)])[0]["dropped_tags"] == ["PatientName"]
    assert list(table["file"]) == ["file 1 of the list", known]
    assert list(table["reason"]) == ["the file: gone", ""]
    assert all(b"Doe" not in path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_without_names_a_changed_file_is_looked_at_again(tmp_path: Path, file: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS, nameless=True) as journal:
        journal.add(dataclasses.replace(row(file), sha256=hashlib.sha256(b"first").hexdigest()))
    file.write_bytes(b"second")
    with Journal(tmp_path / "out", SETTINGS, nameless=True) as journal:
        assert not journal.done(str(file))


def test_names_that_an_older_version_left_in_a_journal_go_at_once(tmp_path: Path, file: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(file))
    with Journal(tmp_path / "out", SETTINGS, nameless=True) as journal:
        assert journal.path.read_text() == ""


def test_a_name_is_no_formula_of_a_spreadsheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("=1+1.png").write_bytes(b"x")
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add(row(Path("=1+1.png")))
        journal.write_table(["=1+1.png"])
    assert Path(pd.read_csv(journal.table)["file"].item()).read_bytes() == b"x"
    assert ",./=1+1.png" in f",{journal.table.read_text().splitlines()[1]}"
