"""A data set whose every text was written by somebody else, through every program: it is shown, and does nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from tests import programs
from tests.reports.test_hostile_text import check_folder

QUICK = ("model=logistic", "data.image_size=32", "trainer=cpu", "trainer.max_epochs=1", "logger=none")
NAME = "\x1b[31m<img src=x onerror=a()>`[x](javascript:b())|=1\u202e{{7*7}}${oc.env:HOME}$_"
TEXT = f'=HYPERLINK("a"){NAME}\n# H1\n\n- item\n<script>c()</script>![d](http://127.0.0.1:9/e.png)\x1b]52;c;YQ==\x07'
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``films.csv`` and its films, and nothing harmless in either."""
    place = tmp_path_factory.mktemp("hostile")
    rows = []
    for number in range(24):
        noise = np.random.default_rng(number)
        film = 60 + 80 * (number % 2) + noise.normal(0, 20, (80, 80))
        name = f"=x{number:02d}{NAME}".replace("/", "_") + ".png"
        done, data = cv2.imencode(".png", film.clip(0, 255).astype(np.uint8))
        assert done
        (place / name).write_bytes(data.tobytes())
        split = "train" if number < 14 else "val" if number < 18 else "test"
        texts = dict.fromkeys(("finding", "source", "view", "device", "sex", "licence", TEXT, "=1+1"), TEXT)
        rows.append({"path": name, "label": number % 2, "patient_id": f"{number}{TEXT}", "split": split, **texts})
    (place / f"broken{NAME}.png".replace("/", "_")).write_bytes(b"no film")
    # As somebody wrote it: without the marks that write_csv would set.
    pd.DataFrame(rows).to_csv(place / "films.csv", index=False)
    return place


def run(program: str, *typed: str) -> str:
    """Runs a program; returns what it printed, which is harmless and begins no line with somebody's text.

    The training is a process of its own, which prints the warnings of libraries, too.
    """
    if program == "train":
        command = [sys.executable, "-m", "cxrlab.train", *typed]
        done = subprocess.run(command, capture_output=True, check=False)
        status, printed = done.returncode, (done.stdout + done.stderr).decode()
    else:
        status, *said = programs.run(program, *typed)
        printed = "".join(said)
    assert status == 0, printed
    assert not _HARMFUL.search(printed), printed
    assert not re.search(r"^(# H1|- item|<script>)", printed, re.MULTILINE), printed
    return printed


def check_outputs(folder: Path) -> None:
    """Every document, table and log that a program wrote."""
    check_folder(folder)
    for path in folder.rglob("*"):
        if path.suffix == ".log":
            assert not _HARMFUL.search(path.read_text(encoding="utf-8")), path
        if path.suffix == ".csv":
            cells = pd.read_csv(path, dtype=str, keep_default_na=False, header=None).to_numpy().ravel()
            starts = [start for cell in cells for start in re.split(r"[;\t\r\n]", cell)]
            found = [each for each in starts if re.match(r"[=@+-](?![\d.]*$)", each) and each != "- item"]
            assert found == [], path
        assert _HARMFUL.search(path.name) is None or path.parent == folder, path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning")  # matplotlib, of names in figures
def test_no_program_lets_anything_through(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    data = ("data=manifest", "data.source.path=films.csv", "data.image_size=32")
    run("train", *data, *QUICK, 'hydra.run.dir="a <b>run"')
    run("evaluate", 'ckpt_path="a <b>run"', "hydra.run.dir=evaluated")
    run("audit", *data, "hydra.run.dir=audited")
    run("compare", 'runs="a <b>run"', "hydra.run.dir=compared")
    run("predict", 'ckpt_path="a <b>run"', "input=.", "hydra.run.dir=predicted")
    for folder in ("a <b>run", "evaluated", "audited", "compared", "predicted"):
        check_outputs(place / folder)
    written = pd.read_csv(place / "a <b>run" / "manifest.csv", keep_default_na=False)
    assert written["finding"].str.startswith("'=HYPERLINK").all()
