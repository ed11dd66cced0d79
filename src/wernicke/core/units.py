"""Conversions between seconds and TR, in one place so that rounding is decided once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError


def seconds_to_tr(values_s: Sequence[float], tr_s: float, field: str) -> tuple[int, ...]:
    """Return times in seconds as whole numbers of TR.

    Raises
    ------
    InputError
        E-CFG if there is no value, or one is negative or not a whole number of TR (to 1e-6 TR): a delay of half a
        TR would need interpolation, which nobody asked for.
    """
    check_range(tr_s, "tr_s", low=0, low_open=True)
    if np.ndim(values_s) != 1 or not len(values_s):
        raise InputError("E-CFG", f"found {values_s!r}, expected a sequence of seconds such as (2, 4, 6)", field=field)
    whole: list[int] = []
    for value in values_s:
        check_range(value, field, low=0)
        in_tr = value / tr_s
        if abs(in_tr - round(in_tr)) > 1e-6:
            near = sorted({float(np.floor(in_tr) * tr_s), float(np.ceil(in_tr) * tr_s)})
            raise InputError(
                "E-CFG",
                f"found {value:g} s, which is {in_tr:.3f} TR of {tr_s:g} s; expected whole TR",
                field=field,
                hint=f"nearest: {' or '.join(f'{n:g}' for n in near)}",
            )
        whole.append(round(in_tr))
    if len(set(whole)) != len(whole):
        raise InputError("E-CFG", f"found a delay twice in {list(values_s)}", field=field)
    return tuple(whole)
