from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cxrlab.config.help import Conf, help_text
from cxrlab.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"
PROGRAMS = [path.stem for path in sorted(CONF.glob("*.yaml")) if not path.stem.startswith("_")]
OPTIONS = [
    *(("", program) for program in PROGRAMS),
    *((path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.glob("[!h]*/**/*.yaml")),
    *Conf().variants,
]


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=map("=".join, OPTIONS))
def test_everything_in_conf_has_a_comment(group: str, name: str) -> None:
    option = Conf().option(group, name)
    assert option.comment
    if group not in ("experiment", "debug"):  # which set keys of others, and document themselves in their first lines
        assert [key.name for key in option.keys if not key.comment] == []


def test_what_an_option_builds_on_is_read_with_it() -> None:
    keys = {key.name: key for key in Conf().option("model", "paper_cnn_small").keys}
    assert keys["model.filters"].default == "[8, 16, 32]"
    assert keys["model.filters"].comment == "of the three convolutions"
    assert keys["model.kernel"].default == "3"
    keys = {key.name: key for key in Conf().option("data", "concat").keys}
    assert "data.source.sources.first.root" in keys
    assert keys["data.image_size"].section == "how an image reaches the network"
    assert keys["data.duplicates"].default == "refuse"


def test_comments_are_found_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text(
        "# Of mine,\n# in two lines.\n_target_: mine.Net\n# above it\nfirst: 1\nsecond: '#2'  # behind it,\n"
        "              # and below\n# a block\nthird: {a: 1}  # in braces\nfourth:\n  - _target_: mine.Part\n"
        "    fifth: 5  # of a part\n"
    )
    option = Conf([tmp_path]).option("model", "mine")
    assert (option.comment, option.target) == ("Of mine, in two lines.", "mine.Net")
    found = [(key.name, key.default, key.comment, key.section) for key in option.keys]
    assert found == [
        ("model.first", "1", "above it", ""),
        ("model.second", "'#2'", "behind it, and below", ""),
        ("model.third", "{a: 1}", "in braces", "a block"),
        ("model.fourth", "[Part]", "", "a block"),
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_the_groups_and_keys_of_the_program_alone(program: str) -> None:
    values = yaml.safe_load((CONF / f"{program}.yaml").read_text(encoding="utf-8"))
    own = {next(iter(each)) for each in values["defaults"] if isinstance(each, dict)} - {"hydra"}
    text = help_text(program, [])
    head, _, keys = text.partition("Keys (set with key=value):")
    listed = {line.split()[0] for line in head.partition("group=option):")[2].splitlines() if line[2:3].isalpha()}
    assert {name.partition("/")[0] for name in listed} == own
    assert {line.split("=")[0].strip() for line in keys.splitlines() if "=" in line} >= values.keys() - {
        *("defaults", "hydra")
    }


def test_help_shows_the_option_that_was_typed(tmp_path: Path) -> None:
    assert "model.weights_path=null" in help_text("train", ["model=resnet18"])
    assert "model.weights_path" not in help_text("train", [])
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        help_text("train", ["model=resnet19"])
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("# Mine.\nwidth: 3  # of the layers\n")
    text = help_text("train", ["model=mine"], [str(tmp_path)])
    assert "*mine" in text
    assert "of the layers" in text
