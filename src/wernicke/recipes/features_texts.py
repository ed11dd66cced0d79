"""Features of drama2brain's annotations: hidden states of text models, and word vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.recipes.features_jobs import CHUNK_S, RECIPE, Job, Parts, Stimuli, chunks, indices, layers_of, renamed
from wernicke.store.fingerprint import code_fingerprint, fingerprint

if TYPE_CHECKING:
    from wernicke.data.drama2brain_tables import Run
    from wernicke.features.windows import TextWindows
    from wernicke.recipes.features_drama2brain import Config

_TEXT_CODE = ("wernicke.features.language", "wernicke.pretrained.llm", "wernicke.pretrained.masked",
              "wernicke.pretrained.twin", "wernicke.pretrained.frozen")  # fmt: skip
VECTOR_ENDINGS = (".bin", ".txt", ".vec", ".gz")


def is_vectors(source: str) -> bool:
    """Whether a source is a file of word vectors."""
    return source.lower().endswith(VECTOR_ENDINGS) and not Path(source).is_dir()


def text_jobs(config: Config, stimuli: Stimuli, name: str, source: str) -> Iterator[Job]:
    from wernicke.features.language import longest_text, n_cut, row_states, tokenize
    from wernicke.pretrained.twin import load_trained_or_twin

    model = load_trained_or_twin(source, seed=config.seed, device=config.device, dtype=config.dtype)
    layers = layers_of(config, model.n_layers + 1, name)
    pool = "mean" if config.tokens == "avgToken" else "flat"
    code = code_fingerprint(*RECIPE, *_TEXT_CODE)
    for level in config.levels:
        for window_s in config.windows_s:
            windows = {run.run: stimuli.windows(level, run, window_s) for run in config.runs}
            texts = list(dict.fromkeys(text for each in windows.values() for text in each.unique))
            if not texts:
                raise InputError("E-META", "no annotator says anything", field=f"levels.{level}")
            # The authors' code cuts the end off, which in their sorted captions is not what was said last.
            long_texts = "cut_end" if config.long_texts == "cut" else config.long_texts
            tokens = tokenize(texts, model, special_tokens=config.special, long_texts=long_texts)
            longest = longest_text(tokens)
            width = longest if config.n_tokens is None else config.n_tokens
            if width < longest:
                raise InputError("E-CFG", f"found {width}, the longest text has {longest}", field="n_tokens")

            def parts(
                run: Run, layers: Sequence[str], windows: Any = windows, tokens: Any = tokens, width: int = width
            ) -> Parts:
                for rows in chunks(iter(windows[run.run].texts), 4 * CHUNK_S):
                    states = row_states(rows, tokens, model, layers=indices(layers), pool=pool, width=width,
                                        batch_size=config.batch_size)  # fmt: skip
                    yield renamed(states, layers)

            settings = {
                "kind": "hidden states of a language model", "model_fingerprint": model.fingerprint,
                "special_tokens": config.special, "long_texts": config.long_texts, "mode": config.mode,
                "computed_in": model.dtype, **({"n_tokens": width} if pool == "flat" else {}),
            }  # fmt: skip
            facts = {
                "source": model.source.name, "revision": model.revision, "n_cut": n_cut(tokens),
                "n_empty": {run: each.n_empty for run, each in windows.items()},
            }  # fmt: skip
            yield Job("semantic", f"{level}_cw{window_s}_{config.tokens}_{config.annotators}", name, layers, settings,
                      facts, code, _content(windows), parts)  # fmt: skip


def word_jobs(config: Config, stimuli: Stimuli, name: str, source: str) -> Iterator[Job]:
    from wernicke.features.words import longest_words, read_word_vectors, word_features, words_of

    kinds = [(level, window_s) for level in config.levels for window_s in config.windows_s]
    every = {kind: {run.run: stimuli.windows(kind[0], run, kind[1]) for run in config.runs} for kind in kinds}
    vectors = read_word_vectors(source, words={w for one in every.values() for x in one.values() for w in words_of(x)})
    code = code_fingerprint(*RECIPE, "wernicke.features.words")
    for (level, window_s), windows in every.items():
        lengths = {run: longest_words(each, vectors, mode=config.mode) for run, each in windows.items()}
        if not any(lengths.values()):
            raise InputError("E-META", "none of its words has a vector", field=f"levels.{level}")
        width = max(lengths.values()) if config.n_tokens is None else config.n_tokens
        pool = "mean" if config.tokens == "avgToken" else "flat"

        def parts(
            run: Run, layers: Sequence[str], windows: Any = windows, lengths: Any = lengths, width: int = width,
            pool: Any = pool,
        ) -> Parts:  # fmt: skip
            if lengths[run.run]:
                found = word_features(windows[run.run], vectors, pool=pool, n_words=width if pool == "flat" else None,
                                      mode=config.mode)  # fmt: skip
                yield {"layerNone": found.bands["words"]}
            else:
                n_columns = vectors.dim * (width if pool == "flat" else 1)
                yield {"layerNone": np.zeros((run.kept_s, n_columns), np.float32)}

        settings = {"kind": "word vectors", "model_fingerprint": vectors.fingerprint, "mode": config.mode,
                    **({"n_tokens": width} if pool == "flat" else {})}  # fmt: skip
        yield Job("semantic", f"{level}_cw{window_s}_{config.tokens}_{config.annotators}", name, ["layerNone"],
                  settings, {"source": vectors.name}, code, _content(windows), parts)  # fmt: skip


def _content(windows: Mapping[str, TextWindows]) -> Callable[[Run], str]:
    return lambda run: fingerprint([list(row) for row in windows[run.run].texts])
