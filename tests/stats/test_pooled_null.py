import numpy as np
import pytest

from wernicke.stats.correlation import columnwise_correlation
from wernicke.stats.pooled_null import pooled_block_null, pooled_gauss_null, pooled_p


def test_reproduces_the_published_codes_p_values(shared):
    folder = shared / "data" / "reference" / "drama2brain"
    inputs = np.load(folder / "inputs.npz", allow_pickle=False)
    outputs = np.load(folder / "outputs_multi.npz", allow_pickle=False)
    table = [inputs[f"table/{name}"] for name in ("title", "run", "kept_len", "all")]
    rows = []
    for title, run, kept, part in zip(*table, strict=True):
        if part == "VALID":
            rows.append(inputs[f"resp/{title}/{run}"].astype(np.float32)[20 if run > 0 else 0 : kept])
    response = np.concatenate(rows)
    for band in ("all", "speech", "object"):
        prediction = outputs[f"preds/{band}"]
        p = pooled_p(outputs[f"cc/{band}"], pooled_block_null(prediction, response))
        np.testing.assert_allclose(p, outputs[f"pvalues_corrected/{band}"], rtol=0, atol=1e-12)


def test_pooled_p_is_the_published_count():
    rng = np.random.default_rng(0)
    r, null = rng.standard_normal(50), rng.standard_normal(50)
    wanted = [np.sum(null > value) / 50 for value in r]
    np.testing.assert_allclose(pooled_p(r, null, corrected=False), wanted)
    assert np.isnan(pooled_p(np.array([np.nan, 0.0]), null)).tolist() == [True, False]


def test_gauss_null_has_the_width_of_white_noise():
    null = pooled_gauss_null(200_000, 400)
    assert null.shape == (160_000,)
    assert null.std() == pytest.approx(1 / np.sqrt(399), rel=0.02)


def test_short_last_block_is_shuffled_along():
    x = np.random.default_rng(1).standard_normal((25, 4))
    null = pooled_block_null(x, x, block_length=10, n_permutations=50, seed=0)
    assert null.shape == (200,)
    assert len(np.unique(np.round(null.reshape(50, 4)[:, 0], 9))) <= 6
    assert np.isclose(columnwise_correlation(x, x)[0], null.reshape(50, 4)[:, 0]).any()
