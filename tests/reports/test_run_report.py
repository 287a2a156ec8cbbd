"""Reports of fabricated run folders: what stands first, the numbers, the images, and folders with pieces missing."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.reports.conftest import altered

from cxrlab import figures
from cxrlab.errors import CheckpointError
from cxrlab.evaluation import summarise
from cxrlab.evaluation.decision import FIXED, consequences
from cxrlab.files import write_text
from cxrlab.reports import run_report, write_report
from cxrlab.reports.cautions import one_answer
from cxrlab.reports.record import RunRecord


def paper_like_manifest() -> pd.DataFrame:
    """The paper's set in small: 16 of 20 positive test images are other diseases, train positives are COVID-19."""
    plan = [
        ("train", 0, ["No Finding"] * 74, "normal", 70),
        ("train", 1, ["COVID-19"] * 68 + ["ARDS"] * 3 + ["Pneumocystis", "MERS", "No Finding"], "covid", 55),
        ("test", 0, ["No Finding"] * 20, "normal", 20),
        ("test", 1, ["COVID-19"] * 4 + ["SARS"] * 11 + ["Streptococcus"] * 5, "covid", 9),
    ]
    rows = [
        (f"{split}/{who}-{i:03d}.jpg", label, f"{who}-{split}-{i % patients}", split, finding, ("PA", "AP")[i % 2])
        for split, label, findings, who, patients in plan
        for i, finding in enumerate(findings)
    ]
    table = pd.DataFrame(rows, columns=["path", "label", "patient_id", "split", "finding", "view"])
    hashes = [hashlib.sha256(path.encode()).hexdigest() for path in table["path"]]
    return table.assign(source="paper", sha256=hashes)


class Folder:
    """A run folder whose files can be changed before the report is written."""

    def __init__(self, path: Path) -> None:
        self.path = path / "2026-01-02_paper_cnn_seed0"
        self.path.mkdir()
        self.manifest = paper_like_manifest()
        test = self.manifest[self.manifest["split"] == "test"].copy()
        rng = np.random.default_rng(0)
        test["score"] = np.clip(0.2 + 0.6 * test["label"] + rng.normal(0, 0.08, len(test)), 0, 1)
        test.loc[test.index[-1], "score"] = 0.31  # one missed positive: 39 of 40
        self.predictions = test
        self.config: dict[str, Any] = {
            "seed": 0,
            "data": {"_target_": "cxrlab.datamodules.XrayData", "val": "test", "allow_leak": False},
            "model": {"_target_": "cxrlab.models.paper_cnn.PaperCNN"},
        }
        self.environment: dict[str, Any] = {
            "command": "python train.py model=paper_cnn data=paper 'logger=tensor|board'",
            "packages": {"torch": "2.9.0", "lightning": "2.6.0"},
            "parameters": 23981249,
        }
        self.environment |= {"started": "2026-01-02T03:04:05+00:00", "python": "3.11.7", "git_commit": None, "seed": 0}
        self.environment |= {"cpu": "Some CPU", "cores": 2, "gpu": None, "device": "cpu", "precision": "32-true"}
        answers = test["label"], test["score"], test["patient_id"]
        estimate, consequence = summarise(*answers, resamples=200), consequences(FIXED, *answers)
        self.metrics: dict[str, Any] = {
            "warnings": ["Validation was the test set: the paper's protocol.\nNothing is independent."],
            "val": estimate,
            "test": estimate,
            "decision": FIXED.as_dict() | {"val": consequence, "test": consequence},
        }
        self.metrics |= {"status": "finished", "epochs": 3, "synthetic": False, "weights": "last (epoch 3)"}
        self.metrics |= {"epoch_seconds": [9.0, 7.0, 7.5], "wall_seconds": 31.25, "peak_memory_mb": 1234.5}
        columns = {"epoch": [1, 2, 3], "train/loss": [0.7, 0.4, 0.2], "train/accuracy": [0.6, 0.8, 0.9]}
        columns |= {"val/loss": [0.6, 0.4, 0.3], "val/accuracy": [0.7, 0.9, 0.975], "seconds": [9.0, 7.0, 7.5]}
        self.history: pd.DataFrame | None = pd.DataFrame(columns)
        self.network: dict[str, Any] = {}
        self.absent: set[str] = set()

    def write(self) -> str:
        """Writes the files, then the report, and returns its text."""
        self.write_files()
        report = write_report(self.path)
        assert report == self.path / "report.md"
        return report.read_text()

    def write_files(self) -> None:
        """Writes all files of the contract but the absent ones."""
        files: dict[str, str] = {
            "config.yaml": yaml.safe_dump(self.config),
            "overrides.yaml": yaml.safe_dump(["model=paper_cnn", "data=paper"]),
            "environment.json": json.dumps(self.environment),
            "metrics.json": json.dumps(self.metrics, default=asdict),
            "manifest.csv": self.manifest.to_csv(index=False),
            "predictions.csv": self.predictions.to_csv(index=False),
            "network.json": json.dumps(self.network),
            "metrics.csv": "" if self.history is None else self.history.to_csv(index=False),
        }
        for name, text in files.items():
            if name not in self.absent:
                (self.path / name).write_text(text)


