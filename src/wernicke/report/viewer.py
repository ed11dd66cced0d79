"""nilearn's interactive views as pages of their own: they hold scripts, so they stand beside the report."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from wernicke.core.recording import Voxels
from wernicke.data.maps import volume_image
from wernicke.report.brain_figures import Scale, mesh

MAX_BYTES = 6_000_000
# Hemispheres are moved apart so that inflated ones do not run into each other.
_APART_MM = 46.0
# Smaller values count as "nothing here": nilearn shows the folds, or nothing, in their place.
_NOTHING = 1e-6
# What the page may do: run its own scripts on its own data. Nothing can be fetched or sent.
_CSP = ("default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; connect-src data: blob:; worker-src blob:")  # fmt: skip


def surface_view(values: Mapping[str, np.ndarray], scale: Scale, title: str) -> str:
    """Return a page with a turnable inflated fsaverage5 (nilearn's `view_surf`).

    Parameters
    ----------
    values : mapping
        ``left`` and ``right`` to (10242,); NaN shows the folds.
    scale : Scale
        Symmetric about 0.
    title : str
        Shown above; marks that a page's text could not hold are left out.
    """
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.plotting import view_surf
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    parts = {}
    for side, sign in (("left", -1), ("right", 1)):
        points, faces = mesh("infl", side)
        parts[side] = InMemoryMesh((points + np.array([sign * _APART_MM, 0, 0])).astype(np.float32), faces)
    both = PolyMesh(**parts)
    shown = SurfaceImage(both, {side: np.nan_to_num(values[side]).astype(np.float32) for side in parts})
    folds = SurfaceImage(both, {side: fetch_surf_fsaverage("fsaverage5")[f"sulc_{side}"] for side in parts})
    # nilearn's plotly view needs the plotly package from 0.14 on; niivue's scripts come with nilearn.
    engine: dict[str, Any] = {"engine": "niivue"} if "engine" in inspect.signature(view_surf).parameters else {}
    view = view_surf(None, surf_map=shown, bg_map=folds, hemi="both", cmap=scale.colors, vmax=scale.high,
                     threshold=_NOTHING, title=_plain(title), **engine)  # fmt: skip
    return _sealed(view.get_standalone(), title)


def volume_view(values: np.ndarray, voxels: Voxels, scale: Scale, title: str) -> str:
    """Return a page with slices to click through (nilearn's `view_img`).

    Parameters
    ----------
    values : array, shape (n_voxels,)
    voxels : Voxels
    scale : Scale
        Symmetric about 0.
    title : str
        As `surface_view`.
    """
    from nilearn.plotting import view_img

    image = volume_image(np.nan_to_num(values), voxels)
    image = type(image)(np.nan_to_num(np.asarray(image.dataobj)), image.affine)
    # Behind the map stand the voxels that there are. Without a background nilearn would write memory that nobody set.
    shape = type(image)(voxels.mask.astype(np.float32), image.affine)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Resampling binary images", UserWarning)
        view = view_img(image, bg_img=shape, cmap=scale.colors, vmax=scale.high, symmetric_cmap=True,
                        threshold=_NOTHING, black_bg=True, dim=0, title=_plain(title))  # fmt: skip
    return _sealed(view.get_standalone(), title)


def _plain(title: str) -> str:
    return re.sub(r"[^\w .,:()+|=-]", " ", title)


def _sealed(page: str, title: str) -> str:
    """Take out what the page would load, forbid the rest, and give its parts names that do not change."""
    page = re.sub(r"<link\b[^>]*\bhref=\s*[\"']https?:[^>]*>", "", page)
    page = re.sub(r"<title>.*?</title>", f"<title>{_plain(title)}</title>", page, count=1, flags=re.DOTALL)
    for k, name in enumerate(dict.fromkeys(re.findall(r"-([0-9a-f]{32})\b", page))):
        page = page.replace(name, f"{k:032x}")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_CSP}">'
    return page.replace(
        "<head>", f'<head><meta charset="utf-8">{policy}<meta name="referrer" content="no-referrer">', 1
    )
