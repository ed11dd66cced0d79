"""Column transformers that keep feature spaces apart, for ``GroupRidgeCV(groups="input")``."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer, make_column_transformer


class ColumnTransformerNoStack(ColumnTransformer):
    """A scikit-learn ``ColumnTransformer`` that returns its outputs as a list of arrays, one a feature space.

    Parameters are ``ColumnTransformer``'s. It is meant to stand just before ``GroupRidgeCV(groups="input")`` in a
    pipeline; a list is not what other scikit-learn estimators expect.

    Examples
    --------
    >>> ColumnTransformerNoStack([("motion", StandardScaler(), slice(0, 3)), ("words", StandardScaler(), [3, 4])])
    """

    def _hstack(self, Xs: list[Any], **kwargs: Any) -> list[Any]:
        """Return the feature spaces as they are, each (n_samples, n_features_i)."""
        return list(Xs)


def make_column_transformer_no_stack(*transformers: Any, **kwargs: Any) -> ColumnTransformerNoStack:
    """Return a `ColumnTransformerNoStack` from (transformer, columns) pairs, naming each after its class.

    Keywords are those of ``sklearn.compose.make_column_transformer``.
    """
    named = make_column_transformer(*transformers, **kwargs)
    return ColumnTransformerNoStack(**named.get_params(deep=False))
