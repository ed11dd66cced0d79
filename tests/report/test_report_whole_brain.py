"""The page of SIMULATED runs over several subjects: figures, tables and words are those of the files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nibabel import gifti
from pages import Page
from payloads import PAYLOADS
from whole_brain_runs import BANDS, N_VERTICES, content, on_cortex, on_surface, write_run

from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels
from wernicke.report import subject_maps, whole_brain_figures
from wernicke.report.brain_figures import Scale
from wernicke.report.page import MAX_BYTES, report_files
from wernicke.report.runs import open_run
from wernicke.report.subject_maps import SubjectMaps, best_of, limit_of


@pytest.fixture(autouse=True)
def quick_views(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interactive view takes a second: most tests get a word in its place."""
    if "real_figures" not in request.fixturenames:
        for name in ("surface_view", "volume_view"):
            monkeypatch.setattr(subject_maps, name, lambda *args, kind=name: f"{kind}: {args[-1]}")


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = content(("S1", "S2"))
    on_cortex(run, "S1")
    return write_run(tmp_path_factory.mktemp("home") / "multi", run)


_WRITTEN: dict[Path, dict[str, str]] = {}


@pytest.fixture
def written(multi: Path) -> dict[str, str]:
    """Made once, with figures that are not rendered: a fixture of the module would come before that is arranged."""
    if multi not in _WRITTEN:
        _WRITTEN[multi] = report_files([multi])
    return _WRITTEN[multi]


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = content(mono=True)
    for unit in run["units"].values():
        unit["columns"] = {name: unit["columns"][name] for name in ("r", "cv_r", "p_fdr")}
    return write_run(tmp_path_factory.mktemp("home") / "mono", run)


def test_every_subject_has_its_maps_and_they_are_marked(written: dict[str, str]) -> None:
    page = Page(written["report.html"])
    assert len(written["report.html"].encode()) < MAX_BYTES
    groups = [text.removesuffix(" SIMULATED") for text in page.of("h4") if not text.startswith("Command")]
    assert groups == ["Held-out r", "Best band", *(f"Unique variance of {band}" for band in BANDS)]
    captions = page.of("figcaption")
    for subject in ("S1", "S2"):
        assert sum(caption.startswith(f"{subject}:") for caption in captions) == len(groups)
    for tag in ("h1", "h2", "h3", "h4", "figcaption", "caption"):
        for text in page.of(tag):
            plain = text in ("Warnings", "SHA-256", "Software") or text.startswith(("Command of", "From history"))
            assert "SIMULATED" in text or plain, text
    assert all(alt.startswith("SIMULATED") for alt in page.attributes("alt"))
    assert {"script", "link", "iframe"}.isdisjoint({tag for tag, _ in page.elements})


def test_pairs_of_maps_are_shown_and_explained(tmp_path: Path) -> None:
    run = content(("S1", "S2"))
    rows = [
        {
            "quantity": "unique R2",
            "subject": subject,
            "model": "Speech",
            "other": other,
            "r": r,
            "p_spin": p,
            "p_spin_fdr": p,
            "z": 3.0,
            "n_spins": 999,
            "n_vertices": 18000,
            "difference": 0.0123,
            "low": low,
            "high": None if low is None else 0.02,
            "note": "",
        }
        for subject, low in (("S1", None), ("mean over subjects", 0.01))
        for other, r, p in (("Object", 0.62, 0.002), ("Story", -0.4, 0.004), ("Place", 0.1, 0.7))
    ]
    note = "3 vertices have a value in all maps"
    rows.append({"quantity": "share of r", "subject": "S1", "model": "Speech", "other": "Object", "difference": 0.1,
                 "n_spins": 0, "n_vertices": 0, "note": note})  # fmt: skip
    run["tables"]["map_pairs"] = pd.DataFrame(rows)
    page = Page(report_files([write_run(tmp_path / "run", run)])["report.html"])
    text = " ".join(page.of("p"))
    assert "999 rotations" in text
    assert ("Unique R2, mean over subjects: in the same places lie Speech and Object (r 0.620, difference 0.0123 "
            "[0.0100 to 0.0200]); in different places lie Speech and Story (r -0.400") in text  # fmt: skip
    assert "for 1 of 3 pairs the test says neither (q < .05 over pairs)" in text
    assert f"Share of r, S1: no pair was tested ({note})." in text
    assert any("Pairs of maps: spin tests" in caption for caption in page.of("caption"))


def test_surfaces_without_a_registered_sphere_are_not_called_absent(tmp_path: Path) -> None:
    run = content(("S1",))
    for side in "LR":
        image = gifti.GiftiImage(darrays=[gifti.GiftiDataArray(np.zeros(600, np.float32), "NIFTI_INTENT_NONE")])
        run["files"][f"subjects/S1/all/maps/r.{side}.func.gii"] = image
    text = report_files([write_run(tmp_path / "run", run)])["report.html"]
    assert "The surfaces of S1 have no registered sphere" in text
    assert "to a cortical surface was given" not in text


