"""The page of simulated encoding runs: what stands in it is what stands in the files."""

from __future__ import annotations

import base64
import csv
import getpass
import io
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from simulated_runs import encoding_content, write_encoding_run

from wernicke.core.errors import InputError
from wernicke.report.page import MAX_BYTES, build_page, report_files
from wernicke.report.runs import without_paths

CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoding_run(tmp_path_factory.mktemp("home") / "simulated")


@pytest.fixture(scope="module")
def written(run: Path) -> dict[str, str]:
    return report_files([run])


@pytest.fixture(scope="module")
def page(written: dict[str, str]) -> Page:
    return Page(written["report.html"])


def test_the_page_is_one_small_file_that_loads_nothing(written: dict[str, str], page: Page) -> None:
    assert len(written["report.html"].encode()) < MAX_BYTES
    assert CSP in page.attributes("content")
    assert {"script", "link", "iframe", "object"}.isdisjoint({tag for tag, _ in page.elements})
    assert all(source.startswith("data:image/png;base64,") for source in page.attributes("src"))
    for address in page.attributes("href"):
        assert address.startswith(("#", "https://doi.org/", "https://arxiv.org/", "https://example.org/")), address
    assert "url(" not in written["report.html"]
    assert "@import" not in written["report.html"]


def test_every_model_s_numbers_in_the_table_are_those_of_the_files(page: Page) -> None:
    for model in encoding_content()["models"]:
        row = page.row(model["name"])
        for cell, mean, ci in ((row[1], "r", "r_ci"), (row[2], "contrast", "contrast_ci")):
            value, low, high = (float(text) for text in re.findall(r"-?\d+\.\d+", cell))
            assert value == pytest.approx(model[mean], abs=5.1e-4)
            assert (low, high) == pytest.approx(model[ci], abs=5.1e-4)
        assert row[3:] == [str(model["n_fits"]), model["what"]]


def test_headline_caveats_and_verdicts_follow_the_numbers(page: Page) -> None:
    content = encoding_content()
    models = {model["name"]: model for model in content["models"]}
    text = " ".join(page.of("p"))
    gain = content["facts"]["gain"]
    assert f"gains {gain['estimate']:+.3f} in r of category contrasts" in text
    assert f"{gain['low']:+.3f} to {gain['high']:+.3f}" in text
    ours, wrong = models["language"]["contrast"], models["wrong category"]
    as_good = sum(value >= ours for value in wrong["contrast_draws"])
    assert f"{as_good} of 20 such fits reach at least as much" in text
    assert "not shown to matter" in text
    better = [name for name in ("on/off + motion", "one-hot", "saturated FIR") if models[name]["contrast"] >= ours]
    assert better
    assert all(f"{name} ({models[name]['contrast']:.3f})" in text for name in better)


def test_right_sentences_that_win_are_said_to_win(tmp_path: Path) -> None:
    content = encoding_content()
    content["models"][0]["contrast"] = 0.3
    text = report_files([write_encoding_run(tmp_path / "wins", content)])["report.html"]
    assert "here the right sentences do better" in text
    assert "not shown to matter" not in text


def test_split_leaks_and_audit_are_said_plainly(page: Page) -> None:
    assert page.row("stimulus_id") == ["stimulus_id", "3", "accepted leak"]
    assert page.row("run") == ["run", "0", "none"]
    assert page.row("weights") == ["weights", "unchanged"]
    assert any("Accepted leak: stimulus_id" in text for text in page.of("p"))


def test_a_poisoned_step_shows(tmp_path: Path) -> None:
    content = encoding_content()
    content["facts"]["split"]["poison_audit"]["weights"] = True
    content["facts"]["card"]["poison_audit"]["changed"] = ["weights"]
    page = Page(report_files([write_encoding_run(tmp_path / "poisoned", content)])["report.html"])
    assert page.row("weights") == ["weights", "changed"]
    assert page.of("del") == [content["facts"]["card"]["headline"]]
    assert any(text.startswith("V11 FAIL (fatal)") for text in page.of("li"))


def test_card_lines_stand_in_full_with_verdicts_first(written: dict[str, str], page: Page) -> None:
    from wernicke.scoring.encoding_card import encoding_card

    card = encoding_card(encoding_content()["facts"]["card"])
    for line in card.lines:
        row = next(row for row in page.rows if row[:1] == [line.code])
        assert row == [line.code, line.question, line.result, line.detail]
    html = written["report.html"]
    section = html[html.index('id="run1-card"') :]
    assert section.index("UNDETERMINED") < section.index("<table")


def test_simulated_stands_in_every_heading_caption_and_figure(page: Page) -> None:
    for tag in ("h1", "h2", "h3", "figcaption"):
        for text in page.of(tag):
            assert "SIMULATED" in text or text == "Warnings", text
    assert page.of("title")[0].startswith("SIMULATED")
    assert all(alt.startswith("SIMULATED") for alt in page.attributes("alt"))


def test_real_data_is_not_called_simulated(tmp_path: Path) -> None:
    content = encoding_content()
    content["facts"]["data"]["simulated"] = False
    html = report_files([write_encoding_run(tmp_path / "real", content)])["report.html"]
    assert "SIMULATED" not in html


def test_figures_are_small_and_carry_no_metadata(written: dict[str, str], page: Page) -> None:
    sources = page.attributes("src")
    assert len(sources) == 6  # scores, four maps, histogram
    for source in sources:
        png = base64.b64decode(source.split(",")[1])
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(png[16:20], "big") <= 850
        chunks = re.findall(rb"(tEXt|iTXt|zTXt|tIME|eXIf)", png)
        assert chunks == []


