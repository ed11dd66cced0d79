"""How each kind of one's own stimuli becomes features: the makers behind `wernicke.recipes.features_any`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wernicke.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from wernicke.core.features import Features
    from wernicke.core.study import Events
    from wernicke.recipes.features_any import Config

_CHUNK_S = 32


def _events(config: Config) -> Events:
    from wernicke.data.transcripts import read_transcripts

    return read_transcripts(config.data.events or "", text=config.data.text)


def _n_samples(config: Config, events: Events) -> dict[str, int]:
    """Steps of each run: its volumes, else up to the end of its last event."""
    import math

    ends = (events.table["onset_s"] + events.table["duration_s"]).groupby(events.table["run"], sort=False).max()
    if config.n_tr and config.tr_s is not None:
        return {run: math.ceil(n * config.tr_s / config.step - 1e-9) for run, n in config.n_tr.items()}
    return {str(run): max(1, math.ceil(end / config.step - 1e-9)) for run, end in ends.items()}


def _captions(config: Config) -> Features:
    from wernicke.features.windows import event_windows

    events = _events(config)
    kind: Any = "words" if config.kind == "transcript" else "captions"
    windows = event_windows(events, n_samples=_n_samples(config, events), step_s=config.step,
                            window_s=config.window, kind=kind)  # fmt: skip
    return _of_windows(config, windows)


def _words(config: Config) -> Features:
    from wernicke.features.windows import word_windows

    return _of_windows(config, word_windows(_events(config), window_s=config.window))


def _of_windows(config: Config, windows: Any) -> Features:
    from wernicke.features.language import language_features
    from wernicke.features.words import read_word_vectors, word_features, words_of
    from wernicke.pretrained.twin import load_trained_or_twin
    from wernicke.recipes.features_texts import is_vectors

    pool = _pool(config, "mean", "last", "flat")
    if is_vectors(config.model):
        if pool == "last":
            raise InputError("E-CFG", "word vectors are averaged or flattened", field="pool")
        return word_features(windows, read_word_vectors(config.model, words=words_of(windows)), pool=pool)
    model = load_trained_or_twin(config.model, seed=config.seed, device=config.device, dtype=config.dtype)
    return language_features(windows, model, layers=config.wanted, pool=pool, special_tokens=config.special_tokens,
                             long_texts=config.long_texts, batch_size=config.batch_size)  # fmt: skip


def _pool(config: Config, *allowed: str) -> Any:
    if config.pool not in allowed:
        raise InputError("E-CFG", f"found {config.pool}, kind {config.kind} has {', '.join(allowed)}", field="pool")
    return config.pool


def _files(folder: Path, endings: Sequence[str], name: str) -> dict[str, Path]:
    """Files of a folder by their names without the ending."""
    from wernicke.core.checks import check_folder

    found: dict[str, Path] = {}
    for path in sorted(check_folder(folder, f"data.{name}").iterdir()):
        if path.suffix.lower() not in endings:
            continue
        if path.stem in found:
            raise InputError("E-META", f"found {found[path.stem].name} and {path.name}", path=folder, field=name)
        found[path.stem] = path
    if not found:
        raise InputError("E-REF", f"no file that ends with {', '.join(endings[:4])}, ...", path=folder,
                         field=f"data.{name}")  # fmt: skip
    return found


def _sound(config: Config) -> Features:
    from wernicke.features.media import FILM_ENDINGS, SOUND_ENDINGS
    from wernicke.features.sound import sound_features

    name = "sounds" if config.data.sounds is not None else "films"
    files = _files(getattr(config.data, name), (*SOUND_ENDINGS, *FILM_ENDINGS), name)
    return sound_features(
        files, config.model, layers=config.wanted, window_s=config.window, step_s=config.step,
        pool=_pool(config, "mean", "last", "flat"), special_tokens=config.special_tokens, batch_size=config.batch_size,
        device=config.device, dtype=config.dtype,
    )  # fmt: skip


def _pictures(config: Config) -> Features:
    from wernicke.features.picture_files import ENDINGS
    from wernicke.features.pictures import picture_features
    from wernicke.features.saved import join_rows
    from wernicke.pretrained.vision import load_vision

    model = load_vision(config.model, device=config.device, dtype=config.dtype)
    options: dict[str, Any] = {
        "layers": config.wanted, "pool": _pool(config, "mean", "first", "flat"), "squeeze": config.squeeze,
        "special_tokens": config.special_tokens, "batch_size": config.batch_size,
    }  # fmt: skip
    if config.data.pictures is not None:
        return picture_features(_files(config.data.pictures, ENDINGS, "pictures"), model, **options)
    return join_rows([picture_features(p, model, index=index, **options) for p, index in _stills(config)])


def _pairs(config: Config) -> Features:
    from wernicke.features.multimodal import captions_of_frames, multimodal_features
    from wernicke.features.resample import bins
    from wernicke.features.saved import join_rows
    from wernicke.features.windows import event_windows
    from wernicke.pretrained.vision_language import load_vision_language

    model = load_vision_language(config.model, device=config.device, dtype=config.dtype)
    events = _events(config)
    parts = []
    for pictures, index in _stills(config):
        run = str(index["run"].iloc[0])
        n = int(bins(index["onset_s"].to_numpy(), config.step).max()) + 1
        own = events.table[events.table["run"] == run]
        if not len(own):
            found = ", ".join(map(repr, list(dict.fromkeys(events.table["run"]))[:8]))
            raise InputError("E-META", f"no texts of film {run!r}, found runs {found}", path=config.data.events,
                             field="data.events", hint="a film's name without its ending is its run")  # fmt: skip
        windows = event_windows(type(events)(own), n_samples={run: n}, step_s=config.step, window_s=config.window,
                                kind="captions")  # fmt: skip
        said = captions_of_frames(index, windows.texts, step_s=config.step)
        parts.append(multimodal_features(
            pictures, said, model, layers=config.wanted, index=index, pool=_pool(config, "mean", "flat"),
            mode="faithful" if config.special_tokens else "corrected", squeeze=config.squeeze,
            batch_size=config.batch_size,
        ))  # fmt: skip
    return join_rows(parts)


def _stills(config: Config) -> Iterator[tuple[list[Any], pd.DataFrame]]:
    """Yield some seconds' first and middle pictures of a film, and their index; few enough to hold in memory."""
    from itertools import islice

    import pandas as pd

    from wernicke.features.media import FILM_ENDINGS, STILLS_S, film_stills

    for run, path in _files(config.data.films or Path(), FILM_ENDINGS, "films").items():
        seconds = film_stills(path)
        while some := list(islice(seconds, _CHUNK_S)):
            onset = [second + at for second, _ in some for at in STILLS_S]
            yield [p for _, pictures in some for p in pictures], pd.DataFrame({"run": run, "onset_s": onset})


#: By `kind`.
MAKERS: dict[str, Callable[[Config], Features]] = {
    "captions": _captions,
    "transcript": _captions,
    "words": _words,
    "pictures": _pictures,
    "sound": _sound,
    "pairs": _pairs,
}
