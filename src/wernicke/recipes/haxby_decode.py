"""Decode: the fMRI of a person who saw eight kinds of pictures -> sentences about what was seen, read top to bottom.

In Thought2Text's order: the bridge to the frozen language model is primed on the eight sentences, then the brain is
mapped onto the bridge's input by ridge, one left-out run at a time. It is a category route, through sentences: the
model has read all eight sentences, so it can tell which of eight things was seen and nothing about the picture.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError
from wernicke.recipes.haxby import HaxbyData, average_blocks, check_sentences, leave_runs_out

if TYPE_CHECKING:
    import numpy as np

    from wernicke.core.recording import Recording
    from wernicke.core.results import Captions
    from wernicke.core.split import Split
    from wernicke.core.study import Study
    from wernicke.decoding.arrays import Decoder
    from wernicke.decoding.linear import BrainToBridge
    from wernicke.store.run import RunFolder

log = logging.getLogger(__name__)

LAYERS = ("core", "data", "stats", "ridge", "pretrained", "decoding")
CODE = tuple(f"wernicke.{name}" for name in (*LAYERS, "recipes.haxby", "recipes.haxby_decode"))
ACCEPTED_LEAKS = ("stimulus_id",)

CANNOT_TELL = (
    "A category route: the language model was primed on all eight sentences, so nothing is decoded that a classifier "
    "of eight categories does not know.",
    "One subject and one slice: nothing here speaks for other people or for the whole brain.",
    "Pictures of a category came in one block a run, so what is told apart are blocks, not pictures.",
)


@dataclass(frozen=True)
class Config:
    """The decoding half of the demo.

    Parameters
    ----------
    sentences : dict of category to sentence
    synonyms : dict of category to list of str
        What else names a category in a sentence.
    data : HaxbyData
    shift_s : float
        Haemodynamic delay at which a block's volumes are averaged, seconds.
    llm : str
        ``smollm2``, a hub id or a local folder.
    max_new_tokens, batch_size : int
        Of the generation.
    chance_margin : float
        Controls within this distance of chance count as equivalent to it.
    smallest_effect : float
        Smallest gain in ROUGE-1 of interest.
    seed : int
    device : str
        auto, cpu, cuda or cuda:N.
    """

    sentences: dict[str, str]
    synonyms: dict[str, list[str]] = field(default_factory=dict)
    data: HaxbyData = field(default_factory=HaxbyData)
    shift_s: float = 0.0
    llm: str = "smollm2"
    max_new_tokens: int = 24
    batch_size: int = 32
    chance_margin: float = 0.05
    smallest_effect: float = 0.05
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_range(self.max_new_tokens, "max_new_tokens", low=1)
        check_range(self.batch_size, "batch_size", low=1)
        check_range(self.chance_margin, "chance_margin", low=0, high=1, low_open=True)
        check_range(self.smallest_effect, "smallest_effect", low=0)
        check_range(self.shift_s, "shift_s", low=0)


def train(config: Config, run: Path, command: Sequence[str] = ()) -> None:
    """Prime the bridge on the sentences and keep it in the run folder; it goes on from its checkpoints when killed.

    Raises
    ------
    InputError
        For a root that is not a Haxby folder, sentences that do not name the categories, an LLM without weights.
    RunInUseError
        When another process writes this run folder.
    """
    from wernicke.pretrained.locate import locate_llm
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder

    study = config.data.load()
    check_sentences(config.sentences, study)
    located = locate_llm(config.llm)
    blocks_of(study, config)  # what cannot be averaged is refused before the minutes of priming
    settings = {"recipe": "haxby_decode", **asdict(config)}
    with RunFolder.create(run, step="train", command=command, config=settings, seed=config.seed) as folder:
        inputs = {"sentences": fingerprint(config.sentences), "llm": located.fingerprint}
        if folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
            return
        from wernicke.decoding.prime import embed_sentences, prime, standardise
        from wernicke.pretrained.llm import load_llm

        llm = load_llm(config.llm, device=config.device)
        names = sorted(config.sentences)
        embeddings = standardise(embed_sentences(llm, [config.sentences[name] for name in names]))
        bridge, result = prime(
            llm, embeddings, [config.sentences[name] for name in names], stimuli=names, seed=config.seed, run=folder
        )
        bridge.save_pretrained(folder.path("bridge"))
        folder.write_npy("sentence_embeddings.npy", embeddings)
        folder.write_json("exposure.json", {"exposure": {"samples": [], "stimuli": names}})
        folder.write_json("learning_curve.json", result.curve)
        folder.finish()


def decode(run: Path, out: Path | None = None, command: Sequence[str] = ()) -> Captions:
    """Write a sentence for every block, each from a mapping that has not seen its run; captions.json in the run.

    Parameters
    ----------
    run : path
        Of `train`.
    out : path, optional
        A copy, CSV or JSON by its name.

    Raises
    ------
    InputError
        E-REF: not a trained run. E-SPLIT: a block to be decoded was seen in training.
    """
    from wernicke.data.captions import read_captions, write_captions
    from wernicke.store.fingerprint import code_fingerprint, fingerprint
    from wernicke.store.run import RunFolder

    config = config_of(run)
    study = config.data.load()
    blocks = blocks_of(study, config)
    with RunFolder.open(run, step="decode", command=command) as folder:
        folder.check_finished("train")
        inputs = {"blocks": fingerprint(blocks.values), "samples": fingerprint(blocks.samples)}
        if not folder.is_complete(inputs=inputs, code=code_fingerprint(*CODE)):
            decoder = load_decoder(folder, config)
            captions = decode_left_out_runs(decoder, blocks, blocks, config, folder)
            with folder.atomic_path("captions.json") as path:
                write_captions(captions, path)
            folder.finish()
        captions = read_captions(folder.path("captions.json"))
    if out is not None:
        write_captions(captions, out)
    return captions


def config_of(run: Path) -> Config:
    """Read back the config of a run that `train` made."""
    from wernicke.recipes.config import build
    from wernicke.store.run import RunFolder

    values = dict(RunFolder.open(run).config)
    recipe = values.pop("recipe", None)
    if recipe != "haxby_decode":
        raise InputError("E-REF", f"found a run of recipe {recipe!r}, expected haxby_decode", path=run)
    return build(Config, values, run / "config.yaml", [], "wernicke")


def blocks_of(study: Study, config: Config) -> Recording:
    """The block responses that are decoded."""
    recording = next(iter(study.recordings.values()))
    return average_blocks(recording, detrend_order=config.data.detrend_order, shift_s=config.shift_s)


def load_decoder(folder: RunFolder, config: Config) -> Decoder:
    """The primed bridge with its language model, ready to be given a mapping for each fold."""
    from wernicke.decoding.arrays import Decoder
    from wernicke.decoding.bridge import Bridge
    from wernicke.decoding.linear import BrainToBridge
    from wernicke.pretrained.llm import load_llm

    llm = load_llm(config.llm, device=config.device)
    bridge = Bridge.from_pretrained(folder.path("bridge"), llm)
    sentences = tuple(config.sentences[name] for name in sorted(config.sentences))
    return Decoder(bridge, BrainToBridge(), sentences, folder.read_npy("sentence_embeddings.npy"))


def map_fold(embeddings: np.ndarray, blocks: Recording, split: Split, config: Config) -> BrainToBridge:
    """The mapping from the brain onto the bridge's input, fitted on one split's training blocks alone.

    Parameters
    ----------
    embeddings : array, shape (n_sentences, d)
        Of the sentences in the order of their categories' names.
    """
    from wernicke.decoding.linear import BrainToBridge

    seen = blocks.samples.iloc[split.train_rows]
    rows = [sorted(config.sentences).index(name) for name in seen["stimulus_id"]]
    return BrainToBridge().fit(blocks.values[split.train_rows], embeddings[rows], seen["run"].tolist())


def decode_left_out_runs(
    decoder: Decoder, trained_on: Recording, blocks: Recording, config: Config, folder: RunFolder
) -> Captions:
    """Fit the mapping on all runs but one, write the sentences of that one, for every run.

    Parameters
    ----------
    decoder : Decoder
    trained_on : Recording
        The block responses as the fit sees them; under a control their pairing is altered.
    blocks : Recording
        The same blocks with their true labels, which become the references; generation never sees them.
    """
    import numpy as np
    import pandas as pd
    from tqdm import tqdm

    from wernicke.core.results import Captions
    from wernicke.decoding.exposure import Exposure, check_exposure

    primed = Exposure.from_meta(folder.read_json("exposure.json"))
    samples = blocks.samples
    splits = leave_runs_out(samples)
    embeddings = np.empty((len(samples), decoder.embeddings.shape[1]), dtype=np.float32)
    for split in tqdm(splits, desc="map each left-out run", disable=None, leave=False):
        seen = Exposure.of(samples=trained_on.samples["sample_id"].iloc[split.train_rows])
        check_exposure(primed | seen, samples.iloc[split.test_rows], ACCEPTED_LEAKS)
        mapping = map_fold(decoder.embeddings, trained_on, split, config)
        embeddings[split.test_rows] = mapping.predict(trained_on.values[split.test_rows])
    texts = decoder.bridge.generate(embeddings, max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    table = pd.DataFrame(
        {
            "id": samples["sample_id"], "text": texts, "label": samples["label"], "subject": blocks.subject,
            "stimulus": samples["stimulus_id"], "run": samples["run"], "order": np.arange(len(samples)),
        }
    )  # fmt: skip
    return Captions(
        table,
        tuple((config.sentences[name],) for name in samples["stimulus_id"]),
        decoding="free",
        parameters={"max_new_tokens": config.max_new_tokens, "num_beams": 1, "do_sample": False, "llm": config.llm},
        split_fingerprints=tuple(split.fingerprint for split in splits),
    )
