"""The published drama2brain encoder: its own numbers on the simulated reference data, and himalaya where those end."""

from __future__ import annotations

import numpy as np
import pytest
from himalaya.backend import set_backend
from himalaya.kernel_ridge import KernelRidgeCV, MultipleKernelRidgeCV
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score as himalaya_correlation
from sklearn.decomposition import PCA
from sklearn.random_projection import SparseRandomProjection

from wernicke.core.errors import InputError
from wernicke.data.drama2brain import load_drama2brain
from wernicke.data.drama2brain_stimuli import load_drama2brain_features
from wernicke.encoding.faithful import ALPHAS, encode_faithful

SPEECH = "speechTranscription_cw1_avgToken_ALL/GPT2"
OBJECT = "objectiveAnnot50chara_cw1_avgToken_ALL/Llama2"
DELAYS = (8, 10)


@pytest.fixture(scope="module")
def reference(shared):
    """Reference inputs (simulated) as the README's row rule leaves them, and the published code's outputs."""
    folder = shared / "data" / "reference" / "drama2brain"
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        inputs = dict(file)
    table = {key: inputs[f"table/{key}"] for key in ("title", "run", "kept_len", "all", "splitA", "fold")}

    def read(prefix):
        kept = []
        for title, run, kept_len in zip(table["title"], table["run"], table["kept_len"], strict=True):
            kept.append(inputs[f"{prefix}/{title}/{run}"][20 if run else 0 : kept_len].astype(np.float32))
        return np.concatenate(kept)

    lengths = table["kept_len"] - 20 * (table["run"] > 0)
    names = np.array([f"{title}_{run}" for title, run in zip(table["title"], table["run"], strict=True)])
    rows = {
        "parts": np.repeat(table["all"], lengths),
        "titles": np.repeat(table["title"], lengths),
        "runs": np.repeat(names, lengths),
        "folds": np.repeat(table["fold"], lengths),
    }
    outputs = {}
    for name in ("mono_default", "mono_pca8", "multi"):
        with np.load(folder / f"outputs_{name}.npz", allow_pickle=False) as file:
            outputs[name] = dict(file)
    return read, rows, outputs, np.repeat(table["splitA"], lengths)


