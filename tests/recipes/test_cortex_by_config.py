"""Keys of `data` lead to maps on fsaverage5 and to spin tests between them, or to one message before a run begins."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import yaml
from nilearn.surface import load_surf_data

import tiny_bids as tiny
from wernicke import cli
from wernicke.core.errors import InputError
from wernicke.data.bids import read_bids
from wernicke.data.drama2brain import read_tvoxels
from wernicke.data.mapper import read_mapper
from wernicke.data.maps import read_maps, write_maps
from wernicke.data.surfaces import write_surface_maps
from wernicke.recipes import drama2brain_simulate
from wernicke.recipes.bids_source import BidsSource
from wernicke.recipes.drama2brain_encode_results import compare_maps
from wernicke.recipes.drama2brain_simulate import simulate_drama2brain
from wernicke.recipes.map_pairs import MEAN, pair_table
from wernicke.stats.spin import load_sphere, spin_test
from wernicke.store.run import RunFolder

N_VERTICES = 2 * 10242
FAST = ("--n_permutations", "19", "--tail", "counted", "--n_bootstrap", "100", "--n_iter", "1", "--alphas", "100",
        "10000")  # fmt: skip


def write_mapper(path: Path, n_voxels: int) -> Path:
    """Vertex v shows voxel v % n_voxels, which no real cortex does."""
    vertex = np.arange(N_VERTICES)
    matrix = scipy.sparse.csr_matrix((np.ones(N_VERTICES), (vertex, vertex % n_voxels)), shape=(N_VERTICES, n_voxels))
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for part in ("data", "indices", "indptr", "shape"):
            file[f"voxel_to_fsaverage_{part}"] = getattr(matrix, part)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SIMULATED: one subject of 24 voxels, one layer, two bands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drama2brain_simulate, "SUBJECTS", ("DM01",))
        patch.setattr(drama2brain_simulate, "LAYERS", ("layer2",))
        patch.setitem(drama2brain_simulate.N_VOXELS, "small", (24,))
        made = simulate_drama2brain(tmp_path_factory.mktemp("simulated") / "data", seed=2)
    config = yaml.safe_load((made / "drama2brain_multi.yaml").read_text())
    config["bands"] = {name: config["bands"][name] for name in ("Speech", "Object")}
    (made / "two.yaml").write_text(yaml.safe_dump(config))
    return made


def encode(root: Path, run: Path, *flags: str) -> int:
    return cli.run(["encode", "--config", str(root / "two.yaml"), "--data.root", str(root), *FAST, "--run", str(run),
                    *flags])  # fmt: skip


@pytest.mark.slow
def test_a_mapper_leads_to_maps_and_to_pairs_of_maps(root: Path, tmp_path: Path) -> None:
    write_mapper(tmp_path / "DM01.hdf", 24)
    run = tmp_path / "run"
    assert encode(root, run, "--data.mapper", str(tmp_path / "{subject}.hdf")) == 0
    unit = run / "subjects" / "DM01" / "all"
    table, _ = read_maps(unit)
    # The recording's columns are in MATLAB's order of the grid, which is pycortex's.
    assert (np.diff(read_tvoxels(root / "fmri_bbregister" / "DM01" / "vset_099.mat")) > 0).all()
    by_column = table.sort_values("column")
    maps = {}
    for name in ("r", "unique_Speech", "unique_Object", "share_Speech", "share_Object"):
        both = [load_surf_data(str(unit / "maps" / f"{name}.{side}.func.gii")) for side in "LR"]
        maps[name] = np.concatenate(both)
        expected = by_column[name].to_numpy()[np.arange(N_VERTICES) % 24]
        np.testing.assert_allclose(maps[name], expected, rtol=1e-5)
    assert json.loads((unit / "facts.json").read_text())["surface"] == "fsaverage5, by a mapper"
    pairs = pd.read_csv(run / "tables" / "map_pairs.csv")
    assert pairs["quantity"].tolist() == ["unique R2", "share of r"]
    assert set(pairs["data"]) == {"SIMULATED"}
    for row, kind in zip(pairs.to_dict("records"), ("unique", "share"), strict=True):
        first, other = maps[f"{kind}_{row['model']}"], maps[f"{kind}_{row['other']}"]
        one = spin_test(first, other, n_permutations=19, seed=42)
        assert row["r"] == pytest.approx(one.r)
        assert row["r"] == pytest.approx(np.corrcoef(first, other)[0, 1])
        assert row["p_spin"] == pytest.approx(one.p)
        assert row["difference"] == pytest.approx(float((first - other).mean()))
        assert (row["n_spins"], row["n_vertices"]) == (19, N_VERTICES)


def test_models_that_were_fitted_apart_are_compared_at_the_layer_of_training_rows(tmp_path: Path) -> None:
    mapper = read_mapper(write_mapper(tmp_path / "DM01.hdf", 24))
    rng = np.random.default_rng(0)
    r = {name: rng.normal(size=24) for name in ("Speech-layer1", "Speech-layer2", "Object-layer1")}
    for name, values in r.items():
        write_maps(tmp_path / "subjects" / "DM01" / name, {"r": values}, None)
        write_surface_maps(tmp_path / "subjects" / "DM01" / name, {"r": values}, mapper)
    table = pd.DataFrame({"subject": "DM01", "model": list(r), "band": ["Speech", "Speech", "Object"],
                          "mean_cv_r": [0.1, 0.3, 0.2]})  # fmt: skip
    folder = SimpleNamespace(path=lambda name: tmp_path / name)
    config: Any = SimpleNamespace(reg_type="mono", mode="corrected", n_permutations=19, seed=0)
    pairs = compare_maps(cast(RunFolder, folder), config, [], ["DM01"], table)
    assert pairs is not None
    (row,) = pairs.to_dict("records")
    assert [row[key] for key in ("quantity", "subject", "model", "other")] == ["r", "DM01", "Speech", "Object"]
    shown = np.arange(N_VERTICES) % 24
    expected = np.corrcoef(r["Speech-layer2"][shown], r["Object-layer1"][shown])[0, 1]
    assert row["r"] == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_mapped_is_refused_before_the_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mapper(tmp_path / "DM01.hdf", 25)
    for flags, message in (
        (("--data.mapper", str(tmp_path / "{subject}.hdf")), "found 25 voxels, expected the recording's 24"),
        (("--data.mapper", str(tmp_path / "other.hdf")), "data.mapper: no such file"),
        (("--data.surfaces", str(tmp_path)), "holds no folder DM01 or sub-DM01"),
        (("--data.transform", "register.dat"), "no data.surfaces"),
    ):
        assert encode(root, tmp_path / "run", *flags) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


# BIDS ------------------------------------------------------------------------------------------------------------


def test_volumes_of_bids_take_the_same_keys(tmp_path: Path) -> None:
    tiny.make_volumes(tmp_path / "ds")
    found = read_bids(tmp_path / "ds", ["01"])
    n_voxels = int(tiny.MASK.sum())
    write_mapper(tmp_path / "01.hdf", n_voxels)
    source = BidsSource(mapper=str(tmp_path / "{subject}.hdf"))
    source.check_sheets(["01"])
    sheet = source.read_sheet("01", found)
    assert sheet is not None
    # The mapper counts the mask's voxels with the first axis fastest, the recording with the last.
    volume = np.arange(tiny.MASK.size, dtype=float).reshape(tiny.SHAPE)
    in_order = volume.transpose(2, 1, 0)[tiny.MASK.transpose(2, 1, 0)]
    np.testing.assert_allclose(sheet.project(volume[tiny.MASK])["left"][:n_voxels], in_order)
    with pytest.raises(InputError, match="no such file"):
        source.check_sheets(["01", "02"])
    assert BidsSource().read_sheet("01", found) is None


def test_surfaces_in_another_space_than_the_recordings_are_refused(tmp_path: Path) -> None:
    tiny.make_volumes(tmp_path / "ds")
    found = read_bids(tmp_path / "ds", ["01"])
    (tmp_path / "fs" / "sub-01" / "surf").mkdir(parents=True)
    with pytest.raises(InputError, match=f"the recordings in space {tiny.MNI}") as error:
        BidsSource(surfaces=str(tmp_path / "fs")).read_sheet("01", found)
    assert error.value.code == "E-CFG"
    assert "data.space: T1w" in str(error.value)


# Pairs of maps ---------------------------------------------------------------------------------------------------


def test_the_mean_over_subjects_and_what_cannot_be_tested() -> None:
    z = np.concatenate([points[:, 2] for points in load_sphere()])
    rng = np.random.default_rng(0)
    subjects: dict[str, Any] = {
        name: {"a": z + 0.1 * rng.normal(size=len(z)) + shift, "b": z + 0.1 * rng.normal(size=len(z))}
        for name, shift in (("S1", 0.2), ("S2", 0.4))
    }
    table = pair_table({"r": subjects}, n_permutations=39, seed=0)
    assert table is not None
    assert table["subject"].tolist() == ["S1", "S2", MEAN]
    assert (table["r"] > 0.9).all()
    assert (table["p_spin"] <= 0.1).all()
    each, mean = table["difference"][:2], table.iloc[2]
    assert mean["difference"] == pytest.approx(each.mean())
    half = 12.7062 * each.std(ddof=1) / np.sqrt(2)  # t of .975 with one degree of freedom
    assert (mean["low"], mean["high"]) == pytest.approx((each.mean() - half, each.mean() + half), rel=1e-4)
    assert table["low"][:2].isna().all()
    subjects["S2"]["b"] = np.zeros(len(z))
    rows = pair_table({"r": {"S2": subjects["S2"]}}, n_permutations=39, seed=0)
    assert rows is not None
    assert "same value everywhere" in rows["note"][0]
    assert np.isnan(rows["r"][0])
    assert pair_table({"r": {"S1": {"a": z}}}, n_permutations=39, seed=0) is None
