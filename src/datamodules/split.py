"""Drawing splits: by patient, stratified by label, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.errors import DataError


def hold_out(manifest: pd.DataFrame, fraction: float, seed: int, into: str, option: str) -> pd.DataFrame:
    """Moves about a fraction of the training patients, of either label, into another split.

    Patients are drawn separately among those with and those without a positive image, so that both splits hold both.

    Args:
        manifest: Rows of any split; only those of ``train`` take part.
        fraction: Share of the training patients, in (0, 1).
        seed: Of the draw.
        into: ``val`` or ``test``.
        option: What the user typed to get here, for the error.

    Returns:
        A copy with the new ``split`` column.

    Raises:
        DataError: A label has fewer than two training patients, so that no draw leaves both splits one.
    """
    manifest = manifest.copy()
    train = manifest["split"] == "train"
    people = mf.people(manifest)
    positive = manifest["label"].groupby(people).max()
    generator = np.random.default_rng(np.random.SeedSequence([seed, mf.SPLITS.index(into)]))
    drawn: list[str] = []
    for label, name in ((0, "Negative"), (1, "Positive")):
        candidates = np.array(sorted(person for person in people[train].unique() if positive[person] == label), object)
        if len(candidates) < 2:
            raise DataError(
                f"{option} cannot draw {into} images: only {len(candidates)} training patient(s) are {name}, and "
                f"{into} and train need one each; add images, or give the data set a {into} folder of its own"
            )
        count = min(max(1, round(fraction * len(candidates))), len(candidates) - 1)
        drawn += generator.permutation(candidates)[:count].tolist()
    manifest.loc[train & people.isin(drawn), "split"] = into
    return manifest
