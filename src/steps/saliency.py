"""Saliency of a model, measured: where its maps lie, and whether they depend on score and weights.

A map convinces everybody who looks at it; three numbers say whether it should. The rules by which a verdict is given
stand in :meth:`SaliencyMeasured.section` and on the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from cxrlab import figures
from cxrlab.checks.base import Finding, Picture, Section, Table, Verdict
from cxrlab.datamodules import Preprocessing
from cxrlab.datamodules.manifest import NAMES
from cxrlab.evaluation import saliency as measures
from cxrlab.evaluation.estimate import Bools, Floats, Ints, Mean, Resampling, mean
from cxrlab.evaluation.saliency import Curves, Images, Maps
from cxrlab.models.saliency import Saliency, randomised
from cxrlab.reports.cautions import DEPENDS, MAPS
from cxrlab.runs.folder import RunFolder
from cxrlab.steps.assembly import Parts
from cxrlab.steps.results import Scored
from cxrlab.words import plural

FEWEST = 5
"""With fewer patients than this nothing is concluded."""
ALIKE = 0.5
"""Maps whose rank correlation with those of random weights may reach this are not taken to depend on the weights."""
DRAWS = 3
"""Random networks per image of the check with randomised weights."""
CURVE_STEPS = 16
MOST = 40
"""Up to so many images are used where each costs many passes: curves, and randomised weights."""
SHOWN = 8

GROUPS = ("called Positive", "called Negative", "labelled Positive", "labelled Negative", "all images")
PARTS = {"all": "every layer", "head": "the last layer"}


@dataclass(frozen=True)
class SaliencyMeasured:
    """What was measured.

    Attributes:
        table: One row per image: ``label``, ``score``, ``called`` (Positive), ``patient``, ``zero`` (no evidence
            anywhere), ``inside`` (the map's share inside the lungs), ``area`` (the lungs' share of the image),
            ``excess`` (``inside - area``), ``pointing`` (whether the largest value is inside), ``deletion`` and
            ``insertion`` (how much better than in random order; better is positive), ``correlation_all``, ``ssim_all``,
            ``correlation_head``, ``ssim_head`` (with the maps of random weights, mean over draws). NaN: not measured.
        inside: By group of :data:`GROUPS`: estimates ``inside``, ``area``, ``excess``, ``above`` (share of images with
            more inside than by chance), ``pointing``, the number ``ratio`` (of the means) and the counts ``images``,
            ``zero``, ``no_lungs``.
        effect: Estimates ``deletion`` and ``insertion``.
        sanity: By part of :data:`PARTS`: estimates ``correlation`` and ``ssim``.
        deleted: Curves of the images called Positive, like ``inserted``; ``None`` where there is none.
        shown: Positions of the images that overlays show.
        images: Shape (shown, H, W, C); ``maps`` and ``lungs`` (shown, H, W), ``None`` where the lungs are not known.
    """

    method: str
    table: pd.DataFrame
    inside: dict[str, dict[str, Any]]
    effect: dict[str, Mean]
    sanity: dict[str, dict[str, Mean]]
    deleted: Curves | None
    inserted: Curves | None
    shown: Ints
    images: Images
    maps: Maps
    lungs: Bools | None

    def section(self) -> Section:
        """The measures as a section of a page, with verdicts and the rules by which they were given."""
        depends = self._depends_on_weights()
        facts = {"method": self.method, "images": len(self.table), "inside": self.inside}
        return Section(
            title=f"Saliency, measured ({self.method})",
            findings=[depends, self._is_inside(depends.verdict is Verdict.PASS), self._matters()],
            text=_TEXT,
            tables=self._tables(),
            pictures=self._pictures(),
            facts={**facts, "effect": self.effect, "sanity": self.sanity},
        )

    def _depends_on_weights(self) -> Finding:
        found = self.sanity["all"]["correlation"]
        if found.n_patients < FEWEST:
            return self._few(DEPENDS, found)
        sane = found.below(ALIKE)
        said = "The maps change with the weights." if sane else "The maps show little of what was learned."
        ssim = self.sanity["all"]["ssim"]
        details = f"Their rank correlation with maps of random weights is {found}, the SSIM {ssim}; {_of(found)}."
        return Finding(DEPENDS, Verdict.PASS if sane else Verdict.WARN, said, max(0.0, found.value or 0.0), details)

    def _is_inside(self, sane: bool) -> Finding:
        """Where the maps lie neither clears nor accuses a network unless they are sane: change with its weights."""
        check = "does the evidence for Positive lie in the lungs"
        group = self.inside["called Positive"]
        excess, above = group["excess"], group["above"]
        if group["images"] and group["no_lungs"] == group["images"]:
            return Finding(check, Verdict.NOT_CHECKED, "It is not known where the lungs are.")
        if excess.n_patients < FEWEST:
            return self._few(check, excess)
        # Where all images differ alike, the difference has no interval, and the share of images above chance has one.
        found, even = (excess, 0.0) if excess.low is not None else (above, 0.5)
        verdict = Verdict.PASS if found.above(even) else Verdict.WARN
        if found.high is not None and found.high <= even:
            verdict = Verdict.FAIL
        doubt = "" if sane else " These maps are not known to show what was learned."
        said = (
            f"In images called Positive, {group['inside']} of the saliency is inside the lungs, which cover "
            f"{group['area']} of the image."
        )
        details = (
            f"The ratio is {group['ratio']:.2f}, the difference {excess}; it is more than by chance in {above} of "
            f"them; {_of(excess)}, {plural(group['zero'], 'map')} without evidence left out.{doubt}"
        )
        return Finding(check, verdict if sane else Verdict.NOT_CHECKED, said, min(1.0, abs(excess.value)), details)

    def _matters(self) -> Finding:
        check = "does the score depend on what the maps show"
        gone, come = self.effect["deletion"], self.effect["insertion"]
        if gone.n_patients < FEWEST:
            return self._few(check, gone)
        verdict = Verdict.PASS if gone.above(0) and not come.below(0) else Verdict.WARN
        said = f"Blackening the most salient pixels first takes {gone} more area from the score's curve than random "
        details = f"Uncovering them first adds {come}; {_of(gone)} called Positive."
        return Finding(check, verdict, f"{said}tiles do.", details=details)

    def _few(self, check: str, found: Mean) -> Finding:
        zero = int(self.table["zero"].sum())
        without = f" {zero} of {len(self.table)} maps are zero: they show no evidence for Positive." if zero else ""
        said = f"There are {_of(found)} to look at, and at least {plural(FEWEST, 'patient')} are needed.{without}"
        return Finding(check, Verdict.NOT_CHECKED, said)

    def _tables(self) -> list[Table]:
        header = ("Images", "n", "Inside the lungs", "Lungs' area", "Ratio", "Above chance", "Peak inside", "No map")
        rows = []
        for name, found in self.inside.items():
            ratio = "" if found["ratio"] is None else f"{found['ratio']:.2f}"
            inside, area, above, peak = (str(found[key]) for key in ("inside", "area", "above", "pointing"))
            rows.append((name, found["images"], inside, area, ratio, above, peak, found["zero"]))
        weights = [
            (PARTS[part], str(found["correlation"]), str(found["ssim"]), found["correlation"].n)
            for part, found in self.sanity.items()
        ]
        likeness, columns = (
            "Likeness of the maps to those of random weights",
            ("Random", "Rank correlation", "SSIM", "n"),
        )
        caption = "Where the evidence for Positive lies, by group of images; intervals over patients"
        return [Table(caption, header, rows), Table(likeness, columns, weights)]

    def _pictures(self) -> list[Picture]:
        found = []
        if len(self.shown):
            rows = self.table.iloc[self.shown]
            captions = [
                caption + ("" if np.isnan(inside) else f"\nin lungs {inside:.2f}, area {area:.2f}")
                for caption, inside, area in zip(_captions(rows), rows["inside"], rows["area"], strict=True)
            ]
            title = f"Evidence for Positive by {self.method}{'' if self.lungs is None else ', the lungs outlined'}"
            caption = f"{title}; each map relative to its own largest value; wrongly called images first"
            figure = figures.overlays(self.images, self.maps, self.lungs, captions, title)
            found.append(Picture("saliency_overlays", caption, figure))
        if self.table["inside"].notna().any():
            inside, area, called = (self.table[name].to_numpy() for name in ("inside", "area", "called"))
            figure = figures.inside_against_area(inside, area, called, "Saliency inside the lungs")
            caption = "Each image's share of saliency inside the lungs, beside what an even map would have there"
            found.append(Picture("saliency_inside", caption, figure))
        if self.deleted is not None and self.inserted is not None:
            figure = figures.deletion_and_insertion(self.deleted, self.inserted, "Images called Positive")
            caption = "Mean score while pixels are blackened, or uncovered from a blur, in the maps' order"
            found.append(Picture("saliency_curves", caption, figure))
        return found


_ABOUT = """
Every map is of the logit of Positive: what speaks for Positive, in images called Negative as well; what speaks against
it is not shown. A map says where a network found its evidence, not whether the evidence is disease: a shortcut may lie
inside the lungs, too. Lungs are predicted, not drawn by a reader.
"""
_RULES = f"""
**Rules.** *What was learned*: the same maps of the same network with random weights ({DRAWS} draws, every layer); PASS
where the whole interval of the rank correlation is below {ALIKE:g}, WARN otherwise (Adebayo et al. 2018). *Lungs*: of
images called Positive, the share of the map inside the lungs minus the lungs' share of the image; FAIL where the whole
interval is at or below zero, WARN where it holds zero, PASS above; NOT CHECKED where the first rule gave no PASS.
(Where all images differ alike, the share of images above chance is held against one half.) *The score*: areas under the
deletion and insertion curves (Petsiuk et al. 2018) of images called Positive, against those of random tiles; PASS where
deletion is better with its whole interval and insertion is not worse with its own, WARN otherwise. NOT CHECKED with
fewer than {FEWEST} patients. Up to {MOST} images are used for random weights and for curves; intervals resample
patients.
"""
_TEXT = (_ABOUT.strip(), _RULES.strip())


def measure(
    network: nn.Module,
    method: Saliency,
    images: Images,
    lungs: Bools | None,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    threshold: float,
    seed: int,
) -> SaliencyMeasured:
    """Makes the maps of a network and measures them.

    Args:
        network: Images (N, C, H, W), float32 in [0, 1], to logits of Positive (N, 1); left as it is.
        method: How maps are made.
        images: Shape (n, H, W, C), uint8, as the network is to see them.
        lungs: Shape (n, H, W); an image without any is left out of what is measured inside the lungs. ``None`` where
            they are not known.
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1], calibrated where the threshold is meant so.
        patients: Shape (n,), one identifier per image.
        threshold: Called Positive from this score on.
        seed: Of every draw, at least 0.

    Raises:
        ConfigError: The method cannot explain this network.
    """
    maps = method(network, _tensor(images))
    called, ids = np.asarray(scores) >= threshold, np.asarray(patients).astype(str)
    table = pd.DataFrame({"label": labels, "score": scores, "called": called, "patient": ids})
    table["zero"] = maps.max(axis=(1, 2)) <= 0
    _add_places(table, maps, lungs)
    deleted, inserted = _add_effect(table, network, images, maps, seed)
    _add_sanity(table, network, method, images, maps, seed)
    shown = measures.pick(table["label"], table["score"], threshold, SHOWN)
    how = Resampling(seed=seed)

    def mean_of(column: str) -> Mean:
        return mean(table[column], table["patient"], how)

    positive, everything = table["label"] == 1, pd.Series(True, table.index)
    groups = zip(GROUPS, (table["called"], ~table["called"], positive, ~positive, everything), strict=True)
    return SaliencyMeasured(
        method=method.name,
        table=table,
        inside={name: _places(table[of], how) for name, of in groups},
        effect={name: mean_of(name) for name in ("deletion", "insertion")},
        sanity={part: {name: mean_of(f"{name}_{part}") for name in ("correlation", "ssim")} for part in PARTS},
        deleted=deleted,
        inserted=inserted,
        shown=shown,
        images=images[shown],
        maps=maps[shown],
        lungs=None if lungs is None else lungs[shown],
    )


def show_test(parts: Parts, run: RunFolder, scored: Scored) -> None:
    """Draws a few test images with their maps, half of them called wrongly where there are as many.

    Args:
        parts: Of the run, with a method and the weights that were evaluated; TensorBoard's loggers take
            ``test/saliency`` and must still be open.
        run: Takes ``figures/saliency.png``, for the report.
        scored: The test split.
    """
    assert parts.saliency is not None
    threshold = scored.decided.threshold
    table = scored.predictions.assign(score=scored.probabilities, called=scored.probabilities >= threshold)
    rows = table.iloc[measures.pick(table["label"], table["score"], threshold, SHOWN)]
    images = parts.datamodule.pixels[rows.index.to_numpy()]
    maps = parts.saliency(parts.network, _tensor(images))
    mark = "SYNTHETIC test" if parts.datamodule.source.synthetic else "Test"
    title = f"{mark} images: evidence for Positive by {parts.saliency.name}"
    figure = figures.overlays(images, maps, None, _captions(rows), title)
    figures.save(figure, run.path / MAPS)
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure("test/saliency", figure, parts.trainer.global_step)


def _tensor(images: Images) -> torch.Tensor:
    return Preprocessing.to_float(torch.from_numpy(np.ascontiguousarray(images)))


def _scorer(network: nn.Module) -> measures.Score:
    """The network as a function of images."""
    weights = next(network.parameters(), torch.zeros(0))

    def score(images: Images) -> Floats:
        mode = network.training
        network.eval()
        try:
            with torch.no_grad():
                parts = [
                    network(_tensor(part).to(weights.device, weights.dtype))
                    for part in np.array_split(images, max(1, len(images) // 16))
                ]
        finally:
            network.train(mode)
        return torch.cat(parts).float().sigmoid().squeeze(1).cpu().numpy().astype(np.float64)

    return score


def _add_places(table: pd.DataFrame, maps: Maps, lungs: Bools | None) -> None:
    """Adds what is measured inside the lungs; NaN where there is no map, or no lungs were found."""
    if lungs is None:
        table[["inside", "area", "excess", "pointing"]] = np.nan
        return
    seen = lungs.any(axis=(1, 2))
    table["inside"] = np.where(seen, measures.share_inside(maps, lungs), np.nan)
    table["area"] = np.where(seen, lungs.mean(axis=(1, 2)), np.nan)
    table["excess"] = table["inside"] - table["area"]
    table["pointing"] = np.where(seen, measures.pointing(maps, lungs), np.nan)


def _add_effect(
    table: pd.DataFrame, network: nn.Module, images: Images, maps: Maps, seed: int
) -> tuple[Curves | None, Curves | None]:
    """Adds how much better than by chance the maps' order is; of images called Positive, whose score can fall."""
    table[["deletion", "insertion"]] = np.nan
    rows = _sample((table["called"] & ~table["zero"]).to_numpy(), seed)
    if not len(rows):
        return None, None
    score, of = _scorer(network), (images[rows], maps[rows])
    deleted = measures.deletion(score, *of, steps=CURVE_STEPS, seed=seed)
    inserted = measures.insertion(score, *of, steps=CURVE_STEPS, seed=seed)
    table.loc[rows, "deletion"] = deleted.area_by_chance - deleted.area_by_map
    table.loc[rows, "insertion"] = inserted.area_by_map - inserted.area_by_chance
    return deleted, inserted


