"""Group tables against scipy, and against a planted truth in SIMULATED subjects."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.encoding.group import (
    WHOLE_BRAIN,
    compare_models,
    group_table,
    layer_table,
    paper_top_voxels,
    roi_profiles,
    small_group_note,
    smallest_p,
    unique_profiles,
    winner_shares,
    winners,
)

SUBJECTS, MODELS, ROIS = [f"S{i}" for i in range(6)], ("word2vec", "llama"), ("STG", "V1", "PCC")


def simulate(n_voxels=60, seed=0):
    """Llama is better in the STG by .1 and equal elsewhere; subjects differ."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject, model in itertools.product(SUBJECTS, MODELS):
        offset = np.random.default_rng([seed, SUBJECTS.index(subject)]).normal(0, 0.02, 3)
        roi = np.repeat(ROIS, n_voxels // 3)
        gain = np.where(roi == "STG", 0.1, 0.0) if model == "llama" else 0.0
        truth = 0.1 + np.repeat(offset, n_voxels // 3) + gain
        rows.append(pd.DataFrame({
            "subject": subject, "model": model, "voxel": np.arange(n_voxels), "roi": roi,
            "r": truth + rng.normal(0, 0.02, n_voxels), "cv_r": truth + rng.normal(0, 0.02, n_voxels),
            "p_fdr": np.where(roi == "V1", 0.5, 0.01), "unique_speech": gain + rng.normal(0, 0.01, n_voxels),
            "unique_speech_p": 0.5, "unique_story": rng.normal(0, 0.01, n_voxels),
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_profiles_equal_means_by_hand():
    scores = simulate()
    scores.loc[scores.index[:2], "r"] = np.nan
    scores.loc[scores.index[-1], "roi"] = None
    profiles = roi_profiles(scores)
    assert len(profiles) == 6 * 2 * 4
    row = profiles.query("subject == 'S0' and model == 'word2vec' and roi == 'STG'").iloc[0]
    assert row["n_voxels"] == 18
    assert row["mean"] == pytest.approx(scores["r"][2:20].mean())
    assert row["share_significant"] == 1
    last = profiles.query("subject == 'S5' and model == 'llama'").set_index("roi")
    assert last.loc["PCC", "n_voxels"] == 19
    assert last.loc[WHOLE_BRAIN, "n_voxels"] == 60


def test_paired_comparison_equals_scipy_and_finds_the_planted_region():
    profiles = roi_profiles(simulate())
    table = compare_models(profiles, [("llama", "word2vec")]).set_index("roi")
    wide = profiles.pivot(index=["roi", "subject"], columns="model", values="mean")
    for roi in (*ROIS, WHOLE_BRAIN):
        a, b = wide.loc[roi]["llama"], wide.loc[roi]["word2vec"]
        found = stats.ttest_rel(a, b)
        assert table.loc[roi, "t"] == pytest.approx(found.statistic)
        assert table.loc[roi, "p_t"] == pytest.approx(found.pvalue)
        low, high = found.confidence_interval(0.95)
        assert (table.loc[roi, "low"], table.loc[roi, "high"]) == pytest.approx((low, high))
        flips = stats.permutation_test(
            ((a - b).to_numpy(),), np.mean, permutation_type="samples", n_resamples=np.inf
        )  # scipy: all sign flips, two-sided
        assert table.loc[roi, "p_flip"] == pytest.approx(flips.pvalue)
    np.testing.assert_allclose(
        table.loc[list(ROIS), "p_t_fdr"], stats.false_discovery_control(table.loc[list(ROIS), "p_t"])
    )
    assert table.loc[WHOLE_BRAIN, "p_t_fdr"] == table.loc[WHOLE_BRAIN, "p_t"]
    assert table.loc["STG", "p_t_fdr"] < 0.001
    assert table.loc["STG", "p_flip"] == table.loc["STG", "smallest_p"] == 2 / 64
    assert table.loc["STG", "n_positive"] == 6
    assert (table.loc[["V1", "PCC"], "p_t"] > 0.05).all()


def test_group_table_is_one_sided_by_default_and_says_who_is_best():
    table = group_table(roi_profiles(simulate())).set_index(["roi", "model"])
    assert table.loc[("STG", "llama"), "n_best"] == 6
    assert table.loc[("STG", "word2vec"), "n_best"] == 0
    assert table.loc[("STG", "llama"), "smallest_p"] == 1 / 64
    assert table["n_best"].groupby("roi").sum().eq(6).all()
    assert (table["n_subjects"] == 6).all()
    assert (table["low"] < table["mean"]).all()


def test_unique_variance_over_subjects():
    profiles = unique_profiles(simulate().query("model == 'llama'"))
    assert set(profiles["model"]) == {"speech", "story"}
    table = group_table(profiles).set_index(["roi", "model"])
    assert table.loc[("STG", "speech"), "p_t_fdr"] < 0.001
    assert table.loc[("STG", "speech"), "mean"] == pytest.approx(0.1, abs=0.01)
    assert (table.loc[(slice(None), "story"), "p_t_fdr"] > 0.05).all()


def test_winners_are_chosen_on_training_rows():
    scores = simulate()
    won = winners(scores)
    assert len(won) == 6 * 40  # V1 is not significant
    assert won.query("roi == 'STG'")["winner"].eq("llama").mean() > 0.95
    row = won.iloc[0]
    both = scores.query("subject == @row.subject and voxel == @row.voxel").set_index("model")
    assert row["winner"] == both["cv_r"].idxmax()
    assert row["r"] == both.loc[row["winner"], "r"]
    assert row["margin"] == pytest.approx(both["cv_r"].max() - both["cv_r"].min())
    shares = winner_shares(won)
    assert shares.groupby(["subject", "roi"])["share"].sum().to_numpy() == pytest.approx(1)
    assert len(winners(scores, alpha=None)) == 6 * 60
    none = winner_shares(winners(scores.assign(p_fdr=0.9)))
    assert none.empty
    assert list(none) == list(winner_shares(won))


def test_best_layer_is_that_of_the_training_rows():
    scores = simulate()
    layers = pd.concat([
        scores.assign(layer=layer, cv_r=scores["cv_r"] + bonus, r=scores["r"] - bonus)
        for layer, bonus in ((1, 0.0), (2, 0.05), (3, 0.02))
    ])  # fmt: skip
    table = layer_table(layers, top_voxels=10)
    assert len(table) == 6 * 2 * 3
    assert set(table.loc[table["best"], "layer"]) == {2}
    assert (table.groupby(["subject", "model"])["best"].sum() == 1).all()
    assert (table["n_voxels"] == 10).all()


def test_paper_top_voxels_are_the_best_by_cv_for_all_models_alike():
    scores = simulate()
    kept = paper_top_voxels(scores, 7)
    assert len(kept) == 6 * 2 * 7
    mean = scores.groupby(["subject", "voxel"])["cv_r"].mean()
    for subject in SUBJECTS:
        wanted = set(mean[subject].nlargest(7).index)
        for model in MODELS:
            assert set(kept[(kept["subject"] == subject) & (kept["model"] == model)]["voxel"]) == wanted
    sides = pd.concat([scores.assign(hemisphere="left"), scores.assign(hemisphere="right", cv_r=0)])
    assert set(paper_top_voxels(sides, 7)["hemisphere"]) == {"left"}


def test_few_subjects_are_told_what_they_can_show():
    assert smallest_p(6) == 1 / 32
    assert smallest_p(20, "greater") == 1 / 5000  # drawn, no longer enumerated
    assert "64 patterns" in small_group_note(6, 1)
    assert "13 of them" in small_group_note(6, 20)
    assert "Nothing can be significant" in small_group_note(5, 1)
    one = compare_models(roi_profiles(simulate().query("subject == 'S0'")))
    assert one["p_t"].isna().all()
    assert one["low"].isna().all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: roi_profiles(s.drop(columns="r")), "no column 'r'"),
        (lambda s: roi_profiles(s.iloc[:0]), "no row"),
        (lambda s: compare_models(roi_profiles(s), [("llama", "bert")]), "unknown model 'bert'"),
        (lambda s: unique_profiles(s[["subject", "voxel"]]), "no column `unique_"),
        (lambda s: roi_profiles(s.assign(roi=WHOLE_BRAIN)), "stands for all voxels"),
    ],
)
def test_impossible_tables_are_refused(call, match):
    with pytest.raises(InputError, match=match):
        call(simulate())