@pytest.fixture
def drawn() -> None:
    """Asked for by the tests that need real figures; for all others saving is cheap."""


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Folder:
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "save", lambda figure, path: write_text(path, "stub"))
    return Folder(tmp_path)


def cautions(text: str) -> str:
    return text.split("\n## Cautions\n")[1].partition("\n## ")[0]


def links(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)


def test_the_result_stands_first_its_cautions_follow_and_then_all_numbers(folder: Folder) -> None:
    text = folder.write()
    assert text.splitlines()[2].startswith("**39 of 40 test images right: accuracy 0.975 [0.871, 0.996]**, AUROC ")
    assert "Read this with the 2 warnings under [Cautions](#cautions)." in text.splitlines()[2]
    first = cautions(text)
    names = ("intervals", "confusion_matrix", "roc")
    assert links(text)[:3] == [f"figures/test_{name}.png" for name in names]
    assert text.index("test_roc.png") < text.index(first) < text.index("## Beside trivial baselines")
    assert "Validation was the test set: the paper's protocol. Nothing is independent." in first
    assert "16 of 20 Positive test images show a finding that no Positive training image has" in first
    assert "(SARS 11, Streptococcus 5)" in first
    assert text.index("Research software, not a medical device.") < text.index("test_intervals.png")
    for unsaid in ("SYNTHETIC", "INTERRUPTED", "| Validation |"):
        assert unsaid not in text
    for said in (
        "; 29 patients. Read",
        "1 Positive image missed, 0 Negative images called Positive at threshold 0.5.",
        "20 of 40 right (0.500)",
        "| Sensitivity | 0.950 [0.764, 0.991] |",
        "Sensitivity: Wilson 95 % (20 images of 9 patients",
        "| **Negative** | 20 | 0 |\n| **Positive** | 1 | 19 |",
        "| Test | Positive | 20 | 9 | SARS 11, Streptococcus 5, COVID-19 4 | paper 20 | AP 10, PA 10 |",
        "| Training | Negative | 74 | 70 | No Finding 74 |",
        "| Parameters | 23,981,249 |",
        "| Seconds per epoch (median) | 7.50 |",
        "```\npython train.py model=paper_cnn data=paper 'logger=tensor|board'\n```",
    ):
        assert said in text
    assert folder.write() == text
    assert not list(folder.path.rglob(".*")), "no temporary file is left"


@pytest.mark.usefixtures("drawn")
def test_every_linked_figure_exists_and_the_page_holds_it(folder: Folder) -> None:
    text = folder.write()
    page = (folder.path / "report.html").read_text()
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == len(links(text)) == 8
    assert page.count('<li class="warning">') == 2
    for link in links(text):
        assert (folder.path / link).read_bytes().startswith(b"\x89PNG")


def test_synthetic_and_interrupted_are_said_first(folder: Folder) -> None:
    folder.metrics |= {"synthetic": True, "status": "interrupted", "epochs": 2}
    lines = folder.write().splitlines()
    assert [line[:13] for line in lines[:5:2]] == ["# SYNTHETIC: ", "**SYNTHETIC: ", "**INTERRUPTED"]
    assert "epochs completed: 2" in lines[4]
    assert "synthetic test images" in "\n".join(lines)


