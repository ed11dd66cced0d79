"""Any causal language model of transformers, by one argument; weights as safetensors, never with code of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.core.study import Source
from wernicke.pretrained.locate import LocatedLLM, check_llm_folder, locate_llm
from wernicke.pretrained.quiet import quiet_bars

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")
Quantised = Literal["8bit", "4bit"]


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model with its tokenizer.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In eval mode; no parameter asks for a gradient.
    tokenizer : transformers.PreTrainedTokenizerBase
        Has a pad token; its vocabulary is as published.
    located : LocatedLLM
        Name, folder, revision and fingerprint.
    n_layers : int
        Transformer blocks; there are ``n_layers + 1`` hidden states.
    hidden_size : int
    max_positions : int or None
        Context length in tokens; None where the model states none.
    pad_is_eos : bool
        The tokenizer has no usable pad token of its own, so eos pads: mask by length, never by ``== pad``.
    dtype : str
        Of the computation, such as ``"float32"``.
    quantised : str or None
        ``"8bit"`` or ``"4bit"``.
    """

    model: Any
    tokenizer: Any
    located: LocatedLLM
    n_layers: int
    hidden_size: int
    max_positions: int | None
    pad_is_eos: bool
    dtype: str
    quantised: Quantised | None = None

    @property
    def name(self) -> str:
        return self.located.name

    @property
    def folder(self) -> Path:
        return self.located.folder

    @property
    def revision(self) -> str | None:
        return self.located.revision

    @property
    def fingerprint(self) -> str:
        """See `wernicke.pretrained.locate.fingerprint_llm`."""
        return self.located.fingerprint

    @property
    def source(self) -> Source:
        return self.located.source

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def has_chat_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))


def load_llm(
    llm: str | os.PathLike[str] | LocatedLLM,
    *,
    device: str = "auto",
    dtype: str | None = None,
    quantised: Quantised | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Load a causal language model, frozen.

    Parameters
    ----------
    llm : str or path-like
        ``"smollm2"``, a hub id or a local folder; see `locate_llm`.
    device : str
        ``"auto"`` (CUDA if there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    dtype : str, optional
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. Default: float32 on the CPU, bfloat16 on CUDA.
    quantised : str, optional
        ``"8bit"`` or ``"4bit"`` by bitsandbytes (extra ``quantised``).
    revision : str, optional
        Branch, tag or commit on the hub.

    Raises
    ------
    InputError
        E-REF, E-UNSAFE, E-CFG (not a causal language model, unknown device or dtype), E-CKPT (weights missing or of
        other shapes than the config says).
    """
    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    if quantised is not None:
        check_option(quantised, ("8bit", "4bit"), "quantised")
        _need_bitsandbytes()
    located = llm if isinstance(llm, LocatedLLM) else locate_llm(llm, revision=revision)
    config = _causal_config(located.folder)
    tokenizer = _tokenizer(located.folder)
    model = _model(located.folder, device, dtype, quantised)
    n_rows = model.get_input_embeddings().weight.shape[0]
    pad_is_eos = _ensure_pad(tokenizer, n_rows, located.folder)
    text = config.get_text_config()
    stated = getattr(text, "max_position_embeddings", None)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        located=located,
        n_layers=int(text.num_hidden_layers),
        hidden_size=int(text.hidden_size),
        max_positions=stated if stated is not None and stated > 0 else None,  # XLNet states -1
        pad_is_eos=pad_is_eos,
        dtype=dtype,
        quantised=quantised,
    )


def resolve_device(device: str) -> str:
    """Return ``"cpu"``, ``"cuda"`` or ``"cuda:N"`` for what the user asked for.

    Raises
    ------
    InputError
        E-CFG for an unknown name or a device that is not there.
    """
    import torch

    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_devices else "cpu"
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or (number and (name == "cpu" or not number.isdigit())):
        raise InputError("E-CFG", f"found {device!r}, expected auto, cpu, cuda or cuda:1", field="device")
    if name == "cuda" and int(number or 0) >= n_devices:
        raise InputError("E-CFG", f"found {device!r}, but torch sees {n_devices} CUDA devices", field="device",
                         hint="use device auto or cpu; `wernicke doctor` shows what is installed")  # fmt: skip
    return device


def resolve_dtype(dtype: str | None, device: str) -> str:
    """Return the name of the dtype to compute in."""
    if dtype is None:
        return "float32" if device == "cpu" else "bfloat16"
    return check_option(dtype, DTYPES, "dtype")


def _need_bitsandbytes() -> None:
    missing = [name for name in ("bitsandbytes", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError("E-CFG", f"8-bit and 4-bit weights need {' and '.join(missing)}", field="quantised",
                         hint="install them: pip install 'wernicke[quantised]'")  # fmt: skip


def _causal_config(folder: Path) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    raw = check_llm_folder(folder)
    kind = str(raw.get("model_type"))
    wanted = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    architectures = raw.get("architectures") or [wanted]
    if wanted is None or wanted not in architectures:
        found = architectures[0] or f"model_type {kind!r}"
        raise InputError("E-CFG", f"{found} is not a causal language model that this transformers knows",
                         path=folder / "config.json", field="architectures")  # fmt: skip
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("E-FMT", f"transformers cannot read it ({error})", path=folder / "config.json") from None


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - tokenizers (Rust) raises bare Exception for a damaged file
        raise InputError("E-FMT", f"the tokenizer cannot be read ({type(error).__name__}: {error})",
                         path=folder) from None  # fmt: skip


def _model(folder: Path, device: str, dtype: str, quantised: Quantised | None) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    extra: dict[str, Any] = {}
    if quantised is not None:
        extra["device_map"] = {"": device}
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantised == "8bit",
            load_in_4bit=quantised == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    try:
        with quiet_bars():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **extra,
            )
    except SafetensorError as error:
        raise InputError("E-HDR", f"the weights cannot be read ({error})", path=folder) from None
    except RuntimeError as error:
        if "size mismatch" not in str(error) and "ignore_mismatched_sizes" not in str(error):
            raise
        raise InputError("E-CKPT", "the weights have other shapes than config.json says", path=folder) from None
    model, info = loaded
    # transformers would start a missing weight at random and only warn.
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError("E-CKPT", f"{len(missing)} weights are missing, such as {missing[0]}", path=folder)
    if quantised is None:
        model.to(device)
    return model.eval().requires_grad_(False)


def _ensure_pad(tokenizer: Any, n_rows: int, folder: Path) -> bool:
    """Give the tokenizer a pad token that the model has an embedding for, without adding one to the vocabulary."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < n_rows:
        return tokenizer.pad_token_id == tokenizer.eos_token_id
    if tokenizer.eos_token_id is None or tokenizer.eos_token_id >= n_rows:
        raise InputError("E-META", "the tokenizer has neither a pad nor an eos token that the model knows", path=folder)
    logger.info("%s: no pad token; eos (%s) pads", folder.name, tokenizer.eos_token)
    tokenizer.pad_token = tokenizer.eos_token
    return True
