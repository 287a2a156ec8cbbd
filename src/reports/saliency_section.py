"""What a report shows of a run's saliency: the overlays that training drew, and what they do not prove."""

from __future__ import annotations

from cxrlab.console import command
from cxrlab.reports.markdown import code, plain
from cxrlab.reports.record import RunRecord, mapping

DEPENDS = "do the maps depend on what was learned"
"""The check with randomised weights, by its name in probe.json; a map that did not pass it is no evidence."""
PICTURE = "figures/saliency.png"
"""Drawn once, by the training; it stays when a report is written again."""

_HOW_TO_READ = """What is bright raised the logit of Positive, in images called Negative as well; each map is relative
to its own largest value. Half of the images were called wrongly, where there are as many; of each kind those with the
surest scores."""
_NOT_CHECKED = """NOT CHECKED: whether the maps lie in the lungs more than by chance, and whether they show what was
learned. {} measures both."""


def section(record: RunRecord) -> str:
    """The section as Markdown; empty for a run without maps."""
    chosen = mapping(record.config.get("saliency")).get("_target_")
    if not chosen or not (record.folder / PICTURE).is_file():
        return ""
    method = str(chosen).rpartition(".")[2]
    mark = "SYNTHETIC test" if record.synthetic else "Test"
    caption = f"{mark} images, and below each its map of evidence for Positive ({method})"
    how = code(command("probe", "ckpt_path=…", "saliency=…"))
    return "\n\n".join(["## Saliency", f"![{plain(caption)}]({PICTURE})", _HOW_TO_READ, _NOT_CHECKED.format(how)])