def assert_same_fit(found, outputs, layer, band):
    """Accuracy to 1e-5, p as they are, weights to 1e-4 of the largest."""
    np.testing.assert_allclose(found.cc["all"], outputs[f"{layer}/cc"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.cv_cc, outputs[f"{layer}/cv_cc"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        found.pvalues_corrected["all"], outputs[f"{layer}/pvalues_corrected"], rtol=0, atol=1e-12
    )
    coef = outputs[f"{layer}/coef"]
    assert found.coef[band].dtype == coef.dtype
    np.testing.assert_allclose(found.coef[band], coef, rtol=0, atol=1e-4 * np.abs(coef).max())


@pytest.mark.parametrize("layer", ["layer1", "layer2"])
@pytest.mark.parametrize("exhaustive", [True, False])
def test_mono_gives_the_published_numbers(reference, layer, exhaustive):
    read, rows, outputs, _ = reference
    found = encode_faithful(
        {"speech": read(f"feat/{SPEECH}/{layer}")}, read("resp"), time_delays=DELAYS, exhaustive=exhaustive, **rows
    )
    assert_same_fit(found, outputs["mono_default"], layer, "speech")
    assert list(found.cc) == ["all"]
    assert found.predictions is None
    assert found.nested_predictions is None


def test_pca_gives_the_published_numbers(reference):
    read, rows, outputs, _ = reference
    settings = {"time_delays": DELAYS, "reduce_dim": ("pca", 8)}
    features, responses = {"speech": read(f"feat/{SPEECH}/layer2")}, read("resp")
    found = encode_faithful(features, responses, **settings, **rows)
    assert_same_fit(found, outputs["mono_pca8"], "layer2", "speech")
    # The shift of reduced features ends at each run; were it the title's, the README says what would come out.
    by_title = encode_faithful(features, responses, **settings, **{**rows, "runs": rows["titles"]})
    assert np.abs(by_title.cc["all"] - outputs["mono_pca8"]["layer2/cc"]).max() == pytest.approx(2.9e-3, abs=1e-4)


def test_multi_gives_the_published_numbers(reference):
    read, rows, outputs, _ = reference
    features = {"speech": read(f"feat/{SPEECH}/layer2"), "object": read(f"feat/{OBJECT}/layer3")}
    found = encode_faithful(features, read("resp"), time_delays=DELAYS, n_iter=2, keep_predictions=True, **rows)
    published = outputs["multi"]
    for name in ("all", "speech", "object"):
        np.testing.assert_allclose(found.cc[name], published[f"cc/{name}"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            found.pvalues_corrected[name], published[f"pvalues_corrected/{name}"], rtol=0, atol=1e-12
        )
        predictions = published[f"preds/{name}"]
        np.testing.assert_allclose(found.predictions[name], predictions, atol=1e-4 * np.abs(predictions).max())
        if name != "all":
            coef = published[f"coef/{name}"]
            np.testing.assert_allclose(found.coef[name], coef, rtol=0, atol=1e-4 * np.abs(coef).max())
    np.testing.assert_allclose(found.cc["speech"] + found.cc["object"], found.cc["all"], atol=1e-6)


def test_rows_of_no_part_are_not_used(reference):
    read, rows, _, split_a = reference
    features, responses = read(f"feat/{SPEECH}/layer1"), read("resp")[:, :6]
    rows = {**rows, "parts": split_a}
    assert (split_a == "TRAIN").sum() == 11091
    assert (split_a == "VALID").sum() == 7110
    found = encode_faithful({"speech": features}, responses, time_delays=DELAYS, **rows)
    spoilt_features, spoilt = features.copy(), responses.copy()
    spoilt_features[split_a == ""], spoilt[split_a == ""] = 1e4, -1e4
    again = encode_faithful({"speech": spoilt_features}, spoilt, time_delays=DELAYS, **rows)
    np.testing.assert_array_equal(found.cc["all"], again.cc["all"])


def test_the_authors_folders_give_the_published_numbers(reference, shared, tmp_path):
    _, _, outputs, _ = reference
    features = tmp_path / "data" / "stim_features" / "semantic" / SPEECH / "layer2"
    cached = tmp_path / "fmri" / "DM01"
    features.mkdir(parents=True)
    cached.mkdir(parents=True)
    with np.load(shared / "data" / "reference" / "drama2brain" / "inputs.npz", allow_pickle=False) as inputs:
        for title, run in zip(inputs["table/title"], inputs["table/run"], strict=True):
            responses = inputs[f"resp/{title}/{run}"].astype(np.float32)
            np.save(cached / f"{title}_{run}_CerebCortex.npy", responses)
            band = inputs[f"feat/{SPEECH}/layer2/{title}/{run}"].astype(np.float32)
            np.save(features / f"{title}_{run + 1:03d}.npy", band)
    recording = load_drama2brain(tmp_path, ["DM01"]).recordings["DM01"]
    bands = load_drama2brain_features(tmp_path, {"speech": f"semantic/{SPEECH}/layer2"}).bands
    samples = recording.samples
    found = encode_faithful(
        bands, recording.values, time_delays=DELAYS, parts=samples["part_all"], titles=samples["title"],
        runs=samples["run"], folds=samples["fold"],
    )  # fmt: skip
    assert_same_fit(found, outputs["mono_default"], "layer2", "speech")


@pytest.fixture
def himalaya_torch():
    """himalaya's backend is one for the whole process, so it is given back."""
    set_backend("torch")
    yield
    set_backend("numpy")


@pytest.fixture(scope="module")
def small():
    """Simulated: 6 titles of 2 runs, the last two of them VALID, 12 features of which 3 drive the voxels."""
    rng = np.random.default_rng(0)
    n_titles, n_run = 6, 30
    n = n_titles * 2 * n_run
    titles = np.repeat([f"title{i}" for i in range(n_titles)], 2 * n_run)
    runs = np.repeat(np.arange(2 * n_titles), n_run)
    folds = np.repeat(np.arange(n_titles) % 4, 2 * n_run)
    X = rng.standard_normal((n, 12)).astype(np.float32) + 3
    Y = X[:, :3] @ rng.standard_normal((3, 7)) + 4 * rng.standard_normal((n, 7))
    rows = {"parts": np.where(runs < 8, "TRAIN", "VALID"), "titles": titles, "runs": runs, "folds": folds}
    return X, (Y - Y.mean(0)).astype(np.float32), rows


def centred(X, rows):
    train, valid = rows["parts"] == "TRAIN", rows["parts"] == "VALID"
    return X[train] - X[train].mean(0), X[valid] - X[train].mean(0), train, valid


def leave_one_fold_out(folds):
    return [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in np.unique(folds)]


def test_wide_features_give_himalayas_kernel_ridge(small, himalaya_torch):
    X, Y, rows = small
    wide = np.random.default_rng(1).standard_normal((len(X), 300)).astype(np.float32)
    wide[:, :3] = 5 * X[:, :3]
    found = encode_faithful({"wide": wide}, Y, time_delays=(0, 0), keep_predictions=True, **rows)
    train_X, valid_X, train, valid = centred(wide, rows)
    model = KernelRidgeCV(ALPHAS, cv=leave_one_fold_out(rows["folds"][train]),
                          solver_params={"score_func": himalaya_correlation}).fit(train_X, Y[train])  # fmt: skip
    np.testing.assert_allclose(found.cv_cc, np.ravel(model.cv_scores_), atol=1e-5)
    expected = np.asarray(model.predict(valid_X))
    same = np.isclose(found.best_alphas, np.asarray(model.best_alphas_), rtol=1e-3)
    assert same.any()
    np.testing.assert_allclose(found.predictions["all"][:, same], expected[:, same], atol=1e-4 * np.abs(expected).max())


def test_wide_bands_give_himalayas_multiple_kernel_ridge(small, himalaya_torch):
    X, Y, rows = small
    rng = np.random.default_rng(2)
    bands = {"a": rng.standard_normal((len(X), 150)).astype(np.float32), "b": 3 * X}
    bands["c"] = rng.standard_normal((len(X), 120)).astype(np.float32)
    found = encode_faithful(bands, Y, time_delays=(0, 0), n_iter=2, keep_predictions=True, **rows)
    pairs = {name: centred(band, rows) for name, band in bands.items()}
    train, valid = pairs["a"][2:]
    kernels = np.stack([x @ x.T for x, *_ in pairs.values()])
    model = MultipleKernelRidgeCV(
        kernels="precomputed", solver="random_search", random_state=42, cv=leave_one_fold_out(rows["folds"][train]),
        solver_params={"n_iter": 2, "alphas": ALPHAS, "score_func": himalaya_correlation, "progress_bar": False},
    ).fit(kernels, Y[train])  # fmt: skip
    np.testing.assert_allclose(found.cv_cc, np.asarray(model.cv_scores_).max(0), atol=1e-5)
    expected = np.asarray(model.predict(np.stack([v @ x.T for x, v, *_ in pairs.values()])))
    same = np.isclose(found.best_alphas, np.asarray(model.best_alphas_), rtol=1e-3)
    assert same.any()
    np.testing.assert_allclose(found.predictions["all"][:, same], expected[:, same], atol=1e-3 * np.abs(expected).max())


def test_nested_predictions_are_himalayas(small, himalaya_torch):
    X, Y, rows = small
    found = encode_faithful({"x": X}, Y, time_delays=(0, 0), nested=True, **rows)
    train = rows["parts"] == "TRAIN"
    folds = rows["folds"][train]
    expected = np.full((train.sum(), Y.shape[1]), np.nan)
    for fold in np.unique(folds):
        inside, outside = folds != fold, folds == fold
        mean = X[train][inside].mean(0)
        model = RidgeCV(ALPHAS, cv=leave_one_fold_out(folds[inside]),
                        solver_params={"score_func": himalaya_correlation}).fit(X[train][inside] - mean,
                                                                                Y[train][inside])  # fmt: skip
        expected[outside] = model.predict(X[train][outside] - mean)
    np.testing.assert_allclose(found.nested_predictions, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["pca", "srp"])
def test_reduction_is_scikit_learns_of_training_rows(small, method):
    X, Y, rows = small
    rng = np.random.default_rng(3)
    wide = rng.standard_normal((len(X), 900)).astype(np.float32)
    size, reducer = (5, PCA(5, random_state=42)) if method == "pca" else (
        0.4, SparseRandomProjection(eps=0.4, random_state=42))  # fmt: skip
    train = rows["parts"] == "TRAIN"
    reducer.fit(wide[train])
    reduced = reducer.transform(wide).astype(np.float32)
    assert reduced.shape[1] < 900
    expected = encode_faithful({"x": reduced}, Y, time_delays=(0, 0), **rows)
    found = encode_faithful({"x": wide}, Y, time_delays=(0, 0), reduce_dim=(method, size), **rows)
    np.testing.assert_allclose(found.cc["all"], expected.cc["all"], atol=1e-5)
    # VALID rows have no say in what is fitted
    spoilt = wide.copy()
    spoilt[~train] *= 1e3
    again = encode_faithful({"x": spoilt}, Y, time_delays=(0, 0), reduce_dim=(method, size), **rows)
    np.testing.assert_array_equal(found.coef["x"], again.coef["x"])


def test_shifts_are_zero_before_a_titles_valid_rows(small):
    X, Y, rows = small
    found = encode_faithful({"x": X}, Y, time_delays=(2, 3), keep_predictions=True, **rows)
    train, valid = rows["parts"] == "TRAIN", rows["parts"] == "VALID"

    def shift(part):
        out = []
        for title in dict.fromkeys(rows["titles"][part]):
            x = X[part & (rows["titles"] == title)].astype(np.float64)
            out.append(sum(np.vstack([np.zeros((d, 12)), x[:-d]]) for d in (2, 3)) / 2)
        return np.concatenate(out)

    expected = (shift(valid) - shift(train).mean(0)) @ found.coef["x"]
    np.testing.assert_allclose(found.predictions["all"], expected, atol=1e-5 * np.abs(expected).max() + 1e-6)


def test_gauss_null_is_white_noise_of_the_test_length(small):
    X, Y, rows = small
    found = encode_faithful({"x": X}, Y, time_delays=(0, 0), perm_type="gauss", **rows)
    block = encode_faithful({"x": X}, Y, time_delays=(0, 0), **rows)
    np.testing.assert_array_equal(found.cc["all"], block.cc["all"])
    assert found.pvalues_corrected["all"].min() == 0  # planted voxels: p can be exactly 0, as published


def test_what_cannot_be_right_is_refused(small):
    X, Y, rows = small
    good = {"features": {"x": X}, "responses": Y, "time_delays": (0, 0), **rows}

    def refused(code, **changes):
        with pytest.raises(InputError) as caught:
            encode_faithful(**{**good, **changes})
        assert caught.value.code == code
        return str(caught.value)

    constant = Y.copy()
    constant[:, 2] = 1
    missing = X.copy()
    missing[4, 1] = np.nan
    assert "index 2" in refused("E-CONST", responses=constant)
    assert "features `x`" in refused("E-NONFIN", features={"x": missing})
    assert "features `x`" in refused("E-SHAPE", features={"x": X[:-1]})
    assert "(359, 7)" in refused("E-SHAPE", responses=Y[:-1])
    assert "(5, 3)" in refused("E-CFG", time_delays=(5, 3))
    assert "test" in refused("E-META", parts=np.where(rows["parts"] == "VALID", "test", "TRAIN"))
    refused("E-META", features={})
    refused("E-CFG", features={"all": X})
    refused("E-SPLIT", parts=np.full(len(X), "TRAIN"))
    refused("E-SPLIT", folds=np.zeros(len(X), dtype=int))
    refused("E-CFG", reduce_dim=("pca", 13))
    refused("E-CFG", reduce_dim=("ica", 3))
    assert "`x`" in refused("E-CFG", reduce_dim=("srp", 0.1))  # more dimensions than there are
    refused("E-CFG", perm_type="none")
    refused("E-SHAPE", titles=rows["titles"][1:])
    refused("E-SPLIT", nested=True, folds=rows["folds"] % 2)
