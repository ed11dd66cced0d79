"""A tiny language model and the two recipes run once with it on the real Haxby slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiny_llms import build_tiny_llm
from wernicke.recipes import haxby_decode, haxby_encode
from wernicke.recipes.config import build, load_config


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llm(tmp_path_factory.mktemp("llm") / "llama")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WERNICKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def shipped(recipe: Any, **changes: Any) -> Any:
    """The shipped config of a recipe with some keys changed."""
    _, values, path = load_config(recipe.__name__.rsplit(".", 1)[-1])
    return replace(build(recipe.Config, values, path, [], "test"), **changes)


@pytest.fixture(scope="session")
def encode_config(tiny_llm: Path) -> haxby_encode.Config:
    return shipped(haxby_encode, llm=str(tiny_llm), layer=1, controls="none", n_permutations=49, alphas=[1.0, 100.0])


@pytest.fixture(scope="session")
def encoded(encode_config: haxby_encode.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "encode"
    haxby_encode.encode(encode_config, run)
    return run


@pytest.fixture(scope="session")
def decode_config(tiny_llm: Path) -> haxby_decode.Config:
    return shipped(haxby_decode, llm=str(tiny_llm), max_new_tokens=8)


@pytest.fixture(scope="session")
def decoded(decode_config: haxby_decode.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "decode"
    haxby_decode.train(decode_config, run)
    haxby_decode.decode(run)
    return run
