"""What the page of SIMULATED runs says of bands beyond one another, and of components of their weights."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pages import Page
from whole_brain_runs import BANDS, content, write_run

from wernicke.report import whole_brain_figures
from wernicke.report.claims import component_sentences, unique_sentences
from wernicke.report.page import report_files

MEANS = {"Speech": (0.004, 0.001, 0.007), "Object": (0.001, -0.001, 0.003), "Story": (-0.002, -0.003, -0.001)}


def unique_tables(n_subjects: int = 2) -> dict[str, pd.DataFrame]:
    group = pd.DataFrame([{"quantity": "unique R2", "roi": "whole brain", "model": band, "other": None, "mean": mean,
                           "low": low, "high": high, "n_subjects": n_subjects, "n_positive": 1}
                          for band, (mean, low, high) in MEANS.items()])  # fmt: skip
    profiles = pd.DataFrame([{"subject": f"S{i + 1}", "roi": roi, "model": band, "n_voxels": 9,
                              "mean": mean if roi != "V1" else mean / 2,
                              "share_significant": 0.1 + 0.05 * i}
                             for i in range(n_subjects) for roi in ("whole brain", "V1") for band, (mean, *_)
                             in MEANS.items()])  # fmt: skip
    return {"group": group, "unique_profiles": profiles}


def component_table(subjects: tuple[str, ...] = ("S1", "S2")) -> pd.DataFrame:
    shares = {"S1": (0.30, 0.12, 0.02), "S2": (0.26, 0.14, 0.04), "group": (0.27, 0.13, 0.03)}
    return pd.DataFrame([{"model": "all", "band": "Story", "subject": s, "component": k + 1, "share": share,
                          "null_share": 0.05, "p": 0.01 if k < 2 else 0.4, "n_voxels": 50,
                          "share_by_others": None if s == "group" else share - 0.01}
                         for s in subjects for k, share in enumerate(shares[s])])  # fmt: skip


def test_a_band_is_told_from_nothing_by_its_interval_over_subjects():
    facts = content()["facts"]
    said = unique_sentences(facts, *unique_tables().values())
    assert said[0] == (
        "Speech explains a mean R2 of 0.00400 over all voxels beyond Object and Story (95 % over 2 subjects "
        "0.00100 to 0.00700), above 0 in 1 of 2 subjects; by itself significant (q < .05) in 12.5 % of voxels. "
        "The mean is above 0."
    )
    assert said[1].endswith("The mean cannot be told from 0.")
    assert said[2].endswith("The mean is below 0: beside the others it predicts worse.")
    tables = unique_tables(1)
    assert "One subject: nothing is said of others." in unique_sentences(facts, *tables.values())[0]
    assert unique_sentences(facts, None, None) == []


def test_language_stands_beside_the_nuisance_bands():
    facts = content()["facts"]
    facts["features"]["nuisance"] = ["word_rate"]
    facts["models"][0]["bands"]["Object"]["nuisance"] = True
    tables = unique_tables()
    tables["group"]["model"] = ["language", "Speech", "else"]
    said = unique_sentences(facts, *tables.values())
    assert [text.split(" beyond ")[1].split(" (")[0] for text in said] == [
        "Object and word_rate", "Object, Story and word_rate", "the other bands",
    ]  # fmt: skip


def test_components_are_summed_up_over_subjects():
    (said,) = component_sentences(component_table(("S1", "S2", "group")))
    assert said == (
        "Story (all): the first 3 components explain 28.0 ± 2.8, 13.0 ± 1.4 and 3.0 ± 1.4 % of the weights' variance "
        "over voxels (mean ± SD over 2 subjects), those of the other subjects 27.0, 12.0 and 2.0 %. Leading "
        "components above weights whose signs are drawn anew: 2 of 3."
    )
    (alone,) = component_sentences(component_table(("S1",)))
    assert "explain 30.0, 12.0 and 2.0 % of the weights' variance over voxels (1 subject). Leading" in alone
    assert component_sentences(None) == []


@pytest.mark.parametrize("regions", [True, False])
def test_the_page_draws_unique_variance_and_lists_components(
    regions: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = content()
    for unit in run["units"].values():
        unit["units"] = None  # no maps: quicker
    tables = unique_tables()
    if not regions:
        tables["unique_profiles"] = tables["unique_profiles"].query("roi == 'whole brain'")
    run["tables"] |= {"unique_profiles": tables["unique_profiles"], "weight_pca": component_table()}
    run["tables"]["group"] = pd.concat([run["tables"]["group"], tables["group"]])
    seen = []
    real = whole_brain_figures.profile_figure
    monkeypatch.setattr(whole_brain_figures, "profile_figure", lambda rows, **options: (
        seen.append((options["score"], options["models"], options["regions"])), real(rows, **options)
    )[1])  # fmt: skip
    written = report_files([write_run(tmp_path / "run", run)])
    assert seen[1] == (
        "mean unique R2, scored runs",
        list(BANDS),
        ["whole brain", "V1"] if regions else ["whole brain"],
    )
    page = Page(written["report.html"])
    assert any("Mean unique R2 by region and model" in alt for alt in page.attributes("alt"))
    assert any(text.startswith("Speech explains a mean R2 of 0.00400") for text in page.of("p"))
    assert any(text.startswith("Story (all): the first 3 components") for text in page.of("p"))
    assert ["S2", "all", "Story", "2", "0.1400", "0.0500", "0.0100", "0.1300", "50"] in page.rows
    assert "weight_pca.csv" in written
    assert "unique_profiles.csv" in written
