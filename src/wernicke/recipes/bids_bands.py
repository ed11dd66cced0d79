"""What is fitted: the events' text as language-model states, and nuisance bands, at every TR of a subject."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wernicke.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.features import Features
    from wernicke.core.recording import Recording
    from wernicke.core.study import Events
    from wernicke.features.windows import TextWindows
    from wernicke.recipes.bids_encode import Config

NUISANCE = ("word_rate", "on_off", "position", "head_motion", "untrained_twin")
#: Bands that act at once, on the scanner or the clock: no haemodynamic delay.
UNDELAYED = ("position", "head_motion")
#: Bands that the language model makes: they have layers, and `pca` reduces them.
MODELLED = ("language", "untrained_twin")
#: Delays where none are given: the whole TR nearest to these.
USUAL_DELAYS_S = (2.0, 4.0, 6.0, 8.0)


@dataclass(frozen=True)
class Bands:
    """Features of one subject at every TR, before reduction and delays.

    Parameters
    ----------
    features : mapping of band to mapping of layer to array, shape (n_samples, n_features)
        ``language`` first. A band that no layer makes has the one key None.
    runs : array, shape (n_samples,)
    kept : array of int, shape (n_kept,)
        Samples that are fitted or scored.
    stimuli : array of str or None, shape (n_kept,)
        The text that holds in each row, None where none does: for the overlap of training and test.
    facts : dict
        Provenance of each band and its width.
    delays_tr : tuple of int
    pca : int or None
        Components of language and untrained twin.
    seed : int
    """

    features: Mapping[str, Mapping[int | None, np.ndarray]]
    runs: np.ndarray
    kept: np.ndarray
    stimuli: np.ndarray
    facts: dict[str, Any]
    delays_tr: tuple[int, ...]
    pca: int | None = None
    seed: int = 0

    @property
    def layers(self) -> tuple[int | None, ...]:
        """The language model's layers that are there."""
        return tuple(self.features["language"])

    def columns(
        self, layer: int | None, train_rows: np.ndarray, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Return bands as columns of a design, each (n_kept, n_columns), reduced by what training rows show.

        Parameters
        ----------
        layer : int or None
            Of the bands that have layers.
        train_rows : array of int
            Among the kept rows.
        names : sequence of str, optional
            All bands by default.
        """
        from wernicke.features.align import delay
        from wernicke.features.reduce import fit_pca

        made = {}
        for name in names if names is not None else self.features:
            by_layer = self.features[name]
            values = by_layer[layer] if layer in by_layer else by_layer[None]
            if self.pca is not None and name in MODELLED:
                try:
                    values = fit_pca(values[self.kept[train_rows]], self.pca, seed=self.seed).transform(values)
                except InputError as error:
                    hint = f"{name} has {values.shape[1]} different columns"
                    raise InputError(error.code, error.problem, field="pca", hint=hint) from None
            # Within runs: a run that is held out gives nothing to the others.
            made[name] = delay(values, (0,) if name in UNDELAYED else self.delays_tr, self.runs)[self.kept]
        return made


def make_bands(config: Config, recording: Recording, events: Events) -> Bands:
    """Language and nuisance bands at every TR.

    A band with fewer distinct rows than columns is rotated onto the space that its rows span, which leaves every
    ridge prediction as it is (`wernicke.features.compact`).
    """
    import numpy as np

    from wernicke.features.compact import isometric
    from wernicke.features.windows import event_windows

    tr_s = recording.tr_s or 0.0  # a series from BIDS has one
    runs = recording.runs
    n_tr = {run: int((runs == run).sum()) for run in dict.fromkeys(runs)}
    delays_tr = find_delays(config.delays_s, tr_s)
    held = event_windows(events, n_samples=n_tr, step_s=tr_s, window_s=tr_s, kind="captions")
    kept = np.arange(len(runs)) if recording.keep is None else np.flatnonzero(recording.keep)
    features: dict[str, dict[int | None, np.ndarray]] = {}
    facts = {}
    for name in ("language", *config.nuisance):
        found = _MAKERS[name](config, recording, events, n_tr)
        layered = name in MODELLED and config.word_vectors is None
        made: dict[int | None, np.ndarray] = {}
        for key, band in found.bands.items():
            band = np.asarray(band)
            few = len(np.unique(band, axis=0)) < band.shape[1]
            made[int(key.removeprefix("layer")) if layered else None] = isometric(band) if few else band
        n_features = int(next(iter(found.bands.values())).shape[1])
        features[name] = made
        delays_s = [0.0] if name in UNDELAYED else [round(delay * tr_s, 6) for delay in delays_tr]
        facts[name] = {**found.provenance, "n_features": n_features, "delays_s": delays_s}
        if len(made) > 1:
            layers = facts[name].pop("layers")
            facts[name]["layer"] = f"chosen among {min(layers)} to {max(layers)}"
        if name in MODELLED and config.pca is not None:
            facts[name]["reduction"] = f"PCA, {config.pca} components"
    said = np.array([next((text for text in texts if text is not None), None) for texts in held.texts], dtype=object)
    return Bands(features, runs, kept, said[kept], facts, delays_tr, config.pca, config.seed)


def find_delays(delays_s: Sequence[float] | None, tr_s: float) -> tuple[int, ...]:
    """Delays in whole TR: those given, or the nearest to `USUAL_DELAYS_S`."""
    from wernicke.core.units import seconds_to_tr

    if delays_s is not None:
        return seconds_to_tr(delays_s, tr_s, "delays_s")
    return tuple(dict.fromkeys(max(1, round(delay / tr_s)) for delay in USUAL_DELAYS_S))


def _windows(config: Config, events: Events, n_tr: dict[Any, int], tr_s: float) -> TextWindows:
    from wernicke.features.windows import event_windows, word_windows

    if config.text.kind == "captions":
        return event_windows(events, n_samples=n_tr, step_s=tr_s, window_s=max(tr_s, config.text.context_s),
                             kind="captions")  # fmt: skip
    # Word vectors know no context: the window is the word itself.
    return word_windows(events, window_s=1e-6 if config.word_vectors else config.text.context_s)


def _at_tr(config: Config, features: Features, n_tr: dict[Any, int], tr_s: float) -> Features:
    from wernicke.features.resample import resample_to_tr

    if config.text.kind == "captions":
        return features
    return resample_to_tr(features, n_tr=n_tr, tr_s=tr_s, how=config.text.resample)


def _language(
    config: Config, recording: Recording, events: Events, n_tr: dict[Any, int], twin: bool = False
) -> Features:
    from wernicke.features.language import language_features
    from wernicke.features.words import read_word_vectors, word_features, words_of
    from wernicke.pretrained.twin import untrained_twin

    tr_s = recording.tr_s or 0.0
    windows = _windows(config, events, n_tr, tr_s)
    if config.word_vectors is not None:
        vectors = read_word_vectors(config.word_vectors, words=words_of(windows))
        return _at_tr(config, word_features(windows, vectors), n_tr, tr_s)
    llm: Any = untrained_twin(config.llm, config.seed, device=config.device) if twin else config.llm
    features = language_features(
        windows,
        llm,
        layers="all" if config.layer == "all" else int(config.layer),
        pool=config.text.pool,
        device=config.device,
    )
    return _at_tr(config, features, n_tr, tr_s)


def _twin(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    return _language(config, recording, events, n_tr, twin=True)


def _word_rate(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    from wernicke.features.nuisance import word_rate

    return word_rate(events, n_tr=n_tr, tr_s=recording.tr_s or 0.0)


def _on_off(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    """1 in TR in which some event with text holds, else 0."""
    import numpy as np

    from wernicke.core.features import Features
    from wernicke.features.windows import event_windows

    tr_s = recording.tr_s or 0.0
    held = event_windows(events, n_samples=n_tr, step_s=tr_s, window_s=tr_s, kind="captions")
    said = np.array([[any(text is not None for text in texts)] for texts in held.texts], dtype=np.float32)
    return Features({"on_off": said}, held.index, {"kind": "some event with text holds"})


def _position(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    from wernicke.features.nuisance import position_in_run

    return position_in_run(n_tr=n_tr, tr_s=recording.tr_s or 0.0)


def _head_motion(config: Config, recording: Recording, events: Events, n_tr: dict[Any, int]) -> Features:
    from wernicke.data.confounds import MOTION
    from wernicke.features.nuisance import head_motion

    if MOTION[0] not in recording.samples.columns:
        raise InputError("E-REF", f"no confounds file beside the series of subject {recording.subject}",
                         field="nuisance", hint="leave head_motion out")  # fmt: skip
    parameters = {run: recording.samples.loc[recording.runs == run, list(MOTION)] for run in n_tr}
    return head_motion(parameters, n_tr=n_tr, tr_s=recording.tr_s or 0.0)


_MAKERS: dict[str, Callable[..., Features]] = {
    "language": _language, "untrained_twin": _twin, "word_rate": _word_rate, "on_off": _on_off,
    "position": _position, "head_motion": _head_motion,
}  # fmt: skip
