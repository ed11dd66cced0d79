"""`wernicke features`: drama2brain's films and anybody's stimuli, against transformers by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from tiny_llms import SENTENCES, build_tiny_llm
from tiny_models import build_tiny, picture, sound
from wernicke.cli import run
from wernicke.core.errors import EXIT_DONE, EXIT_USER
from wernicke.data.drama2brain_stimuli import read_band
from wernicke.data.drama2brain_tables import LEVELS, RUNS, Run
from wernicke.features.saved import read_features
from wernicke.pretrained.masked import load_text_model
from wernicke.pretrained.twin import untrained_twin

#: Real runs are ten minutes long; here their first seconds stand for them.
SHORT = {"GIS1_001": 9, "GIS1_002": 7}
FPS = 8
TINY = ("bert", "vit", "ast", "git")


@pytest.fixture(autouse=True)
def two_short_runs(monkeypatch, tmp_path):
    shortened = tuple(
        Run(**{**r._asdict(), "kept_s": SHORT[r.run], "first_s": min(r.first_s, 2)}) for r in RUNS if r.run in SHORT
    )
    from wernicke.data import drama2brain_stimuli, drama2brain_tables

    for module in (drama2brain_stimuli, drama2brain_tables):
        monkeypatch.setattr(module, "RUNS", shortened)
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))
    return shortened


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    found = {kind: build_tiny(root / kind, kind) for kind in TINY}
    found["gpt2"] = build_tiny_llm(root / "gpt2", "gpt2")
    (root / "w.vec").write_text("cat 1 2\nhouse 3 5\nfloor 0 4\n")
    return {**found, "w": root / "w.vec"}


def captions(level: str, n_annotators: int, run_name: str) -> list[list[str]]:
    rng = np.random.default_rng([len(level), len(run_name), int(run_name[-1])])
    rows = [[str(rng.choice(SENTENCES)) for _ in range(n_annotators)] for _ in range(SHORT[run_name])]
    rows[2] = [".."] * n_annotators  # nobody speaks
    rows[3][0] = ".."  # one says nothing
    rows[5] = rows[4]  # a caption that holds on
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The authors' layout: annotations with a header line, frames at 8 a second, WAV files."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("captions", "media/audio", "media/frames"):
        (root / folder).mkdir(parents=True)
    for name, seconds in SHORT.items():
        title, number = name.split("_")
        for level, (_, n) in LEVELS.items():
            lines = ["\t".join(f"annotator{i}" for i in range(n)), *map("\t".join, captions(level, n, name))]
            (root / f"captions/{title}_run{int(number)}_{level}_each1sec_en.txt").write_text("\n".join(lines) + "\n")
        wavfile.write(root / f"media/audio/{name}.wav", 16_000, sound(seconds, seconds + 2))
        (root / f"media/frames/{name}").mkdir()
        for i in range(FPS * (seconds + 1)):
            Image.fromarray(picture(i)).save(root / f"media/frames/{name}/frame_{i}.png")
    return root


def call(data, out, *flags) -> int:
    config = ["--config", "drama2brain", "--out", str(out)] + (["--data.root", str(data)] if data is not None else [])
    return run(["features", *config, "--data.fps", str(FPS), *map(str, flags)])


def band(out, name) -> dict[str, np.ndarray]:
    return {r: np.load(out / "stim_features" / name / f"{r}.npy") for r in SHORT}


@cache
def reference(folder: Path):
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@cache
def states(folder: Path, text: str, layer: int, *, special: bool = False) -> np.ndarray:
    """Mean over tokens of one text, alone and unpadded, by transformers."""
    model, tokenizer = reference(folder)
    found = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
    mask = found.pop("special_tokens_mask")[0].bool()
    with torch.no_grad():
        hidden = model(**found, output_hidden_states=True).hidden_states[layer][0]
    return hidden[torch.ones_like(mask) if special else ~mask].mean(0).numpy()


def by_hand(folder, level, name, layer, *, annotators=None, window_s=1, special=False) -> np.ndarray:
    rows = captions(level, LEVELS[level][1], name)
    chosen = range(len(rows[0])) if annotators is None else annotators
    out = []
    for second in range(len(rows)):
        vectors = []
        for a in chosen:
            said = [rows[s][a] for s in range(max(0, second - window_s + 1), second + 1) if rows[s][a] != ".."]
            said = sorted(set(said)) if special else list(dict.fromkeys(said))  # special: faithful's order too
            if said:
                vectors.append(states(folder, ",".join(said), layer, special=special))
        out.append(np.mean(vectors, 0) if vectors else np.zeros(32))
    return np.array(out)


def test_text_models_equal_transformers(data, models, tmp_path):
    flags = ["--semantic.BERT", models["bert"], "--semantic.GPT2", models["gpt2"], "--models", "BERT", "GPT2"]
    assert call(data, tmp_path, *flags, "--levels", "Story", "objectiveAnnot50chara", "--windows_s", 1, 3) == EXIT_DONE
    for kind, name in (("bert", "BERT"), ("gpt2", "GPT2")):
        for level in ("story", "objectiveAnnot50chara"):
            for window_s in (1, 3):
                for k in (1, 3):  # the embedding output and the last block
                    found = band(tmp_path, f"semantic/{level}_cw{window_s}_avgToken_ALL/{name}/layer{k}")
                    for r in SHORT:
                        expected = by_hand(models[kind], level, r, k - 1, window_s=window_s)
                        assert (found[r].dtype, found[r].shape) == (np.float16, expected.shape)
                        np.testing.assert_allclose(found[r], expected, rtol=2e-3, atol=2e-3)
                        if window_s == 1:
                            assert not found[r][2].any()  # nobody spoke


def test_faithful_halves_and_chosen_layers(data, models, tmp_path):
    flags = ["--semantic.BERT", models["bert"], "--models", "BERT", "--mode", "faithful", "--layers", 2]
    for half, annotators in (("splitA", [0, 1, 2]), ("splitB", [3, 4])):
        assert call(data, tmp_path, *flags, "--levels", "Object", "--annotators", half, "--windows_s", 2) == EXIT_DONE
        place = f"semantic/objectiveAnnot50chara_cw2_avgToken_{half}/BERT"
        assert [p.name for p in (tmp_path / "stim_features" / place).glob("layer*")] == ["layer2"]
        for r, found in band(tmp_path, f"{place}/layer2").items():
            expected = by_hand(
                models["bert"], "objectiveAnnot50chara", r, 1, annotators=annotators, window_s=2, special=True
            )
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_flat_tokens_words_and_a_twin(data, models, tmp_path):
    flags = ["--semantic.GPT2", models["gpt2"], "--semantic.Twin", f"untrained:{models['gpt2']}"]
    flags += ["--semantic.Words", models["w"], "--models", "GPT2", "Twin", "Words", "--levels", "Story"]
    assert call(data, tmp_path, *flags, "--save_as", "float32") == EXIT_DONE
    root = "semantic/story_cw1_avgToken_ALL"
    twin = untrained_twin(load_text_model(models["gpt2"], device="cpu"), 0)
    text = captions("story", 2, "GIS1_001")[0][0]
    with torch.no_grad():
        ids = twin.tokenizer(text, return_tensors="pt")
        alone = twin.model(**ids, output_hidden_states=True).hidden_states[1][0].mean(0).numpy()
    other = captions("story", 2, "GIS1_001")[0][1]
    with torch.no_grad():
        ids = twin.tokenizer(other, return_tensors="pt")
        second = twin.model(**ids, output_hidden_states=True).hidden_states[1][0].mean(0).numpy()
    found = band(tmp_path, f"{root}/Twin/layer2")["GIS1_001"][0]
    np.testing.assert_allclose(found, (alone + second) / 2, rtol=1e-3, atol=1e-5)
    words = band(tmp_path, f"{root}/Words/layerNone")["GIS1_001"]
    vectors = {"cat": [1, 2], "house": [3, 5], "floor": [0, 4]}
    for row, said in zip(words, captions("story", 2, "GIS1_001"), strict=True):
        known = [np.mean([vectors[w] for w in s.lower().split() if w in vectors], 0)
                 for s in said if any(w in vectors for w in s.lower().split())]  # fmt: skip
        np.testing.assert_allclose(row, np.mean(known, 0) if known else np.zeros(2), rtol=1e-6)

    assert call(data, tmp_path, *flags, "--tokens", "flatToken") == EXIT_DONE
    flat = band(tmp_path, "semantic/story_cw1_flatToken_ALL/GPT2/layer1")
    assert flat["GIS1_001"].shape[1] == flat["GIS1_002"].shape[1]  # one width for all runs
    tokenizer = load_text_model(models["gpt2"], device="cpu").tokenizer
    spoken = [t for r in SHORT for row in captions("story", 2, r) for t in row if t != ".."]
    assert flat["GIS1_001"].shape[1] == 32 * max(len(tokenizer(t)["input_ids"]) for t in spoken)


def test_the_readers_take_what_was_written(data, models, tmp_path, two_short_runs):
    assert call(data, tmp_path, "--semantic.GPT2", models["gpt2"], "--models", "GPT2", "--levels", "Speech") == 0
    folder = tmp_path / "stim_features/semantic/speechTranscription_cw1_avgToken_ALL/GPT2/layer2"
    values = read_band(folder)
    assert values.shape == (sum(r.kept_s - r.first_s for r in two_short_runs), 32)
    np.testing.assert_array_equal(values[:9], np.load(folder / "GIS1_001.npy"))


def test_pictures_sound_and_pairs(data, models, tmp_path):
    import transformers as t

    flags = ["--vision.ViT", models["vit"], "--audio.AST", models["ast"], "--vision_semantic.GIT", models["git"]]
    flags += ["--models", "ViT", "AST", "GIT", "Envelope", "Luminance", "MotionEnergy", "--levels", "Story"]
    assert call(data, tmp_path, *flags, "--save_as", "float32") == EXIT_DONE
    model = t.ViTModel.from_pretrained(models["vit"]).eval()
    processor = t.AutoImageProcessor.from_pretrained(models["vit"], backend="pil")
    for r, found in band(tmp_path, "vision/default/ViT/layer2").items():
        assert found.shape == (SHORT[r], 17 * 32)  # 16 patches and the class token, flattened
        for second in (0, SHORT[r] - 1):
            two = [Image.fromarray(picture(FPS * second + at)).resize((32, 32)) for at in (0, FPS // 2)]
            with torch.no_grad():
                pixels = processor(images=two, return_tensors="pt")["pixel_values"]
                hidden = model(pixels, output_hidden_states=True).hidden_states[1].flatten(1).mean(0)
            np.testing.assert_allclose(found[second], hidden, rtol=1e-3, atol=1e-5)
    audio = t.ASTModel.from_pretrained(models["ast"]).eval()
    extractor = t.AutoFeatureExtractor.from_pretrained(models["ast"])
    for r, found in band(tmp_path, "audio/1s/AST/layer1").items():
        wave = sound(SHORT[r], SHORT[r] + 2)[3 * 16_000 : 4 * 16_000]
        with torch.no_grad():
            inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
            hidden = audio(**inputs, output_hidden_states=True).hidden_states[0].flatten()
        assert len(found) == SHORT[r]
        np.testing.assert_allclose(found[3], hidden, rtol=1e-3, atol=1e-4)
        loud = band(tmp_path, "audio/default/Envelope/layerNone")[r]
        np.testing.assert_allclose(loud[3], np.sqrt(np.mean(np.square(wave, dtype=np.float64))), rtol=1e-5)
    pair = band(tmp_path, "vision-semantic/default-story_avgToken/GIT/layer3")["GIS1_001"]
    assert pair.shape == (9, 64)
    assert not pair[2, 32:].any()  # nobody spoke: the text's half is zeros, the picture's is not
    assert pair[2, :32].any()
    assert band(tmp_path, "vision/default/Luminance/layerNone")["GIS1_002"].shape == (7, 2)
    assert band(tmp_path, "vision/default/MotionEnergy/layerNone")["GIS1_002"].shape == (7, 40)


def test_films_give_pictures_and_sound(models, tmp_path):
    pytest.importorskip("av")
    from tiny_films import make_film

    for r, seconds in SHORT.items():
        (tmp_path / "data/films").mkdir(parents=True, exist_ok=True)
        make_film(tmp_path / f"data/films/{r}.mkv", seconds=seconds + 1, fps=10)
    flags = ["--vision.ViT", models["vit"], "--audio.AST", models["ast"], "--places", "avgToken"]
    flags += ["--models", "ViT", "AST", "Luminance", "MotionEnergy", "Envelope"]
    assert call(tmp_path / "data", tmp_path / "out", *flags) == EXIT_DONE
    light = band(tmp_path / "out", "vision/default/Luminance/layerNone")["GIS1_001"]
    np.testing.assert_allclose(light[:, 0], [(25 + 20 * s) / 255 for s in range(9)], atol=0.01)
    assert band(tmp_path / "out", "vision/avgToken/ViT/layer1")["GIS1_002"].shape == (7, 32)
    assert band(tmp_path / "out", "audio/1s_avgToken/AST/layer1")["GIS1_002"].shape == (7, 32)
    level = band(tmp_path / "out", "audio/default/Envelope/layerNone")["GIS1_001"]
    np.testing.assert_allclose(level, 0.5 / np.sqrt(2), rtol=1e-2)


def test_nothing_is_made_twice_and_damage_is(data, models, tmp_path, caplog):
    caplog.set_level("INFO")
    flags = ["--semantic.GPT2", models["gpt2"], "--models", "GPT2", "--levels", "Story"]
    assert call(data, tmp_path, *flags, "--layers", 1) == EXIT_DONE
    path = tmp_path / "stim_features/semantic/story_cw1_avgToken_ALL/GPT2/layer1/GIS1_001.npy"
    first = path.read_bytes()
    assert call(data, tmp_path, *flags) == EXIT_DONE  # layers 2 and 3 are added
    assert "4 files made, 2 were there" in caplog.text
    path.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    assert call(data, tmp_path, *flags) == EXIT_DONE
    assert "1 files made, 5 were there" in caplog.text
    assert path.read_bytes() == first
    assert json.loads((path.parents[1] / "features.json").read_text())["simulated"] is False


@pytest.mark.slow
def test_killed_and_called_again(models, tmp_path, monkeypatch):
    """On real run lengths: a killed call and a second one give the files of one that was left alone."""
    monkeypatch.undo()
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))
    for name in SHORT:
        kept = next(r.kept_s for r in RUNS if r.run == name)
        rng = np.random.default_rng(kept)
        lines = "\n".join(f"{rng.choice(SENTENCES)} {i}" for i in range(kept))
        (tmp_path / f"GIS1_run{int(name[-3:])}_speechTranscription_each1sec_en.txt").write_text(lines + "\n")
    command = ["features", "--config", "drama2brain", "--data.root", str(tmp_path), "--semantic.GPT2"]
    command += [str(models["gpt2"]), "--models", "GPT2", "--levels", "Speech", "--titles", "GIS1", "--out"]
    out, alone = tmp_path / "out", tmp_path / "alone"
    process = subprocess.Popen([sys.executable, "-m", "wernicke", *command, str(out)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    while process.poll() is None and not list(out.glob("stim_features/*/*/GPT2/layer2/GIS1_001.npy")):
        time.sleep(0.02)
    unfinished = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert unfinished
    for folder in (out, alone):
        assert run([*command, str(folder)]) == EXIT_DONE
    files = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.npy")}
    assert len(files) == 6
    assert {p.relative_to(alone): p.read_bytes() for p in alone.rglob("*.npy")} == files
    assert not list(out.rglob(".tmp-*"))


def refused(capsys, code, *words):
    text = capsys.readouterr().err
    assert code in text, text
    assert len(text.strip().splitlines()) <= 2
    for word in words:
        assert word in text


def copy_of(data, tmp_path, change):
    """A copy of the annotations of which `change` damages one file."""
    root = tmp_path / "copy"
    root.mkdir()
    for path in (data / "captions").iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    change(root / "GIS1_run2_story_each1sec_en.txt")
    return root


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p.unlink(), "E-REF"),
        (lambda p: p.write_bytes(p.read_bytes()[:200]), "E-SHAPE"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00garbled" * 9), "E-FMT"),
        (lambda p: p.write_text("a\tb\n" + "x\ty\n" * 6 + "x\n"), "E-FMT"),
    ],
)
def test_annotations_that_cannot_be_right(data, models, tmp_path, capsys, change, code):
    root = copy_of(data, tmp_path, change)
    flags = ["--semantic.GPT2", models["gpt2"], "--models", "GPT2", "--levels", "Story"]
    assert call(root, tmp_path / "out", *flags) == EXIT_USER
    refused(capsys, code, "GIS1_run2_story_each1sec_en.txt")
    assert not (tmp_path / "out").exists()  # before anything was computed


def test_what_users_get_wrong(data, models, tmp_path, capsys):
    gpt2 = ["--semantic.GPT2", models["gpt2"], "--models", "GPT2"]
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text('{"model_type": "gpt2"}')
    (empty / "tokenizer.json").write_text("{}")
    cases: list[tuple[list, str, str]] = [
        ([*gpt2, "--layers", 4], "E-CFG", "expected 1 (embeddings) to 3"),
        ([*gpt2, "--levels", "Stroy"], "E-CFG", "Stroy"),
        ([*gpt2, "--annotators", "splitA", "--levels", "Speech"], "E-CFG", "not halved"),
        ([*gpt2, "--windows_s", 0], "E-CFG", "windows_s"),
        (["--models", "GTP2"], "E-CFG", "did you mean `GPT2`"),
        (["--semantic.GPT2", empty, "--models", "GPT2"], "E-REF", "no weights"),
        (["--semantic.GPT2", tmp_path / "w.bin", "--models", "GPT2"], "E-REF", "w.bin"),
        (["--vision.Level", "sound_level", "--models", "Level"], "E-CFG", "modality audio"),
        ([*gpt2, "--data.captions", "nowhere"], "E-REF", "nowhere"),
        ([*gpt2, "--dtype", "float16", "--tokens", "flatToken", "--n_tokens", 1], "E-CFG", "n_tokens"),
    ]
    for flags, code, word in cases:
        assert call(data, tmp_path / "out", *flags) == EXIT_USER, flags
        refused(capsys, code, word)
    assert call(None, tmp_path / "out", *gpt2) == EXIT_USER
    refused(capsys, "E-CFG", "data.root")
    assert call(data, tmp_path / "out", *gpt2, "--levels", "Story") == EXIT_DONE
    capsys.readouterr()
    assert call(data, tmp_path / "out", *gpt2, "--levels", "Story", "--mode", "faithful") == EXIT_USER
    refused(capsys, "E-CFG", "other settings", "choose another --out")


def test_films_and_pictures_that_are_not_there(data, models, tmp_path, capsys):
    only_text = tmp_path / "text"
    only_text.mkdir()
    for flags in (
        ["--vision.ViT", models["vit"], "--models", "ViT"],
        ["--audio.AST", models["ast"], "--models", "AST"],
    ):
        assert call(only_text, tmp_path / "out", *flags) == EXIT_USER
        refused(capsys, "E-REF", "Crown_001")
    (only_text / "GIS1_001.mp4").write_bytes(b"no film")
    assert call(only_text, tmp_path / "out", "--models", "Luminance") == EXIT_USER
    refused(capsys, "E-REF", "GIS1_002")
    (only_text / "GIS1_002.mp4").write_bytes(b"no film")
    assert call(only_text, tmp_path / "out", "--models", "Luminance") == EXIT_USER
    refused(capsys, "E-", "GIS1_001.mp4")


def test_media_that_cannot_be_right(data, models, tmp_path, capsys):
    root = tmp_path / "bad"
    for r, seconds in SHORT.items():
        (root / "frames" / r).mkdir(parents=True)
        for i in range(FPS * seconds):
            Image.fromarray(picture(0)).save(root / f"frames/{r}/{i}.png")
        wave = sound(1, seconds)
        wave[100] = np.nan
        wavfile.write(root / f"{r}.wav", 16_000, wave)
    assert call(root, tmp_path / "out", "--models", "Envelope") == EXIT_USER
    refused(capsys, "E-NONFIN", "GIS1_001.wav")
    content = (root / "frames/GIS1_001/8.png").read_bytes()
    (root / "frames/GIS1_001/8.png").write_bytes(content[: len(content) // 2])
    assert call(root, tmp_path / "out", "--models", "Luminance") == EXIT_USER
    refused(capsys, "E-TRUNC", "8.png")
    Image.new("1", (9000, 9000)).save(root / "frames/GIS1_001/8.png")
    assert call(root, tmp_path / "out", "--models", "Luminance") == EXIT_USER
    refused(capsys, "E-SIZE", "8.png")
    for path in (root / "frames/GIS1_001").iterdir():
        path.unlink()
    for i in range(FPS * 5):
        Image.fromarray(picture(0)).save(root / f"frames/GIS1_001/{i}.png")
    assert call(root, tmp_path / "out", "--models", "Luminance") == EXIT_USER
    refused(capsys, "E-SHAPE", "found 5 s, the run has 9 s")


# Anybody's stimuli -------------------------------------------------------------------------------------------------

TRANSCRIPT = "onset\tduration\tword\n0\t0.4\tA\n0.5\t0.3\tcat\n1.2\t0.3\tsits\n3.5\t0.5\tup\n"


def anybody(out, *flags) -> int:
    return run(["features", "--config", "features", "--out", str(out), *map(str, flags)])


@pytest.fixture
def transcript(tmp_path):
    (tmp_path / "events").mkdir()
    for name in ("r1", "r2"):
        (tmp_path / f"events/{name}_events.tsv").write_text(TRANSCRIPT)
    return tmp_path / "events"


def test_a_transcript_by_window_and_word_by_word(transcript, models, tmp_path):
    text = ["--data.events", transcript, "--model", models["gpt2"]]
    assert anybody(tmp_path / "a", "--kind", "transcript", "--window_s", 2, *text, "--layers", 1) == EXIT_DONE
    found = read_features(tmp_path / "a")
    assert found.index["run"].to_list() == ["r1"] * 4 + ["r2"] * 4
    for row, said in zip(found.bands["layer1"], ["A cat", "A cat sits", "sits", "up"], strict=False):
        np.testing.assert_allclose(row, states(models["gpt2"], said, 1), rtol=1e-4, atol=1e-5)
    words = ["--kind", "words", "--window_s", 9, "--pool", "last", "--tr_s", 2, "--resample", "lanczos"]
    assert anybody(tmp_path / "b", *words, *text, "--form", "zarr") == EXIT_DONE
    by_tr = read_features(tmp_path / "b")
    assert by_tr.index["onset_s"].to_list() == [0, 2, 0, 2]
    assert sorted(by_tr.bands) == ["layer0", "layer1", "layer2"]


@pytest.mark.parametrize("tr_s", [0.72, 2.5])
def test_no_volume_is_without_what_is_said_throughout(models, tmp_path, tr_s):
    (tmp_path / "hold.tsv").write_text("onset\tduration\ttext\n0\t10\tA cat sits\n")
    flags = ["--kind", "captions", "--data.events", tmp_path / "hold.tsv", "--model", models["gpt2"], "--layers", 1]
    assert anybody(tmp_path / "a", *flags, "--tr_s", tr_s) == EXIT_DONE
    rows = read_features(tmp_path / "a").bands["layer1"]
    assert len(rows) == np.ceil(10 / tr_s)
    np.testing.assert_allclose(rows, np.tile(states(models["gpt2"], "A cat sits", 1), (len(rows), 1)), atol=1e-5)


def test_a_finished_folder_is_kept_and_another_config_refused(transcript, models, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    flags = ["--data.events", transcript, "--model", models["gpt2"], "--layers", 1]
    assert anybody(tmp_path / "a", *flags) == EXIT_DONE
    assert anybody(tmp_path / "a", *flags) == EXIT_DONE
    assert "already done" in caplog.text
    capsys.readouterr()
    assert anybody(tmp_path / "a", *flags, "--pool", "last") == EXIT_USER
    refused(capsys, "E-CFG", "other settings")


def test_pictures_sound_and_films_of_anybody(transcript, models, tmp_path, capsys):
    pytest.importorskip("av")
    from tiny_films import make_film

    (tmp_path / "films").mkdir()
    make_film(tmp_path / "films/r1.mkv", seconds=3, fps=10)
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / f"pictures/p{i}.png")
    vit, films = ["--model", models["vit"]], ["--data.films", tmp_path / "films"]
    assert anybody(tmp_path / "a", "--kind", "pictures", "--data.pictures", tmp_path / "pictures", *vit) == EXIT_DONE
    assert read_features(tmp_path / "a").index["stimulus_id"].to_list() == ["p0", "p1", "p2"]
    assert anybody(tmp_path / "b", "--kind", "pictures", *films, *vit, "--tr_s", 1) == EXIT_DONE
    assert read_features(tmp_path / "b").bands["layer0"].shape == (3, 32)
    assert anybody(tmp_path / "c", "--kind", "sound", *films, "--model", models["ast"]) == EXIT_DONE
    assert read_features(tmp_path / "c").index["onset_s"].to_list() == [0, 1, 2]
    pairs = ["--kind", "pairs", *films, "--data.events", transcript / "r1_events.tsv", "--model", models["git"]]
    assert anybody(tmp_path / "d", *pairs) == EXIT_DONE
    assert read_features(tmp_path / "d").bands["layer2"].shape == (6, 64)
    (transcript / "r1_events.tsv").rename(transcript / "film1_events.tsv")
    pairs = ["--kind", "pairs", *films, "--data.events", transcript, "--model", models["git"]]
    assert anybody(tmp_path / "e", *pairs) == EXIT_USER
    refused(capsys, "E-META", "'r1'", "'film1', 'r2'")


def test_what_anybody_gets_wrong(transcript, models, tmp_path, capsys):
    gpt2 = ["--model", models["gpt2"]]
    cases: list[tuple[list, str, str]] = [
        (["--kind", "captions", *gpt2], "E-CFG", "data.events"),
        (["--kind", "pairs", "--data.films", tmp_path, *gpt2], "E-CFG", "texts too"),
        (["--data.events", tmp_path / "none.tsv", *gpt2], "E-REF", "none.tsv"),
        (["--data.events", transcript, *gpt2, "--pool", "first"], "E-CFG", "pool"),
        (["--kind", "sound", "--data.sounds", transcript, "--model", models["ast"]], "E-REF", "data.sounds"),
        (["--data.events", transcript, *gpt2, "--layers", 9], "E-CFG", "layers"),
        (["--data.events", transcript, "--model", models["vit"]], "E-REF", "tokenizer"),
        (["--data.events", transcript, *gpt2, "--tr_s", 0.72, "--step_s", 1], "E-CFG", "step_s"),
        (["--data.events", transcript, *gpt2, "--tr_s", 2, "--window_s", 1], "E-CFG", "window_s"),
        (["--kind", "pictures", "--data.films", tmp_path, "--tr_s", 0.4, *gpt2], "E-CFG", "each 0.5 s"),
    ]
    for i, (flags, code, word) in enumerate(cases):
        assert anybody(tmp_path / f"o{i}", *flags) == EXIT_USER, flags
        refused(capsys, code, word)


def test_the_commands_help(capsys):
    for flags in (["--help"], ["--config", "drama2brain", "--help"], ["--config", "features", "--help"]):
        assert run(["features", *flags]) == EXIT_DONE
        assert "usage: wernicke features" in capsys.readouterr().out
    assert run(["features", "--config", "drama2brain"]) == EXIT_USER
    refused(capsys, "E-CFG", "--out")
    assert run(["features", "--config", "haxby_encode", "--out", "x"]) == EXIT_USER
    refused(capsys, "E-CFG", "recipe")