def _add_sanity(
    table: pd.DataFrame, network: nn.Module, method: Saliency, images: Images, maps: Maps, seed: int
) -> None:
    """Adds the likeness of each map to those of random weights, the mean over the draws in which it is defined."""
    rows = _sample(~table["zero"].to_numpy(), seed)
    for part in PARTS:
        others = [method(randomised(network, seed + draw, part), _tensor(images[rows])) for draw in range(DRAWS)]
        for name, likeness in (("correlation", measures.rank_correlation), ("ssim", measures.ssim)):
            table[f"{name}_{part}"] = np.nan
            if len(rows):
                each = pd.DataFrame([likeness(maps[rows], other) for other in others])
                table.loc[rows, f"{name}_{part}"] = each.mean().to_numpy()


def _sample(wanted: Bools, seed: int) -> Ints:
    """Up to :data:`MOST` of the wanted rows."""
    rows = np.flatnonzero(wanted)
    return rows if len(rows) <= MOST else np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))


def _places(rows: pd.DataFrame, how: Resampling) -> dict[str, Any]:
    """See ``SaliencyMeasured.inside``."""
    known = rows[rows["inside"].notna()]
    columns = {name: known[name] for name in ("inside", "area", "excess", "pointing")}
    columns["above"] = (known["excess"] > 0).astype(float)
    found: dict[str, Any] = {
        # Shares of images; the others are means of shares.
        name: mean(column, known["patient"], how, share=name in ("above", "pointing"))
        for name, column in columns.items()
    }
    found["ratio"] = found["inside"].value / found["area"].value if len(known) else None
    return found | {
        "images": len(rows),
        "zero": int(rows["zero"].sum()),
        "no_lungs": int(rows["area"].isna().sum()),
    }


def _captions(rows: pd.DataFrame) -> list[str]:
    """``Positive, score 0.930`` and how it was called; of rows with ``label``, ``score`` and ``called``."""
    return [
        f"{NAMES[int(label)]}, score {score:.3f}\n{'right' if bool(label) == bool(called) else 'WRONG'}"
        for label, score, called in zip(rows["label"], rows["score"], rows["called"], strict=True)
    ]


def _of(found: Mean) -> str:
    return f"{plural(found.n, 'image')} of {plural(found.n_patients, 'patient')}"
