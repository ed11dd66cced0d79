"""The methods paragraph, written from a run's own files: no number in it comes from anywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wernicke.report.references import Citer
from wernicke.report.words import interval, listed, number, plural, signed, size_mm

_POOLED = {
    "mean": "averaged over the sentence's tokens",
    "last": "at the sentence's last token",
    "first": "at the sentence's first token",
}
_PACKAGES = {
    "numpy": ("NumPy", "harris2020"), "scipy": ("SciPy", "virtanen2020"), "pandas": ("pandas", "mckinney2010"),
    "scikit-learn": ("scikit-learn", "pedregosa2011"), "torch": ("PyTorch", "paszke2019"),
    "transformers": ("transformers", "wolf2020"), "nibabel": ("NiBabel", "brett2024"),
}  # fmt: skip


def encoding_methods(
    facts: Mapping[str, Any], manifest: Mapping[str, Any], models: Sequence[Mapping[str, Any]], cite: Citer
) -> str:
    """Methods and results of an encoding run as one paragraph of plain text, ready to paste."""
    config = manifest["config"]
    parts = [
        recorded(facts["data"]),
        described(facts["features"], len(facts["data"]["conditions"]), cite),
        f"Features were delayed by {listed(facts['delays_tr'])} TR, never across the border of a run "
        f"{cite('nishimoto2011', 'huth2016')}. Every voxel was predicted by ridge regression {cite('hoerl1970')}; "
        f"one run at a time was left out ({facts['split']['n_folds']} folds), and the penalty was chosen for each "
        f"voxel {cite('dupre2022')} by leaving out one run at a time of the training runs, among "
        f"{len(config['alphas'])} values from {min(config['alphas']):g} to {max(config['alphas']):g}.",
        leaks(facts["split"]),
        tested(facts, cite),
        contrasts(facts, cite),
        compared(models, cite),
        gained(facts),
        software(manifest, ("numpy", "scipy", "pandas", "scikit-learn", "torch", "transformers", "nibabel"), cite),
    ]
    return warned(facts) + " ".join(parts)


def warned(facts: Mapping[str, Any]) -> str:
    """The word that must stand before anything made from simulated data."""
    return "SIMULATED DATA. " if facts["data"]["simulated"] else ""


def recorded(data: Mapping[str, Any]) -> str:
    """What was recorded and how it was prepared."""
    source = data["source"]
    return (
        f"{'Simulated data' if data['simulated'] else 'Data'}: {source['name']} ({source['licence']}); subject "
        f"{data['subject']}, {plural(data['n_volumes'], 'volume')} in {plural(data['n_runs'], 'run')}, TR "
        f"{data['tr_s']:g} s, {plural(data['n_voxels'], 'voxel')} of {size_mm(voxel_size_mm(data['affine']))}. From "
        f"each run and voxel a polynomial drift of degree {data['detrend_order']} was removed; the series was then "
        "z-scored within the run."
    )


def voxel_size_mm(affine: Sequence[Sequence[float]]) -> list[float]:
    """Edge lengths of a voxel: the norms of the affine's columns."""
    return [sum(affine[row][axis] ** 2 for row in range(3)) ** 0.5 for axis in range(3)]


def described(features: Mapping[str, Any], n_conditions: int, cite: Citer) -> str:
    """How sentences became vectors."""
    model = features["model"]
    cited = f" {cite('allal2025')}" if "smollm2" in model.lower() else ""
    return (
        f"Each of {n_conditions} conditions was described by one sentence, and the sentence by the hidden state of "
        f"layer {listed(features['layers'])} of {model}{cited}, {_POOLED[features['pool']]} ({features['dtype']})."
    )


def leaks(split: Mapping[str, Any]) -> str:
    """What stands on both sides of the splits."""
    accepted = [
        plural(split["overlaps"][key], "group") + f" by {key}"
        for key in split["accepted_leaks"]
        if split["overlaps"].get(key)
    ]
    if not accepted:
        return "No group stood on both sides of a split."
    return f"On both sides of every split stood {listed(accepted)}, an accepted leak."


def tested(facts: Mapping[str, Any], cite: Citer) -> str:
    """Score, test and correction."""
    test, correction = facts["test"], facts["card"]["correction"]
    named = {"BH": f"Benjamini-Hochberg {cite('benjamini1995')}"} if correction["method"] == "BH" else {}
    named |= {"BY": f"Benjamini-Yekutieli {cite('benjamini2001')}"} if correction["method"] == "BY" else {}
    named |= {"max": "the maximum statistic", "none": "none"}
    constant = f"{plural(test['n_constant'], 'voxel')} constant within every run had no score. "
    return (constant if test["n_constant"] else "") + (
        f"The score is Pearson r of each left-out run, averaged over runs. P values come from a "
        f"{facts['card']['null']['type']} ({plural(test['n_permutations'], 'permutation')}; "
        f"{test['n_blocks']} blocks of {test['block_length_tr']} TR; one-sided) {cite('phipson2010')}; correction over "
        f"{plural(test['n_tests'], 'voxel')}: {named[correction['method']]}, q = {correction['q']:g}, by which "
        f"{test['n_significant']} were significant."
    )


def contrasts(facts: Mapping[str, Any], cite: Citer) -> str:
    """Category contrasts and their ceiling."""
    test, ceiling = facts["test"], facts["ceiling"]
    return (
        "Category contrasts are block responses less the run's mean over categories; contrast r correlates predicted "
        "with measured contrasts over all runs and categories, and was tested by shuffling the categories within runs "
        f"({plural(test['n_permutations'], 'permutation')}, same correction: {test['n_contrast_significant']} voxels). "
        f"Its noise ceiling ({facts['card']['ceiling']['method']} {cite('spearman1910', 'brown1910', 'schoppe2016')}) "
        f"was {number(ceiling['mean'])} on average over the {test['n_tests'] - ceiling['n_without']} voxels that "
        "have one."
    )


def compared(models: Sequence[Mapping[str, Any]], cite: Citer) -> str:
    """Every model's two scores."""
    rows = []
    for model in models:
        fits = f"; mean of {model['n_fits']} fits" if model["n_fits"] > 1 else ""
        rows.append(
            f"{model['name']} ({model['what']}{fits}) {number(model['r'])} [{interval(model['r_ci'])}] and "
            f"{number(model['contrast'])} [{interval(model['contrast_ci'])}]"
        )
    return (
        "Mean r by TR and mean contrast r, with 95 % intervals (bootstrap over runs "
        f"{cite('efron1979')}; over fits where there are several): {'; '.join(rows)}."
    )


def gained(facts: Mapping[str, Any]) -> str:
    """The headline."""
    gain, over = facts["gain"], facts["card"]["gain"]["over"]
    return (
        f"The gain in contrast r over {over} was {signed(gain['estimate'])} (95 % over runs {signed(gain['low'])} to "
        f"{signed(gain['high'])}; smallest effect of interest, stated beforehand: "
        f"{facts['card']['smallest_effect']:g})."
    )


def software(manifest: Mapping[str, Any], used: Sequence[str], cite: Citer) -> str:
    """Versions of what computed it, and the seed."""
    packages = manifest["environment"]["packages"]
    named = []
    for package in used:
        if package in packages:
            name, key = _PACKAGES[package]
            named.append(f"{name} {packages[package]} {cite(key)}")
    return (
        f"Computed with wernicke {manifest['wernicke']}, Python {manifest['environment']['python']}, {listed(named)}; "
        f"seed {manifest['seed']}."
    )