def test_interrupted_before_the_first_epoch(folder: Folder) -> None:
    folder.metrics = {"status": "interrupted", "epochs": 0, "synthetic": False, "warnings": []}
    folder.absent = {"metrics.csv", "predictions.csv", "overrides.yaml"}
    text = folder.write()
    assert text.splitlines()[2].startswith("**INTERRUPTED")
    assert "No split was evaluated" in text
    assert "No learning curves" in text
    assert "| Wall-clock seconds | not recorded |" in text
    assert links(text) == []


def test_validation_split_has_its_own_table(folder: Folder) -> None:
    folder.config["data"]["val"] = 0.15
    folder.manifest.loc[folder.manifest.index[:10], "split"] = "val"
    text = folder.write()
    assert text.count("| Metric | Value [low, high] |") == 2
    assert "served as validation" not in text


def test_validation_only_and_an_empty_history(folder: Folder) -> None:
    folder.config["data"]["val"] = 0.15
    del folder.metrics["test"]
    folder.predictions["split"] = "val"
    folder.history = None
    text = folder.write()
    assert "39 of 40 val images right" in text
    assert "The test split was not evaluated: these are validation numbers." in text
    assert "NOT CHECKED: images that training never saw" in text
    assert "No learning curves" in text


# ------------------------------------------------------------------------------------------------------------ cautions


def test_what_files_and_configuration_say_is_added(folder: Folder) -> None:
    folder.metrics["warnings"] = []
    folder.config["data"]["allow_leak"] = True
    table = folder.manifest
    table.loc[0, ["patient_id", "sha256"]] = table.loc[len(table) - 1, ["patient_id", "sha256"]].to_numpy()
    table["source"] = table["label"].map({0: "kermany", 1: "cohen"})
    folder.predictions = folder.predictions.iloc[:-2]
    text = folder.write()
    for said in (
        "Validation was the test set (data.val=test)",
        "data.allow_leak=true",
        "1 patient in more than one split (covid-test-1)",
        "1 image file in more than one split",
        "The source alone gives the label away (Positive: cohen 94; Negative: kermany 94)",
        "predictions.csv holds 38 test rows but metrics.json was computed from 40",
    ):
        assert said in cautions(text)
    assert "Patients in more than one split, by patient_id: 1" in text


def test_whatever_separates_the_labels_is_said_before_the_result(folder: Folder) -> None:
    positive = folder.manifest["label"] == 1
    rows = np.arange(len(folder.manifest))
    folder.manifest["collection"] = positive.map({True: "cohen", False: "kermany"})
    folder.manifest["age"] = np.where(positive, 40 + rows % 30, 1 + rows % 5)
    folder.manifest["device"] = np.where(rows % 2, "a", "b")
    folder.manifest["hospital"] = np.where(positive, "H1", np.where(rows % 10, "H2", "H1"))
    first = cautions(folder.write())
    assert "The collection alone gives the label away (Positive: cohen 94; Negative: kermany 94)" in first
    assert "The population alone gives the label away (Positive: adult 94; Negative: child 94)" in first
    assert "The hospital nearly gives the label away (Positive: H1 " in first
    assert "The age" not in first  # the population says it
    assert "The device" not in first
    folder.manifest["split"] = "train"
    folder.manifest["label"] = 1
    assert "gives the label away" not in cautions(folder.write())


def test_one_answer_for_everybody_is_the_first_line(folder: Folder) -> None:
    section = folder.metrics["test"]
    section["confusion_matrix"] = [[0, section["n_negative"]], [0, section["n_positive"]]]
    text = folder.write()
    said = f"ONE ANSWER FOR EVERYBODY: the network calls all {section['n']} images Positive"
    first = next(line for line in text.splitlines() if line.startswith("- **WARNING:**"))
    assert said in first
    assert text.splitlines()[2].startswith(f"**{said}")


@pytest.mark.parametrize(
    ("matrix", "said"),
    [([[5, 0], [7, 0]], "calls all 12 images Negative"), ([[0, 0], [0, 7]], ""), ([[5, 0], [6, 1]], "")],
)
def test_one_answer_needs_both_labels_and_no_other_answer(matrix: list[list[int]], said: str) -> None:
    (tn, fp), (fn, tp) = matrix
    n = {"n": tn + fp + fn + tp, "n_positive": fn + tp, "n_negative": tn + fp, "threshold": 0.5}
    found = one_answer({"confusion_matrix": matrix, **n})
    assert said in found
    assert bool(said) == bool(found)


