"""Find a language model's folder, look through it before anything heavy is imported, and fingerprint it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError
from wernicke.core.study import Source
from wernicke.pretrained import smollm2 as _smollm2
from wernicke.store.files import read_json, sha256_file
from wernicke.store.fingerprint import fingerprint

BUILT_IN = "smollm2"
INDEX = "model.safetensors.index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json", "vocab.txt")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "vocab.txt", "merges.txt", "README.md"]
# Subfolders hold other formats; Mistral's consolidated files are the same weights again.
_UNWANTED = ["*/*", "consolidated*"]


@dataclass(frozen=True)
class LocatedLLM:
    """A checked folder with a language model.

    Parameters
    ----------
    name : str
        What the user asked for.
    folder : Path
    revision : str or None
        The hub's commit, 40 hexadecimal digits; None for a local folder.
    fingerprint : str
        See `fingerprint_llm`.
    """

    name: str
    folder: Path
    revision: str | None
    fingerprint: str

    @property
    def source(self) -> Source:
        """Where the model comes from, for the report."""
        if self.name == BUILT_IN:
            return _smollm2.SOURCE
        on_hub = self.revision is not None
        where = f"https://huggingface.co/{self.name}" if on_hub else None
        key = re.sub(r"\W+", "_", Path(self.name).name)
        note = f"Hugging Face hub, revision {self.revision}" if on_hub else "Local folder"
        return Source(
            name=self.name if on_hub else Path(self.name).name,
            licence="not recorded: see the model card",
            terms="Those of the model's authors; see its card.",
            citation=f"{Path(self.name).name if not on_hub else self.name}. {note}.",
            bibtex=f"@misc{{{key},\n  title = {{{Path(self.name).name}}},\n  note  = {{{note}}}\n}}",
            url=where,
        )


def locate_llm(llm: str | os.PathLike[str], *, revision: str | None = None) -> LocatedLLM:
    """Return the folder of a language model: the built-in one, a local folder, or one fetched from the hub.

    Parameters
    ----------
    llm : str or path-like
        ``"smollm2"``, a local folder, or a hub id such as ``"meta-llama/Llama-3.2-1B-Instruct"``. A folder that
        exists wins over a hub id of the same name.
    revision : str, optional
        Branch, tag or commit on the hub. The commit that it meant is recorded in either case.

    Raises
    ------
    InputError
        E-REF (no such model, or not reachable), E-CFG (gated without access, not a name), and what `check_folder`
        finds.
    """
    name = os.fspath(llm)
    if name == BUILT_IN:
        folder, commit = _smollm2.smollm2(), None
    elif Path(name).expanduser().is_dir():
        folder, commit = Path(name).expanduser(), None
    elif isinstance(llm, os.PathLike) or name.startswith((".", "~", "/")) or name.count("/") > 1:
        what = "is a file, expected a folder" if Path(name).is_file() else "no such folder"
        raise InputError("E-REF", what, path=Path(name), field="llm")
    elif not _HUB_ID.fullmatch(name):
        raise InputError("E-CFG", f"found {name!r}, expected {BUILT_IN!r}, a hub id or a local folder", field="llm")
    else:
        folder = _from_hub(name, revision)
        commit = folder.name
    check_llm_folder(folder)
    return LocatedLLM(name, folder, commit, fingerprint_llm(folder))


def check_llm_folder(folder: Path) -> dict[str, Any]:
    """Return the config of a folder that holds config, tokenizer and safetensors weights.

    Raises
    ------
    InputError
        E-REF naming what is missing and what was found, E-UNSAFE for a config that asks for its own code
        (``auto_map``), weights that only pickle can load, or shards outside the folder.
    """
    found = sorted(p.name for p in folder.iterdir())
    listing = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "") or "nothing"
    if "config.json" not in found:
        problem = f"no config.json; found {listing}"
        if "adapter_config.json" in found:
            problem = "a LoRA adapter, not a language model: merge it into its base model first"
        raise InputError("E-REF", problem, path=folder, field="llm")
    config = read_json(folder / "config.json")
    for file in ("config.json", "tokenizer_config.json"):
        values = config if file == "config.json" else (read_json(folder / file) if file in found else {})
        if not isinstance(values, dict):
            raise InputError("E-FMT", f"found {type(values).__name__}, expected an object", path=folder / file)
        if "auto_map" in values:
            raise InputError(
                "E-UNSAFE",
                "asks for Python code of its own (`auto_map`), which is never run",
                path=folder / file,
                hint="use a version of this model that transformers itself supports",
            )
    if not set(found) & set(_TOKENIZER_FILES):
        raise InputError("E-REF", f"no tokenizer (such as tokenizer.json); found {listing}", path=folder, field="llm")
    weight_files(folder)
    return config


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model's folder, all of them present."""
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(shards, dict) or not shards:
            raise InputError("E-FMT", "no `weight_map`", path=folder / INDEX)
        names = sorted({str(name) for name in shards.values()})
        for name in names:
            if name != Path(name).name:
                raise InputError("E-UNSAFE", f"shard {name!r} leaves the folder", path=folder / INDEX)
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return [folder / name for name in names]
    others = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack")]
    if others and not (folder / INDEX).is_file():
        raise InputError("E-UNSAFE" if ".gguf" not in others[0] else "E-FMT",
                         f"weights only as {others[0]}, expected safetensors", path=folder, field="llm",
                         hint="convert them once: load in transformers, then save_pretrained(folder)")  # fmt: skip
    more = f" ({len(missing)} of {len(names)} files missing)" if len(names) > 1 else ""
    raise InputError("E-REF", f"no weights: {missing[0]} is missing{more}", path=folder, field="llm")