def test_images_tables_and_regions_are_accessible(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert all(text for text in page.attributes("alt"))
    assert len(page.attributes("alt")) == tags.count("img")
    assert len(page.of("caption")) == tags.count("table")
    assert ("html", {"lang": "en"}) in page.elements
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {a[1:] for a in page.attributes("href") if a.startswith("#")} <= set(ids)


@pytest.mark.usefixtures("real_figures")
def test_same_files_same_bytes(run: Path, written: dict[str, str]) -> None:
    assert report_files([run]) == written


def test_no_path_user_or_host_of_this_machine(run: Path, written: dict[str, str], tmp_path: Path) -> None:
    content = encoding_content()
    content["config"]["data"]["root"] = str(tmp_path / "secret" / "haxby2001")
    content["facts"]["card"]["subject"] = f"{tmp_path}/models/mine layer 2"
    for text in (*written.values(), *report_files([write_encoding_run(tmp_path / "moved", content)]).values()):
        assert str(tmp_path) not in text
        assert str(run.parent) not in text
        assert str(Path.home()) + os.sep not in text
        assert f"/{getpass.getuser()}/" not in text
        words = re.sub(r"base64,[\w+/=]+", "", text)
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", words)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wernicke encode --run /home/jane/study/run1 --seed 3", "wernicke encode --run …/run1 --seed 3"),
        ("--run=/home/jane/run1", "--run=…/run1"),
        ("wernicke x --run '/home/jane doe/run1'", "wernicke x --run '…/run1'"),
        ("/home/jane doe/haxby 2001/", "…/haxby 2001"),
        ("C:\\Users\\jane\\run1", "…/run1"),
        ("~/data/x layer 3", "…/x layer 3"),
        ("file:///home/jane/x.html", "…/x.html"),
        ("on/off + motion, 0/5, org/model, https://doi.org/10.1/x", "on/off + motion, 0/5, org/model, "
         "https://doi.org/10.1/x"),
    ],
)  # fmt: skip
def test_absolute_paths_are_shortened_and_nothing_else(text: str, shown: str) -> None:
    assert without_paths({"a": [text]}) == {"a": [shown]}


def test_csv_holds_the_files_numbers_in_full(written: dict[str, str]) -> None:
    content = encoding_content()
    rows = list(csv.DictReader(io.StringIO(written["scores.csv"])))
    assert len(rows) == len(content["scores"])
    for row, score in zip(rows, content["scores"], strict=True):
        assert (row["model"], row["metric"]) == (score["model"], score["metric"])
        assert float(row["mean"]) == score["mean"]
        assert [float(row["ci_low"]), float(row["ci_high"])] == score["ci"]
        assert float(row["ceiling"]) == score["ceiling"]
        assert float(row["null_mean"]) == pytest.approx(np.mean(score["null"]))
        assert row["simulated"] == "True"
    fits = list(csv.DictReader(io.StringIO(written["fits.csv"])))
    drawn = [float(row["value"]) for row in fits if (row["model"], row["metric"]) == ("wrong category", "contrast r")]
    assert drawn == content["models"][5]["contrast_draws"]


def test_without_controls_the_page_says_so(tmp_path: Path) -> None:
    run = write_encoding_run(tmp_path / "bare", encoding_content(controls=False))
    html = report_files([run])["report.html"]
    assert "Controls were not run." in html
    assert "wrong categories were not tried" in html
    assert Page(html).row("contrast r")[2] == "not run"


def test_several_runs_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = write_encoding_run(tmp_path / "other", encoding_content(seed=1))
    page_file = build_page([run, other], tmp_path / "out")
    assert page_file == tmp_path / "out" / "report.html"
    page = Page(page_file.read_text(encoding="utf-8"))
    values = [encoding_content(seed=s)["models"][0]["contrast"] for s in (0, 1)]
    rows = [row for row in page.rows if row[:1] == ["language"] and len(row) == 3]
    assert [[float(cell.split()[0]) for cell in row[1:]] for row in rows][1] == pytest.approx(values, abs=5.1e-4)
    rows_of_csv = csv.DictReader(io.StringIO((tmp_path / "out" / "scores.csv").read_text(encoding="utf-8")))
    assert {row["run"] for row in rows_of_csv} == {"simulated", "other"}
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)


def test_a_volume_of_many_slices_is_cut_axially(tmp_path: Path) -> None:
    content = encoding_content(shape=(6, 5, 12))
    html = report_files([write_encoding_run(tmp_path / "volume", content)])["report.html"]
    assert len(html.encode()) < MAX_BYTES


def test_files_of_another_version_are_one_message(tmp_path: Path) -> None:
    content = encoding_content()
    del content["facts"]["gain"]
    with pytest.raises(InputError, match="have no 'gain': written by wernicke") as error:
        report_files([write_encoding_run(tmp_path / "old", content)])
    assert error.value.code == "E-FMT"


def test_a_page_of_many_runs_leaves_out_maps_and_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wernicke.report import page as module

    other = write_encoding_run(tmp_path / "other", encoding_content(seed=1))
    whole = len(report_files([run, other])["report.html"].encode())
    monkeypatch.setattr(module, "MAX_BYTES", whole - 1)
    html = report_files([run, other])["report.html"]
    assert len(html.encode()) < whole
    assert html.count("Left out to keep this page small") == 2
    assert not any("Map of" in alt for alt in Page(html).attributes("alt"))
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="report fewer runs") as error:
        report_files([run, other])
    assert error.value.code == "E-SIZE"