# ------------------------------------------------------------------------------------------------------------- details


def test_unknown_patients_are_not_checked(folder: Folder) -> None:
    folder.manifest.loc[folder.manifest["label"] == 0, "patient_id"] = ""
    text = folder.write()
    assert "NOT CHECKED for 94 images without patient_id" in text
    assert "0 + 20 images of unknown patients" in text


def test_network_is_drawn_and_listed(folder: Folder) -> None:
    rows = [
        {"name": "conv2d", "type": "Conv2D", "output_shape": [None, 222, 222, 32], "params": 896},
        {"name": "dense", "type": "Dense", "output_shape": [None, 1], "params": 65},
    ]
    folder.network = {"model": "PaperCNN", "rows": rows, "total": 961, "trainable": 961, "text": 'Model: "PaperCNN"'}
    text = folder.write()
    assert "<summary>The network, layer by layer (the paper&#39;s Fig. 5 and 6)</summary>" in text
    assert "![PaperCNN: 961 parameters](figures/network.png)" in text
    assert '```\nModel: "PaperCNN"\n```' in text


def test_absent_layers_images_and_baselines_are_said(folder: Folder) -> None:
    folder.absent = {"network.json"}
    text = folder.write()
    assert "The layers were not recorded: network.json is absent." in text
    assert "NOT CHECKED: 188 of 188 images are missing or changed since the run, such as train/normal-000.jpg." in text
    assert "No sample images: train/normal-000.jpg: no such file." in text
    assert "Worst mistakes: 1 of 1 wrong test images. Not shown: test/covid-019.jpg: no such file." in text


@pytest.mark.parametrize(
    ("right", "p", "said"),
    [
        (39, "1", "A method that cannot see the disease does as well"),
        (40, "1", "A method that cannot see the disease does as well"),
        (36, "0.25", "A difference this small among 40 images may be chance"),
        (21, "7.63e-06", "The network uses something that no baseline sees"),
    ],
)
def test_it_is_said_what_the_best_baseline_means(folder: Folder, right: int, p: str, said: str) -> None:
    """The network of the folder misses the last image only; so does each baseline, and some before it."""
    table = folder.predictions[["path", "label", "patient_id"]].copy()
    wrong = np.arange(len(table)) >= right
    table["majority"] = 0.0
    table["thumbnail_8x8"] = np.where(wrong, 1 - table["label"], table["label"])
    table.to_csv(folder.path / "baselines.csv", index=False)
    text = folder.write()
    found = f"(thumbnail 8x8) has {right} of 40 right, the network 39 (paired p = {p}, n = 40)."
    assert f"The best baseline {found} {said}" in text
    assert text.count("**What this means.**") == 1


def test_sections_of_the_paper_are_for_its_images_only(folder: Folder) -> None:
    own = ("## Beside the paper", "true findings", "<summary>Table I against", "In brackets: the paper's Table I.")
    text = folder.write()
    assert all(section in text for section in own)
    assert "| Right of the test images | 39 of 40 | 39 of 40 | Fig. 9 |" in text
    assert "| true finding | 25 of 40 |" in text
    assert "2 give all of them; the text on Fig. 9 gives 8:" in text
    assert "| Fig. 9's four values, rearranged | 20, 1, 0, 19 | 21/19 | 13 of 13 |" in text
    assert "| text on Fig. 9 | 19, 1, 0, 20 | 20/20 | 8 of 13 |" in text
    del folder.environment["parameters"]
    assert "| Parameters | 23,981,249 | not recorded | Fig. 6 |" in folder.write()
    folder.manifest["source"] = "clinic"
    text = folder.write()
    assert not any(section in text for section in own)
    assert "<summary>Classification report" in text


