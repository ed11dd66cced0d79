"""Any model of transformers without its head, frozen: a folder or hub id is checked, loaded and fingerprinted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wernicke.core.errors import InputError
from wernicke.pretrained.locate import LocatedLLM, _from_hub, fingerprint_llm, weight_files
from wernicke.pretrained.quiet import quiet_bars
from wernicke.store.files import read_json, sha256_file
from wernicke.store.fingerprint import fingerprint

_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "image_processor_config.json")
_MAY_RUN_CODE = ("config.json", "tokenizer_config.json", *_PROCESSORS)
# Weights behind the last hidden state, or used in training only: their absence changes no state.
_UNUSED = ("pooler.", "masked_spec_embed")


def locate_model(model: str | os.PathLike[str], *, revision: str | None = None) -> LocatedLLM:
    """Return the checked folder of a model of pictures, sound, or pictures and text.

    Parameters
    ----------
    model : str or path-like
        A local folder, or a hub id such as ``"facebook/deit-base-distilled-patch16-224"``. A folder that exists wins.
    revision : str, optional
        Branch, tag or commit on the hub.

    Raises
    ------
    InputError
        E-REF (not there, without weights), E-UNSAFE (asks for code of its own, or weights as pickle), E-FMT.
    """
    name = os.fspath(model)
    folder = Path(name).expanduser()
    commit = None
    if not folder.is_dir():
        if isinstance(model, os.PathLike) or name.startswith((".", "~", "/")) or name.count("/") > 1:
            what = "is a file, expected a folder" if folder.is_file() else "no such folder"
            raise InputError("E-REF", what, path=folder, field="model")
        folder = _from_hub(name, revision)
        commit = folder.name
    if not (folder / "config.json").is_file():
        raise InputError("E-REF", "no config.json", path=folder, field="model")
    for file in _MAY_RUN_CODE:
        if not (folder / file).is_file():
            continue
        values = read_json(folder / file)
        if not isinstance(values, dict):
            raise InputError("E-FMT", f"found {type(values).__name__}, expected an object", path=folder / file)
        if "auto_map" in values:
            raise InputError("E-UNSAFE", "asks for Python code of its own (`auto_map`), which is never run",
                             path=folder / file, hint="use a version that transformers itself supports")  # fmt: skip
    weight_files(folder)
    parts = {name: sha256_file(folder / name) for name in _PROCESSORS if (folder / name).is_file()}
    return LocatedLLM(name, folder, commit, fingerprint({"model": fingerprint_llm(folder), **parts}))


def load_frozen(folder: Path, *, device: str, dtype: str, mapping: str = "AutoModel") -> Any:
    """Return the model of a checked folder in eval mode; no parameter asks for a gradient.

    Parameters
    ----------
    folder : Path
    device, dtype : str
        Resolved (`wernicke.pretrained.llm.resolve_device`, `resolve_dtype`).
    mapping : str
        Name of transformers' automatic class.

    Raises
    ------
    InputError
        E-CFG (an architecture unknown to the installed transformers), E-CKPT (weights missing or of other shapes),
        E-HDR (damaged weights).
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    auto = getattr(transformers, mapping)
    try:
        with quiet_bars(), _quiet_reports():
            model, info = auto.from_pretrained(
                folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
    except SafetensorError as error:
        raise InputError("E-HDR", f"the weights cannot be read ({error})", path=folder) from None
    except RuntimeError as error:
        if "size mismatch" not in str(error) and "ignore_mismatched_sizes" not in str(error):
            raise
        raise InputError("E-CKPT", "the weights have other shapes than config.json says", path=folder) from None
    except (ValueError, KeyError) as error:
        raise InputError("E-CFG", f"transformers cannot load it ({error})", path=folder / "config.json",
                         field="model") from None  # fmt: skip
    # transformers would start a missing weight at random and only warn.
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in _UNUSED))
    if missing:
        saved, loaded = (model.config.architectures or ["?"])[0], type(model).__name__
        raise InputError("E-CKPT", f"{len(missing)} weights are missing, such as {missing[0]}", path=folder,
                         hint=f"saved as {saved}, read as {loaded}: the folder is not whole, or the one does not hold "
                         "the other and is not supported")  # fmt: skip
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def trial(folder: Path, what: str) -> Iterator[None]:
    """Refuse (E-CFG) a model that fails at its first input, because it takes others than `what`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        raise InputError("E-CFG", f"not a model of {what} ({_first_line(error)})", path=folder / "config.json",
                         field="model") from None  # fmt: skip


def load_processor(folder: Path, mapping: str, **options: Any) -> Any:
    """Return the processor beside a model, by the name of transformers' automatic class (E-REF without one)."""
    import transformers

    try:
        with _quiet_reports():
            return getattr(transformers, mapping).from_pretrained(folder, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("E-REF", f"no processor that {mapping} can read ({_first_line(error)})", path=folder,
                         field="model", hint="save it beside the model: processor.save_pretrained(folder)",
                         ) from None  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


@contextmanager
def _quiet_reports() -> Iterator[None]:
    """Silence the table of unused head weights: what is missing is checked by us, what is unused is meant so."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
