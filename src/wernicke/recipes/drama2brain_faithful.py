"""drama2brain's models as published: `wernicke.encoding.faithful` on every row the published code uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.encoding.faithful import FaithfulResult, encode_faithful
from wernicke.pretrained.llm import resolve_device
from wernicke.recipes.drama2brain_bands import CEILING_REASON, Fitted, Model, Subject, same_for_all

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config


def fit(
    config: Config,
    run: Path,
    model: Model,
    features: Mapping[str, np.ndarray],
    subjects: Mapping[str, Subject],
) -> Iterator[tuple[str, Fitted]]:
    """Yield each subject's result; all its responses are in memory at once, as in the published code."""
    time_delays, reduce_dim = same_for_all(model.bands)
    for subject, given in subjects.items():
        samples, responses = given.recording.samples, np.asarray(given.recording.values)
        varying = np.ptp(responses, axis=0) > 0
        keep = config.save_pred or config.authors_files
        settings: dict[str, Any] = {
            "parts": samples[f"part_{config.data.dataset}"], "titles": samples["title"], "runs": samples["run"],
            "folds": samples["fold"], "time_delays": time_delays, "reduce_dim": reduce_dim, "n_iter": config.n_iter,
            "perm_type": config.perm_type, "device": resolve_device(config.device),
        }  # fmt: skip
        found = encode_faithful(
            features, responses[:, varying], keep_predictions=keep,
            nested=config.save_pred and len(features) == 1, **settings,
        )  # fmt: skip
        columns = _columns(found)
        if len(features) > 1 and config.partition != "none":
            for name in features:
                without = {other: values for other, values in features.items() if other != name}
                reduced = encode_faithful(without, responses[:, varying], **settings)
                columns[f"unique_{name}"] = found.cc["all"] - reduced.cc["all"]
        yield subject, _spread(config, found, columns, varying)


def _columns(found: FaithfulResult) -> dict[str, np.ndarray]:
    columns = {
        "r": found.cc["all"], "p_fdr": found.pvalues_corrected["all"], "cv_r": found.cv_cc, "alpha": found.best_alphas
    }  # fmt: skip
    for name in found.cc:
        if name != "all":
            columns |= {f"share_{name}": found.cc[name], f"share_{name}_p_fdr": found.pvalues_corrected[name]}
    return columns


def _spread(config: Config, found: FaithfulResult, columns: Mapping[str, np.ndarray], varying: np.ndarray) -> Fitted:
    """Put values back among all voxels, NaN where a voxel is constant."""

    def full(values: np.ndarray) -> np.ndarray:
        if varying.all():
            return values
        out = np.full((*values.shape[:-1], len(varying)), np.nan, dtype=np.result_type(values, np.float32))
        out[..., varying] = values
        return out

    grid_end = np.isin(found.best_alphas, (1e-12, 1e12))
    facts = {
        "n_constant": int((~varying).sum()),
        "null": {"type": f"pooled {config.perm_type}", "n_permutations": 1},
        "ceiling": {"reason": CEILING_REASON},
        "edge_share": float(grid_end.mean()),
        "n_floored": found.n_floored,
    }
    return Fitted(
        {name: full(values) for name, values in columns.items()},
        facts,
        {name: full(values) for name, values in found.coef.items()},
        {name: full(values) for name, values in (found.predictions or {}).items()},
        None if found.nested_predictions is None else full(found.nested_predictions),
        {name: {"r": full(found.cc[name]), "p": full(found.pvalues_corrected[name])} for name in found.cc},
        found.projections,
    )
