"""Ridge and banded ridge for many targets, each with its own hyper-parameters.

The names, keywords, attributes and shapes are those of himalaya 0.4.11 (Dupre la Tour et al., 2022), so that a
script written for it changes its imports. There is no global backend: numpy arrays give numpy arrays, torch tensors
give torch tensors on their device.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Ridge": "estimators",
    "RidgeCV": "estimators",
    "GroupRidgeCV": "banded_estimator",
    "BandedRidgeCV": "banded_estimator",
    "AlphaGridWarning": "solvers",
    "RidgeSolution": "solvers",
    "ColumnTransformerNoStack": "column",
    "make_column_transformer_no_stack": "column",
    "correlation_score": "scores",
    "correlation_score_split": "scores",
    "l2_neg_loss": "scores",
    "r2_score": "scores",
    "r2_score_split": "scores",
    "generate_dirichlet_samples": "draws",
    "ResponseFile": "responses",
    "TilePlan": "plan",
    "drop_bases": "tiles",
    "fit_tiles": "tiles",
    "plan_tiles": "plan",
    "read_tiles": "tiles",
    "solve_submodels": "partition",
    "solve_ridge": "solvers",
    "solve_ridge_cv": "solvers",
    "solve_group_ridge": "solvers",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for: torch and scikit-learn are not loaded before."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
