"""The command that gets a collection: download.py."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict

from cxrlab.config import compose
from cxrlab.download import get
from cxrlab.errors import ConfigError

ROOT = Path(__file__).parents[1]


def configured(*overrides: str) -> DictConfig:
    config = compose("download", overrides, "unused")
    with open_dict(config):
        del config.output_dir
    return config


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four files as in Kaggle's archive of chest-xray-pneumonia."""
    file = tmp_path / "archive.zip"
    with zipfile.ZipFile(file, "w") as zipped:
        for name in ("NORMAL/IM-0115-0001.jpeg", "PNEUMONIA/person1_bacteria_1.jpeg"):
            for split in ("train", "test"):
                zipped.writestr(f"chest_xray/{split}/{name}", b"film")
    return file


def test_a_collection_is_put_where_its_source_finds_it(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXRLAB_DATA", str(tmp_path / "data"))
    config = configured("data=kermany", f"url={archive}")
    numbers, objects = get(config)
    assert numbers == {"images": 4, "patients": 2}
    assert objects["folder"] == tmp_path / "data" / "chest_xray" == Path(config.data.source.root)
    assert objects["manifest"]["split"].value_counts().to_dict() == {"train": 2, "test": 2}
    said = capsys.readouterr().out
    assert "licence  CC BY 4.0" in said
    assert "listed   4 images, 2 patients" in said
    assert "note     kermany: patients are read from file names" in said
    assert "next" not in said


def test_another_place_says_what_to_type_next(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(configured("data=kermany", f"url={archive}", f"to={tmp_path}/disk"))
    assert f"next     CXRLAB_DATA={tmp_path}/disk before a command" in capsys.readouterr().out


def test_mistakes_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        get(configured("data=cohen", "timeout=0", "force=maybe", "+sha=1"))
    told = str(caught.value)
    assert told.startswith("3 problems in the configuration:")
    assert "timeout must be a number in (0, 3600], got 0" in told
    assert "force must be one of True, False, got 'maybe'" in told
    assert "sha: unknown key; did you mean 'sha256'" in told


def test_what_is_drawn_or_the_users_own_is_not_to_be_had() -> None:
    with pytest.raises(ConfigError, match=r"nothing to download for SyntheticSource; there is for data=paper, data="):
        get(configured("data=synthetic"))


def test_the_data_set_has_to_be_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^data: must be set; there is something to download for data=paper, data=ker"
    ):
        get(configured())


def test_the_command_leaves_a_sentence_and_no_file(tmp_path: Path) -> None:
    # Without a proxy, so that the name has to be looked up here; no name server ever knows it (RFC 2606).
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    overrides = ("data=cohen", "to=here", "url=http://no-such-host.invalid/a.zip")
    command = [sys.executable, str(ROOT / "src/download.py"), *overrides]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: http://no-such-host.invalid/a.zip: cannot be reached: no network, or no name")
    assert "cite     Cohen et al." in done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
