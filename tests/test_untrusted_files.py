"""Run folders and checkpoints that somebody sent: nothing in them is resolved or called, and all end in a sentence."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from tests.training import without_pages

from cxrlab import compare, evaluate, export, predict, probe, report, train
from cxrlab.config import compose
from cxrlab.config.resolvers import register
from cxrlab.datamodules.manifest import read as read_manifest
from cxrlab.errors import CheckpointError, UserError
from cxrlab.evaluation.estimate import revived
from cxrlab.models.classifier import METADATA
from cxrlab.reports.record import read_run
from cxrlab.reports.settings import gather
from cxrlab.runs import RunFolder, load_model
from cxrlab.steps.assembly import assemble_evaluation
from cxrlab.sweeps.state import Sweep, best_monitored, read_job
from cxrlab.untrusted import MAX_DEPTH, parse_json, plain, read_mapping, read_table, read_yaml

QUICK = [
    "trainer=cpu",
    "trainer.max_epochs=1",
    "model=logistic",
    "logger=none",
    "data.image_size=32",
    "data.source.n_train=40",
    "data.source.n_test=12",
    "data.source.size=64",
]
PLANTED = "planted-by-a-stranger"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with without_pages():
        train.train(compose("train", QUICK, folder), QUICK)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "evil"))


# ---------------------------------------------------------------------------------------------- no resolver is reached


class Spied(dict[str, Any]):
    """The resolvers of OmegaConf, each of which notes a planted text before it does its work, whoever registers it."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __setitem__(self, name: str, resolve: Callable[..., Any]) -> None:
        def recorded(config: Any, parent: Any, node: Any, args: Any, texts: Any) -> Any:
            if PLANTED in repr((args, texts)):
                self.found.append(name)
            return resolve(config, parent, node, args, texts)

        super().__setitem__(name, recorded)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which resolvers were called with a planted text."""
    names, found = resolvers(), Spied([])
    for name, resolve in BaseContainer._resolvers.items():
        found[name] = resolve
    assert len(found) == len(names)
    monkeypatch.setattr(BaseContainer, "_resolvers", found)
    monkeypatch.setenv("CANARY", "secret-of-the-environment")
    return found.found


def resolvers() -> list[str]:
    """Each that OmegaConf, Hydra or this project has registered, with a planted text."""
    register()
    setup_globals()
    names = sorted(BaseContainer._resolvers)
    assert {"oc.env", "oc.create", "oc.decode", "oc.select", "oc.dict.keys", "hydra", "now", "run_name"} <= set(names)
    return [f"${{{name}:{PLANTED}}}" for name in names]


def everything(sign: Path) -> str:
    """All of them in one text, with a call that would leave a file, and a secret."""
    call = f"${{oc.create:{{_target_:pathlib.Path.touch,self:{{_target_:pathlib.Path,_args_:['{sign}']}}}}}}"
    return "".join([*resolvers(), call, "${oc.env:CANARY}"])


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where texts stand."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inside:
        if isinstance(value, str):
            yield (*path, key)
        yield from places(value, (*path, key))


def planted(node: Any, path: tuple[Any, ...], text: str) -> Any:
    node = copy.deepcopy(node)
    into = node
    for key in path[:-1]:
        into = into[key]
    into[path[-1]] = text
    return node


def test_the_spy_sees_what_is_resolved(called: list[str], tmp_path: Path) -> None:
    for text in resolvers():
        try:
            OmegaConf.to_container(OmegaConf.create({"a": text}), resolve=True)
        except Exception:  # noqa: BLE001 - most of them cannot do with this text, and each has its own error
            continue
    assert len(called) == len(resolvers())


def test_no_text_of_a_checkpoint_is_resolved(finished: Path, called: list[str], tmp_path: Path) -> None:
    original = torch.load(finished / "checkpoints" / "model.ckpt", weights_only=True)
    text, path = everything(tmp_path / "sign"), tmp_path / "evil.ckpt"
    command = [f"ckpt_path={path}", "accelerator=cpu"]
    config = compose("evaluate", command, tmp_path / "out")
    found = [*places(original[METADATA])]
    assert len(found) > 30
    for place in found:
        torch.save(original | {METADATA: planted(original[METADATA], place, text)}, path)
        try:
            _, model, datamodule = assemble_evaluation(config.copy(), command)
        except UserError:
            continue
        assert text not in repr(vars(datamodule.source))  # those that are read and never built
        assert model.metadata
    assert called == []
    assert not (tmp_path / "sign").exists()


def test_no_text_of_a_run_folder_is_resolved(run: Path, called: list[str], tmp_path: Path) -> None:
    original = yaml.safe_load((run / "config.yaml").read_text())
    text, config = everything(tmp_path / "sign"), compose("train", [*QUICK, f"ckpt_path={run}"], run)
    for place in places(original):
        (run / "config.yaml").write_text(yaml.safe_dump(planted(original, place, text)))
        with pytest.raises(CheckpointError, match="nothing in a file is interpolated"):
            RunFolder(run).resume_config(config, [])
        read_run(run)
        read_job(run)
    (run / "config.yaml").write_text(yaml.safe_dump(original))
    for place in places(metrics := json.loads((run / "metrics.json").read_text())):
        (run / "metrics.json").write_text(json.dumps(planted(metrics, place, text)))
        read_run(run)
    assert called == []
    assert not (tmp_path / "sign").exists()


COMMANDS: dict[str, tuple[Any, Callable[[Path, Path], list[str]]]] = {
    "predict": (predict, lambda run, films: [f"ckpt_path={run}", f"input={films}", "accelerator=cpu"]),
    "evaluate": (evaluate, lambda run, films: [f"ckpt_path={run}", "accelerator=cpu"]),
    "probe": (probe, lambda run, films: [f"ckpt_path={run}", "accelerator=cpu", "alterations=[none]"]),
    "export": (export, lambda run, films: [f"ckpt_path={run}", "format=checkpoint", "gate=none"]),
    "report": (report, lambda run, films: [f"run={run}"]),
    "compare": (compare, lambda run, films: [f"runs={run}", "resamples=100"]),
    "train": (train, lambda run, films: [*QUICK, f"ckpt_path={run}"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("where", ["the network", "the data", "all that is only said"])
def test_no_command_resolves_or_leaks(
    where: str, name: str, run: Path, called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text, path = everything(tmp_path / "sign"), run / "checkpoints" / "model.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    said = checkpoint[METADATA]
    config = yaml.safe_load((run / "config.yaml").read_text())
    if where == "the network":
        said["model"]["size"] = config["model"]["size"] = text
    elif where == "the data":
        said["config"]["data"]["source"]["shortcut"] = config["data"]["source"]["shortcut"] = text
        said["config"]["data"]["alter"] = text
    else:
        said |= {"weights": text, "threshold_rule": text}
        said["data"]["sources"] = [text]
        said["config"]["monitor"] = config["monitor"] = text
        (run / "overrides.yaml").write_text(yaml.safe_dump([text]))
        found = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps(found | {"warnings": [text], "weights": text}))
    torch.save(checkpoint, path)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    if name == "train":  # unfinished, so that it is continued
        (run / "metrics.json").unlink()
    films = next(iter(read_manifest(run / "manifest.csv")["path"]))
    module, words = COMMANDS[name]
    folder = tmp_path / "out"
    command = [*words(run, Path(films)), *([] if name in ("report", "train") else [f"hydra.run.dir={folder}"])]
    monkeypatch.setattr(sys, "argv", [name, *command])
    monkeypatch.chdir(tmp_path)
    code = None
    try:
        module.main()
    except SystemExit as end:
        code = end.code
    assert code in (0, 1, None)
    printed = "".join(capfd.readouterr())
    assert called == []
    assert "Traceback" not in printed
    assert "secret-of-the-environment" not in printed
    assert not (tmp_path / "sign").exists()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"secret-of-the-environment" not in file.read_bytes(), file


# --------------------------------------------------------------------------------------------- continuing a run


def resumed(run: Path, *typed: str, **changes: Any) -> DictConfig:
    """What a run goes on with, after keys of its config.yaml were changed."""
    config = OmegaConf.create(yaml.safe_load((run / "config.yaml").read_text()))
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    (run / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config)))
    return RunFolder(run).resume_config(compose("train", [*QUICK, *typed, f"ckpt_path={run}"], run), [])


EVIL = {"_target_": "os.system", "command": "id"}
CHANGES: dict[str, dict[str, Any]] = {
    "a function": {"model": EVIL},
    "a way through ours": {"model___target_": "cxrlab.models.torchvision_net.torch.hub.load"},
    "an instantiate": {"model___target_": "hydra.utils.instantiate"},
    "a method of ours": {"model___target_": "cxrlab.models.PaperCNN.load_state_dict"},
    "inside of the network": {"model__size": EVIL},
    "inside of the data": {"data__source__seed": EVIL},
    "inside of a list": {"augment__transforms": [EVIL]},
    "a callback": {"callbacks__more": EVIL},
    "another library's": {"callbacks__more": {"_target_": "pytorch_lightning.callbacks.LambdaCallback"}},
    "a logger": {"logger": {"more": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "save_dir": "/"}}},
    "a folder of the Trainer": {"trainer__default_root_dir": "/"},
    "a profiler": {"trainer__profiler": "simple"},
    "a plugin": {"trainer__plugins": [EVIL]},
    "an optimizer": {"optimizer___target_": "torch.optim.SGD.step"},
    "a scheduler": {"scheduler": EVIL},
    "a loss": {"loss___target_": "subprocess.Popen"},
    "a group nobody knows": {"more": EVIL},
    "arguments by place": {"model___args_": [1]},
    "a partial network": {"model___partial_": True},
    "another conversion": {"data___convert_": "none"},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_folder_that_names_other_code_is_not_continued(what: str, run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.yaml: refused: .*if you trust this folder, repeat what"):
        resumed(run, **CHANGES[what])


def test_what_is_typed_again_is_trusted_and_what_is_written_stays_here(run: Path) -> None:
    assert resumed(run).model == OmegaConf.load(run / "config.yaml").model
    with pytest.raises(CheckpointError, match="refused"):
        resumed(run, optimizer___target_="torch.optim.RMSprop")
    typed = ["optimizer._target_=torch.optim.RMSprop"]
    assert resumed(run, *typed).optimizer._target_ == "torch.optim.RMSprop"
    moved = resumed(run, *typed, data__cache="/theirs", data__source__root="/theirs")
    assert "/theirs" not in OmegaConf.to_yaml(moved)


LAST: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing but weights": lambda found: {"state_dict": found["state_dict"]},
    "no weights": lambda found: found | {"state_dict": {}},
    "weights of another size": lambda found: (
        found | {"state_dict": {name: torch.zeros(3, 3) for name in found["state_dict"]}}
    ),
    "an optimizer of text": lambda found: found | {"optimizer_states": ["adam"]},
    "an optimizer of nothing": lambda found: found | {"optimizer_states": [{"state": {}, "param_groups": []}]},
    "loops of nothing": lambda found: found | {"loops": {"fit_loop": {"state_dict": 1}}},
    "callbacks in a list": lambda found: found | {"callbacks": [1]},
    "a list": lambda found: [found],
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LAST)
def test_a_state_of_training_that_no_training_wrote_ends_in_a_sentence(
    what: str, unfinished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(unfinished, tmp_path / "evil"))
    last = run / "checkpoints" / "last.ckpt"
    torch.save(LAST[what](torch.load(last, weights_only=True)), last)
    command = [*QUICK, f"ckpt_path={run}", "trainer.max_epochs=2"]
    with pytest.raises(CheckpointError, match=r"last\.ckpt: .*"):
        train.train(compose("train", command, run), command)


@pytest.mark.slow
def test_the_state_itself_is_gone_on_with(unfinished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(unfinished, tmp_path / "run"))
    command = [*QUICK, f"ckpt_path={run}", "trainer.max_epochs=2"]
    with without_pages():
        assert train.train(compose("train", command, run), command)[0]["epochs"] == 2


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its first epoch."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    with pytest.MonkeyPatch.context() as patch, without_pages():
        patch.setattr(RunFolder, "drop_training_state", lambda run: None)
        train.train(compose("train", QUICK, folder), QUICK)
    (folder / "metrics.json").unlink()
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    return folder


# ------------------------------------------------------------------------------------------ damaged and hostile files

DEEP = 20_000
YAML = {
    "a call": b"!!python/object/apply:os.system [id]",
    "a module": b"a: !!python/module:os\n",
    "laughs": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 120)),
    "merged laughs": b"a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n",
    "itself": b"a: &a [*a]\n",
    "deep": b"[" * DEEP,
    "deep mappings": b"{a: " * 2000,
    "large": b"a: " + b"x" * 300_000,
    "not UTF-8": b"a: \xff\xfe\xfa",
    "zeros": b"\0" * 100,
    "a date": b"a: 2020-01-01\n",
    "a set": b"a: !!set {x}\n",
    "bytes": b"a: !!binary aWQ=\n",
    "a long number": b"a: " + b"9" * 5000,
    "a number of no digits": b"a: 0b\n? [x]\n: y\n",
    "cut off": b"a: {b: [1, 2",
    "a tab": b"a:\n\t- b",
}
JSON = {
    "deep": b"[" * DEEP,
    "deep mappings": b'{"a":' * DEEP,
    "nan": b'{"a": NaN}',
    "infinite": b'{"a": -Infinity}',
    "too large a number": b'{"a": 1e999}',
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "a number of 64 bits": b'{"a": 99999999999999999999}',
    "not UTF-8": b'{"a": "\xff"}',
    "cut off": b'{"a": [1, 2',
    "nothing": b"",
    "a million values": b"[" + b"0," * 1_100_000 + b"0]",
    "a long text": b'"' + b"x" * 2_000_000 + b'"',
    "a long key": b'{"' + b"x" * 5000 + b'": 1}',
}
TABLES = {
    "columns without end": b"x," * 5000 + b"x\n",
    "a line without end": b"x" * 200_000,
    "a cell without end": b"path,label,patient_id,split\n" + b"x" * 100_000 + b",0,p,test\n",
    "not UTF-8": b"path,label,patient_id,split\n\xff,0,p,test\n",
    "an open quote": b'path,label,patient_id,split\n"a,0,p,test\n' * 3,
    "more cells than columns": b"path,label,patient_id,split\na,0,p,test,,,\na,0\nb,1,p,test,,,,,\n",
    "a label of text": b"path,label,patient_id,split\na,yes,p,test\n",
    "a label of nothing": b"path,label,patient_id,split\na,,p,test\n",
    "other columns": b"a,b\n1,2\n",
    "nothing": b"",
    "a packed one": b"PK\x03\x04" * 100,
}


@pytest.mark.parametrize("what", YAML)
def test_a_hostile_configuration_ends_in_a_sentence(what: str, run: Path) -> None:
    for name in ("config.yaml", "overrides.yaml"):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(YAML[what])
        with pytest.raises(CheckpointError, match=name):
            read_run(run)
        with pytest.raises(CheckpointError, match=name):
            RunFolder(run).resume_config(compose("train", [*QUICK, f"ckpt_path={run}"], run), [])
        assert read_mapping(run / name) == {}
        assert read_job(run).overrides == () or name == "config.yaml"
        (run / name).write_bytes(kept)


@pytest.mark.parametrize("what", JSON)
def test_hostile_results_end_in_a_sentence(what: str, run: Path) -> None:
    for name in ("metrics.json", "environment.json", "network.json"):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(JSON[what])
        with pytest.raises(CheckpointError, match=name):
            read_run(run)
        (run / name).write_bytes(kept)
    (run / "metrics.json").write_bytes(JSON[what])
    with pytest.raises(CheckpointError, match=r"metrics\.json"):
        RunFolder(run).status()
    assert read_job(run).status != "finished"
    with suppress(UnicodeDecodeError), pytest.raises(ValueError, match=r".+"):
        parse_json(JSON[what].decode())


@pytest.mark.parametrize("what", TABLES)
def test_hostile_tables_end_in_a_sentence(what: str, run: Path) -> None:
    (run / "metrics.csv").write_bytes(TABLES[what])
    read_job(run)
    (run / "metrics.csv").unlink()
    for name in ("manifest.csv", "predictions.csv"):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(TABLES[what])
        if what != "nothing" or name == "manifest.csv":
            with pytest.raises(UserError, match=name.partition(".")[0]):
                read_run(run) if name == "predictions.csv" else read_manifest(run / name)
        (run / name).write_bytes(kept)


def test_files_that_are_nearly_all_holes_or_no_files_are_not_read(run: Path) -> None:
    for name in ("config.yaml", "metrics.json", "manifest.csv", "predictions.csv"):
        kept = (run / name).read_bytes()
        os.truncate(run / name, 3 * 2**30)
        with pytest.raises(CheckpointError, match=name):
            read_run(run)
        (run / name).unlink()
        os.mkfifo(run / name)  # reading it would wait without end
        with suppress(CheckpointError):
            read_run(run)
        (run / name).unlink()
        (run / name).write_bytes(kept)
    read_run(run)


def test_values_of_other_kinds_end_in_a_sentence_or_are_left_out(run: Path) -> None:
    for name in ("config.yaml", "overrides.yaml", "metrics.json", "environment.json", "network.json"):
        kept = (run / name).read_bytes()
        for value in (
            b"[1, [2], {}]",
            b"7",
            b'"text"',
            b"null",
            b'{"test": [1], "status": [1], "trainer": 3, "data": []}',
        ):
            (run / name).write_bytes(value)
            with suppress(CheckpointError):
                read_run(run)
            read_job(run)
        (run / name).write_bytes(kept)


def test_the_note_of_a_sweep_is_plain(tmp_path: Path) -> None:
    (tmp_path / "0_seed-0").mkdir()
    for note in ('{"jobs": "many", "began": "now", "typed": 3}', "[" * DEEP, '{"jobs": NaN}', "[]", ""):
        (tmp_path / "sweep.json").write_text(note)
        sweep = Sweep.read(tmp_path)
        assert (sweep.total, sweep.began, sweep.typed) == (None, 0.0, ())
        sweep.summary(now=1.0)


def test_a_checker_copies_and_bounds() -> None:
    own: dict[Any, Any] = {"a": (1, 2.5, None, True, "x"), 3: [{}]}
    assert plain(own) == {"a": [1, 2.5, None, True, "x"], "3": [{}]}
    assert plain(own)["a"] is not own["a"]
    own["self"] = own
    with pytest.raises(ValueError, match=f"nested deeper than {MAX_DEPTH} times, or holds itself"):
        plain(own)
    for other in (object(), {1: 1, "1": 2}, {(1,): 2}, {None: 1}, {1, 2}, b"x", 2**63, type("int", (int,), {})(3)):
        with pytest.raises(ValueError, match=r"it holds|its keys"):
            plain([other])


def test_a_good_run_is_read_as_ever(finished: Path) -> None:
    assert read_run(finished).metrics == revived(json.loads((finished / "metrics.json").read_text()))
    assert read_yaml(finished / "config.yaml") == yaml.safe_load((finished / "config.yaml").read_text())
    assert len(read_table(finished / "manifest.csv")) == 52
    assert len(gather(str(finished)).settings) == 1
    assert load_model(finished).metadata["model"]["_target_"] == "cxrlab.models.ThumbnailLogistic"
    assert best_monitored(RunFolder(finished)) is not None