def test_many_values_are_counted_together_and_none_is_a_name(folder: Folder) -> None:
    folder.manifest["source"], folder.manifest["finding"] = folder.manifest["patient_id"], "None"
    text = folder.write()
    assert "62 others 62 | AP" in text
    assert "alone gives the label away" not in text
    assert "| None 74 |" in text


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "manifest.csv", "metrics.json"])
def test_missing_file_is_named(folder: Folder, name: str) -> None:
    folder.absent = {name}
    with pytest.raises(CheckpointError, match=f"{name} is missing from the run folder .*seed0.*train again"):
        folder.write()
    with pytest.raises(CheckpointError, match="nowhere is no run folder"):
        write_report(folder.path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", '{"test": {"n": 3}}'),
        ("baselines.json", '{"majority": {"right": "many"}}'),
        ("baselines.json", '{"majority": 3}'),
        ("config.yaml", "a: ["),
        ("manifest.csv", "path,label\nx,1\n"),
        ("manifest.csv", "path,label,patient_id,split\nx,,p,train\n"),
        ("predictions.csv", "label,split,score\n1,test,high\n"),
        ("predictions.csv", "label,split,score,calibrated\n1,test,0.5,high\n"),
    ],
)
def test_damaged_file_is_named(folder: Folder, name: str, content: str) -> None:
    folder.write_files()
    (folder.path / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name} in the run folder .* cannot be read"):
        write_report(folder.path)


# ------------------------------------------------------------------------------------------------- images, read again


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of the last figure of images: of a grid images and captions, of samples originals before these."""
    seen: list[Any] = []
    draw = figures.image_grid

    def note(*given: Any) -> Any:
        seen[:] = given
        return draw(*given) if len(given) == 2 else draw(given[1][:1], ["x"])

    monkeypatch.setattr(figures, "image_grid", note)
    monkeypatch.setattr(figures, "before_after", note)
    return seen


def first_lines(captions: list[str]) -> list[str]:
    return [caption.splitlines()[0] for caption in captions]


def test_worst_mistake_comes_first(record: RunRecord, shown: list[Any]) -> None:
    picture = run_report.mistakes(record, "test", 0.5)
    assert picture == "![Worst mistakes: 2 of 2 wrong test images](figures/mistakes.png)"
    assert first_lines(shown[1]) == ["Positive, score 0.050", "Negative, score 0.600"]
    assert shown[1][0].splitlines()[1:] == ["PNEUMONIA", "patient not recorded"]
    assert (record.folder / "figures/mistakes.png").read_bytes().startswith(b"\x89PNG")


def test_without_mistakes_the_closest_calls_are_shown(record: RunRecord, shown: list[Any]) -> None:
    assert record.predictions is not None
    scores = [0.1 + 0.06 * row + 0.55 * label for row, label in enumerate(record.predictions["label"])]
    right = replace(record, predictions=record.predictions.assign(score=scores), metrics={"synthetic": True})
    picture = run_report.mistakes(right, "test", 0.5)
    assert picture.startswith("![SYNTHETIC No test image was called wrongly; the 4 nearest to the threshold](")
    nearest = sorted(scores, key=lambda score: abs(score - 0.5))[:4]
    assert [line.split()[-1] for line in first_lines(shown[1])] == [f"{score:.3f}" for score in nearest]


def test_samples_are_two_of_each_class(record: RunRecord, shown: list[Any]) -> None:
    assert run_report.samples(record).endswith("](figures/samples.png)")
    originals, processed, captions, _ = shown
    assert first_lines(captions) == ["Negative"] * 2 + ["Positive"] * 2
    assert {image.shape for image in originals} == {(32, 40, 3)}
    assert {image.shape for image in processed} == {(16, 16, 3)}


def test_altered_images_are_shown_as_the_network_saw_them(record: RunRecord, shown: list[Any]) -> None:
    assert "before" not in run_report.mistakes(altered(record, alter="centre_black_50"), "test", 0.5)
    assert not shown[0][:, 4:12, 4:12].any()
    assert shown[0][:, 0].any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"alter": "lungs_only"}, " (before data.alter=lungs_only)"),
        ({"mask": "lungs", "alter": "centre_black_50"}, " (before data.mask=lungs, data.alter=centre_black_50)"),
        ({"alter": "histogram"}, " (before data.alter=histogram)"),
    ],
)
def test_what_a_few_files_do_not_tell_is_said(record: RunRecord, data: dict[str, Any], said: str) -> None:
    assert f"as the network sees them{said}](" in run_report.samples(altered(record, **data)).replace("\\_", "_")
    assert f"wrong test images{said}](" in run_report.mistakes(altered(record, **data), "test", 0.5).replace("\\_", "_")