def test_captions_say_what_the_maps_hold(written: dict[str, str]) -> None:
    page = Page(written["report.html"])
    r = content(("S1", "S2"))["units"]["S2", "all"]["columns"]["r"]
    (said,) = [text for text in page.of("figcaption") if text.startswith("S2: median 0.1")]
    assert f"median {np.median(r):.3f}, 99 % below {np.quantile(r, 0.99):.3f}" in said


def test_tables_hold_the_files_numbers(written: dict[str, str]) -> None:
    page = Page(written["report.html"])
    assert page.row("Volumes")[1] == "220 for training, 77 scored"
    assert page.row("title") == ["title", "3", "accepted leak"]
    assert ["r", "IFG", "all", "2", "0.1250", "0.1000", "0.1500", "0.2500"] in page.rows
    assert ["all", "0.1250 0.1000 to 0.1500"] in page.rows
    assert any(row[:4] == ["all", "Story", "story", "tiny"] and "8, 9 and 10 s, averaged" in row for row in page.rows)
    group = list(csv.DictReader(io.StringIO(written["group.csv"])))
    assert [row["roi"] for row in group] == ["whole brain", "V1", "IFG"]
    assert {row["simulated"] for row in group} == {"True"}
    assert "SIMULATED DATA." in written["methods.txt"]
    assert "0.1250 [0.1000 to 0.1500]" in written["methods.txt"]


def test_where_there_is_no_way_to_the_cortex_the_page_says_so(written: dict[str, str], tmp_path: Path) -> None:
    assert "Slices only: no way from the voxels of S2 to a cortical surface" in written["report.html"]
    run = content(("S1",))
    run["units"]["S1", "all"]["units"] = None
    html = report_files([write_run(tmp_path / "b", run)])["report.html"]
    assert "Where the voxels of S1 lie, or on which mesh, is not known" in html
    assert not any("median" in text for text in Page(html).of("figcaption"))


def test_each_subject_has_an_interactive_page_that_the_report_links_to(written: dict[str, str]) -> None:
    links = [address for address in Page(written["report.html"]).attributes("href") if address.endswith(".html")]
    assert links == ["view-S1.html", "view-S2.html"]
    assert written["view-S1.html"].startswith("surface_view: SIMULATED: S1")
    assert written["view-S2.html"].startswith("volume_view: SIMULATED: S2")


def test_views_of_two_runs_do_not_meet(tmp_path: Path) -> None:
    runs = [content(("S1",)) for _ in range(2)]
    for run in runs:
        unit = run["units"]["S1", "all"]
        unit["columns"] = {name: unit["columns"][name] for name in ("r", "cv_r", "p_fdr")}
    written = report_files([write_run(tmp_path / f"run{k}", run) for k, run in enumerate(runs)])
    views = sorted(name for name in written if name.startswith(("view-", "run")))
    assert views == ["run1-view-S1.html", "run2-view-S1.html"]
    assert set(views) <= set(Page(written["report.html"]).attributes("href"))


