"""From plain arrays to sentences: planted patterns, references of scikit-learn, no use of test samples."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tiny_llms import SENTENCES, build_tiny_llm
from wernicke.core.errors import InputError
from wernicke.core.results import Captions
from wernicke.decoding.arrays import decode
from wernicke.decoding.fit import FitConfig
from wernicke.decoding.linear import BrainToBridge, cross_predict_labels, linear_svm, ridge_classifier, set_length
from wernicke.decoding.prime import NoisyEmbeddings, embed_sentences, prime, standardise
from wernicke.pretrained.llm import load_llm
from wernicke.store.run import RunFolder


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return load_llm(build_tiny_llm(tmp_path_factory.mktemp("llm"), "llama", hidden_size=64), device="cpu")


@pytest.fixture(scope="module")
def quick():
    """Priming that a tiny random LLM needs: more steps, each of a few milliseconds."""
    return FitConfig(epochs=250, batch_size=4, lr=3e-3)


def planted(n_runs=6, n_voxels=60, noise=0.7, seed=0):
    """Return betas, sentences and runs: one pattern a sentence, one block of each in each run. Simulated."""
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((4, n_voxels))
    which = np.concatenate([rng.permutation(4) for _ in range(n_runs)])
    betas = patterns[which] + noise * rng.standard_normal((len(which), n_voxels))
    return betas, [SENTENCES[i] for i in which], np.repeat(np.arange(n_runs), 4)


def test_mapping_is_ridge_with_one_alpha_chosen_by_run():
    betas, sentences, runs = planted()
    wanted = np.random.default_rng(1).standard_normal((4, 5))
    targets = wanted[[SENTENCES.index(s) for s in sentences]]
    alphas = (0.1, 10.0, 1000.0)
    mapping = BrainToBridge(alphas).fit(betas, targets, runs)
    scores = []
    for alpha in alphas:
        folds = []
        for run in range(6):
            model = Ridge(alpha=alpha).fit(betas[runs != run], targets[runs != run])
            predicted = model.predict(betas[runs == run])
            folds.append([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, targets[runs == run].T, strict=True)])
        scores.append(np.mean(folds))
    assert mapping.alpha_ == alphas[int(np.argmax(scores))]
    new = planted(seed=5)[0]
    reference = Ridge(alpha=mapping.alpha_).fit(betas, targets).predict(new) - targets.mean(0)
    length = np.linalg.norm(targets - targets.mean(0), axis=1).mean()
    expected = targets.mean(0) + length * reference / np.linalg.norm(reference, axis=1, keepdims=True)
    np.testing.assert_allclose(mapping.predict(new), expected, rtol=1e-3, atol=1e-4)


def test_set_length_leaves_zero_alone():
    found = set_length(np.array([[3.0, 4.0], [0.0, 0.0]]), 10.0)
    np.testing.assert_allclose(found, [[6.0, 8.0], [0.0, 0.0]])


def test_sentence_embeddings_are_mean_last_states(llm):
    import torch

    found = embed_sentences(llm, SENTENCES[:2])
    ids = llm.tokenizer(SENTENCES[1], return_tensors="pt", add_special_tokens=False).input_ids
    states = llm.model.model(input_ids=ids).last_hidden_state[0]
    np.testing.assert_allclose(found[1], states.mean(0).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert isinstance(states, torch.Tensor)


def test_standardised_embeddings_are_equally_far_apart(llm):
    found = standardise(embed_sentences(llm, SENTENCES))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose((found**2).mean(), 1, rtol=1e-5)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)[~np.eye(8, dtype=bool)]
    np.testing.assert_allclose(distances, distances.mean(), rtol=0.1)
    many = np.random.default_rng(0).standard_normal((500, 6)) * (10, 8, 6, 4, 2, 0.01)
    covariance = np.cov(standardise(many).T)
    np.testing.assert_allclose(np.diag(covariance)[:5], np.diag(covariance)[0], rtol=0.3)
    assert covariance[5, 5] < 0.01
    with pytest.raises(InputError, match="E-CONST"):
        standardise(np.full((3, 4), 0.1))


def test_noise_has_the_embeddings_covariance_and_their_length():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((6, 4)) * (1, 2, 3, 4)
    data = NoisyEmbeddings(embeddings, list("abcdef"), noise=1000.0, seed=0)
    rows = np.zeros(1, int)
    drawn = np.concatenate([data.batch(rows, epoch)[0] for epoch in range(4000)]) - embeddings.mean(0)
    away = embeddings - embeddings.mean(0)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(away, axis=1).mean())
    # At such noise nothing of the row is left: directions are those of a Gaussian with the embeddings' covariance.
    gaussian = rng.multivariate_normal(np.zeros(4), away.T @ away / 6, 40_000)
    gaussian /= np.linalg.norm(gaussian, axis=1, keepdims=True)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    np.testing.assert_allclose(drawn.T @ drawn / 4000, gaussian.T @ gaussian / 40_000, atol=0.03)
    assert data.batch(rows, 3)[0].tolist() == data.batch(rows, 3)[0].tolist()
    assert data.batch(rows, 3)[0].tolist() != data.batch(rows, 4)[0].tolist()
    exact = NoisyEmbeddings(embeddings, list("abcdef"), noise=0.0, seed=0).batch(np.array([4, 1]), 0)
    assert exact[1] == ["e", "b"]
    np.testing.assert_array_equal(exact[0], embeddings[[4, 1]])


@pytest.fixture(scope="module")
def decoder(llm, quick):
    """A decoder fitted on five of six runs of planted patterns."""
    arrays, module = planted(), importlib.import_module("wernicke.decoding.arrays")
    betas, sentences, runs = arrays
    original = module.prime

    def faster(*args, **settings):
        return original(*args, training=quick, noise=0.3, **settings)

    module.prime = faster
    try:
        train = runs < 5
        return decode(
            betas[train], [s for s, t in zip(sentences, train, strict=True) if t], groups=runs[train], llm=llm
        )
    finally:
        module.prime = original


def test_planted_patterns_become_their_sentences(decoder):
    betas, sentences, runs = planted()
    captions = decoder.generate(betas[runs == 5], ids=[f"block{i}" for i in range(4)])
    assert isinstance(captions, Captions)
    assert captions.decoding == "free"
    assert captions.table["id"].tolist() == ["block0", "block1", "block2", "block3"]
    truth = [s for s, r in zip(sentences, runs, strict=True) if r == 5]
    assert captions.table["text"].tolist() == truth
    noise = np.random.default_rng(9).standard_normal((40, betas.shape[1]))
    assert np.mean(np.array(decoder.generate(noise).table["text"]) == truth * 10) < 0.6


def test_refit_on_shuffled_pairing_loses_it(decoder):
    betas, sentences, runs = planted(n_runs=12)
    rng, train = np.random.default_rng(0), runs < 6
    chosen = [s for s, t in zip(sentences, train, strict=True) if t]
    shuffled = np.concatenate([rng.permutation(np.array(chosen)[runs[train] == run]) for run in range(6)]).tolist()
    truth = np.array([s for s, t in zip(sentences, train, strict=True) if not t])
    right = decoder.refit(betas[train], chosen, groups=runs[train]).generate(betas[~train]).table["text"].to_numpy()
    wrong = decoder.refit(betas[train], shuffled, groups=runs[train]).generate(betas[~train]).table["text"].to_numpy()
    assert (right == truth).mean() > 0.9
    assert (wrong == truth).mean() < 0.6
    with pytest.raises(InputError, match="was not primed on 'A new one'"):
        decoder.refit(betas[:8], ["A new one"] * 8, groups=runs[:8])


def test_priming_resumes_and_is_the_same_for_a_seed(llm, quick, tmp_path):
    embeddings = standardise(embed_sentences(llm, SENTENCES[:4]))
    training = dataclasses.replace(quick, epochs=6)
    once, _ = prime(llm, embeddings, SENTENCES[:4], seed=1, training=training)
    with RunFolder.create(tmp_path / "run", step="train", config={}, seed=1) as run:
        kept, _ = prime(llm, embeddings, SENTENCES[:4], seed=1, training=training, run=run, stage="prime")
    with RunFolder.create(tmp_path / "run", step="train", config={}, seed=1) as run:
        again, result = prime(llm, embeddings, SENTENCES[:4], seed=1, training=training, run=run, stage="prime")
    assert result.step == 6
    for other in (kept, again):
        assert all((a == b).all() for a, b in zip(once.parameters(), other.parameters(), strict=True))
    assert not any("llm" in name for name in once.state_dict())


def test_bad_arrays(llm):
    betas, sentences, runs = planted()
    cases = (
        (betas[:, 0], sentences, runs, "E-SHAPE betas"),
        (np.where(betas > 2, np.nan, betas), sentences, runs, "E-NONFIN betas"),
        (betas, sentences[:-1], runs, "E-SHAPE sentences"),
        (betas, ["", *sentences[1:]], runs, "E-META sentences: found the empty sentence"),
        (betas, [SENTENCES[0]] * len(betas), runs, "E-CONST sentences"),
        (betas, sentences, runs[:-1], "E-SHAPE groups"),
        (betas, sentences, np.zeros(len(betas)), "E-SPLIT groups: found 1 group"),
    )
    for values, texts, groups, message in cases:
        with pytest.raises(InputError, match=message):
            decode(values, texts, groups=groups, llm=llm)


def test_new_betas_of_other_width(decoder):
    with pytest.raises(InputError, match="E-SHAPE betas: found 3 voxels, the decoder was fitted on 60"):
        decoder.generate(np.zeros((2, 3)))


@pytest.mark.parametrize("make", [linear_svm, ridge_classifier])
def test_label_baselines_leave_runs_out(make):
    betas, sentences, runs = planted(noise=1.0)
    labels = np.array(sentences)
    predicted = cross_predict_labels(make(), betas, labels, runs)
    for run in range(6):
        reference = make().fit(betas[runs != run], labels[runs != run]).predict(betas[runs == run])
        assert (predicted[runs == run] == reference).all()
    assert (predicted == labels).mean() > 0.9
    assert (cross_predict_labels(make(), betas * 0 + 1, labels, runs) == labels).mean() < 0.5