def fingerprint_llm(folder: str | os.PathLike[str]) -> str:
    """Return a fingerprint of a model's folder: config, tokenizer files and the content of all weights.

    Two finetunes of one model have the same shapes, so headers and sizes do not tell them apart: the content is
    hashed (1 to 3 s a GB, once a process and file). For files of the hub's cache the name is the hash already.
    """
    folder = Path(folder)
    small = sorted(
        p.name
        for p in folder.iterdir()
        if p.name == "config.json" or p.name in (*_TOKENIZER_FILES, "merges.txt", "tokenizer_config.json")
        or p.name in ("special_tokens_map.json", "added_tokens.json") or p.suffix == ".jinja"
    )  # fmt: skip
    parts = {name: sha256_file(folder / name) for name in small}
    parts |= {path.name: _content_hash(path) for path in weight_files(folder)}
    return fingerprint(parts)


def _content_hash(path: Path) -> str:
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        return real.name
    state = real.stat()
    return _hash_once(real, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_file(path)


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    near = suggest(name, [BUILT_IN])
    hint = near if near.startswith("did you mean") else f"built in: {BUILT_IN}; else a hub id or a local folder"
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
        )  # fmt: skip
    except GatedRepoError:
        raise InputError("E-CFG", f"the model {name} is gated: its owner grants access", field="llm",
                         hint=f"ask for it at https://huggingface.co/{name}, then set HF_TOKEN "
                         "(or run `hf auth login`)") from None  # fmt: skip
    except RevisionNotFoundError:
        raise InputError("E-REF", f"the hub's {name} has no revision {revision!r}", field="llm") from None
    except RepositoryNotFoundError:
        raise InputError("E-REF", f"no model {name} on the Hugging Face hub, or it is private and HF_TOKEN is not set",
                         field="llm", hint=hint) from None  # fmt: skip
    except HFValidationError:
        raise InputError("E-CFG", f"{name!r} is not a hub id", field="llm", hint=hint) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise InputError("E-REF", f"no folder {name!r} here, not in the hub's cache, and {why}", field="llm",
                         hint=hint) from None  # fmt: skip
    except (HfHubHTTPError, OSError) as error:
        raise InputError("E-REF", f"fetching {name} from the hub failed ({type(error).__name__}: {error})", field="llm",
                         hint="try again, or give a local folder") from None  # fmt: skip