def test_mono_shows_the_layer_that_training_rows_chose(mono: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Mapping[str, object]]] = {}
    real = whole_brain_figures.layers_figure

    def spy(rows: list[Mapping[str, object]], **options: object) -> bytes:
        seen["rows"] = rows
        return real(rows, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(whole_brain_figures, "layers_figure", spy)
    page = Page(report_files([mono])["report.html"])
    assert len(seen["rows"]) == 2 * len(BANDS) * 2
    assert all(row["best"] == (row["layer"] == "2") for row in seen["rows"])
    story = [row["value"] for row in seen["rows"] if row["subject"] == "S2" and row["band"] == "Story"]
    assert story == pytest.approx([0.1, 0.19])
    assert any(text.startswith("Best model") for text in page.of("h4"))
    assert any("a panel each of Speech, Object, Story" in alt for alt in page.attributes("alt"))


@pytest.mark.parametrize(("mesh", "n"), [("fsaverage5", 10242), ("fsaverage6", 40962), ("fsLR", 32492)])
def test_surface_runs_are_drawn_where_the_mesh_is_known(mesh: str, n: int, tmp_path: Path) -> None:
    run = content(("S1",))
    on_surface(run, "S1", mesh, n)
    folder = write_run(tmp_path / "run", run)
    maps = SubjectMaps.open(open_run(folder), "subjects/S1/all")
    if mesh == "fsLR":
        assert maps.kind == "none"
        assert "on which mesh, is not known" in report_files([folder])["report.html"]
        return
    assert maps.kind == "cortex"
    r, units = run["units"]["S1", "all"]["columns"]["r"], run["units"]["S1", "all"]["units"]
    drawn = maps.column("r")
    assert drawn.shape == (2 * N_VERTICES,)
    np.testing.assert_array_equal(np.isnan(drawn[:N_VERTICES]), ~units.left[:N_VERTICES])
    np.testing.assert_array_equal(drawn[:N_VERTICES][1:5], r[:4])
    np.testing.assert_array_equal(drawn[N_VERTICES:], r[int(units.left.sum()) :][:N_VERTICES])


def test_scattered_voxels_are_shown_as_points(tmp_path: Path) -> None:
    run = content(("S1",))
    mask = np.zeros((60, 60, 60), dtype=bool)
    mask.flat[np.random.default_rng(0).choice(mask.size, 50, replace=False)] = True
    values = {"r": np.linspace(-0.1, 0.3, 50), "cv_r": np.zeros(50), "p_fdr": np.zeros(50)}
    run["units"]["S1", "all"] = {"columns": values, "units": Voxels(mask, np.diag([2.0, 2, 2, 1]))}
    folder = write_run(tmp_path / "run", run)
    assert SubjectMaps.open(open_run(folder), "subjects/S1/all").kind == "points"
    assert "as points, since the voxels are scattered" in report_files([folder])["report.html"]


def test_a_page_without_room_says_what_it_left_out(multi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_brain_figures, "BUDGET", 300)
    html = report_files([multi])["report.html"]
    text = " ".join(Page(html).of("p"))
    assert "Unique variance of Story: S2" in text
    assert re.search(r"\d+ maps left out to keep this page small", html)


def test_best_band_needs_a_significant_voxel_and_a_gain_above_nothing() -> None:
    a, b = np.array([0.2, 0.1, -0.1, np.nan, 0.3]), np.array([0.1, 0.4, -0.2, np.nan, 0.9])
    best = best_of([a, b], np.array([True, True, True, True, False]))
    np.testing.assert_array_equal(best, [0, 1, np.nan, np.nan, np.nan])


def test_one_limit_for_several_maps() -> None:
    limit, clipped = limit_of([np.linspace(-0.1, 0.1, 1000), np.linspace(0, 0.3, 1000)])
    assert (limit, clipped) == (0.3, False)
    values = np.zeros(10_000)
    values[:100], values[0] = 0.2, 5.0
    assert limit_of([values]) == (0.2, True)
    assert limit_of([np.full(3, np.nan)]) == (1.0, False)


@pytest.mark.parametrize("text", [PAYLOADS[0], PAYLOADS[8], PAYLOADS[31]])
def test_foreign_texts_in_tables_stay_texts(text: str, tmp_path: Path) -> None:
    run = content(("S1",))
    run["units"]["S1", "all"]["units"] = None  # no maps: quicker
    run["tables"]["group"].loc[1, "roi"] = text
    run["tables"]["roi_profiles"].loc[1, "roi"] = text
    run["facts"]["models"][0]["bands"]["Story"]["model"] = text
    html = report_files([write_run(tmp_path / "run", run)])["report.html"]
    assert {"script", "img onerror", "form"}.isdisjoint({tag for tag, _ in Page(html).elements})
    assert text not in html
    assert any(text[:20] in cell for row in Page(html).rows for cell in row)


def test_facts_of_another_version_are_one_message(tmp_path: Path) -> None:
    run = content(("S1",))
    del run["facts"]["split"]["overlaps"]
    with pytest.raises(InputError, match="have no 'overlaps': written by wernicke"):
        report_files([write_run(tmp_path / "old", run)])


@pytest.mark.slow
@pytest.mark.usefixtures("real_figures")
def test_same_files_same_bytes_and_views_that_load_nothing(tmp_path: Path) -> None:
    run = content(("S1",))
    unit = run["units"]["S1", "all"]
    unit["columns"] = {name: unit["columns"][name] for name in ("r", "cv_r", "p_fdr")}
    on_cortex(run, "S1")
    folder = write_run(tmp_path / "run", run)
    written = report_files([folder])
    assert report_files([folder]) == written
    view = written["view-S1.html"]
    assert len(view.encode()) < 6_000_000
    assert "default-src 'none'" in view[:2000]
    assert not re.search(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)\s*=\s*[\"']?(?:https?:)?//", view)


def test_views_of_volumes_load_nothing_and_hold_no_foreign_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    from whole_brain_runs import ball

    from wernicke.report.viewer import volume_view

    voxels = ball()
    tilted = voxels.affine.copy()
    tilted[:3, :3] = np.linalg.qr(tilted[:3, :3] + 0.3)[0] * 3  # a native grid is seldom straight, nor its voxels cubes
    tilted[2] *= 1.25
    voxels = Voxels(voxels.mask, tilted)
    scale = Scale.around_zero("r", 0.3)
    values = np.linspace(-0.3, 0.3, voxels.n_voxels)
    # nilearn's own empty background is memory as it was found: here that memory holds NaN.
    monkeypatch.setattr(np.ma, "masked_all", lambda shape: np.ma.array(np.full(shape, np.nan), mask=True))
    page = volume_view(values, voxels, scale, "S1 <script>x</script>")
    assert page == volume_view(values, voxels, scale, "S1 <script>x</script>")
    assert "<script>x" not in page
    assert not re.search(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
