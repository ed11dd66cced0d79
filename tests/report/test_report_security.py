"""Texts that would act if they were taken for more than text (specification 3.13): escaped everywhere, nothing runs."""

from __future__ import annotations

import copy
import csv
import functools
import html
import io
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from payloads import PAYLOADS
from simulated_runs import encoding_content, write_encoding_run

from wernicke.report.page import report_files

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def poisoned(host: str) -> dict[str, Any]:
    """Every payload as label, sentence, model name, config value; all of them in each single text."""
    texts = [text.replace("HOST", host) for text in PAYLOADS]
    content = copy.deepcopy(encoding_content())
    facts = content["facts"]
    facts["features"]["sentences"] = {f"{text} #{i}": text for i, text in enumerate(texts)}
    facts["features"]["model"] = facts["data"]["subject"] = facts["card"]["subject"] = " ".join(texts)
    facts["data"]["conditions"] = texts
    facts["cannot_tell"] = facts["card"]["cannot_tell"] = texts
    facts["card"]["headline"] = facts["card"]["claim"] = " ".join(texts)
    facts["data"]["source"].update(name=texts[0], licence=texts[1], terms=texts[9], citation=texts[10], url=texts[27])
    facts["split"]["poison_audit"] = {text: False for text in texts}
    facts["split"]["overlaps"] = {**{text: 1 for text in texts}, "run": 0}
    content["config"]["note"] = texts
    content["config"]["data"]["root"] = texts[8]
    for i, text in enumerate(texts):
        control = copy.deepcopy(content["models"][5])
        control.update(name=f"{text} model {i}", what=text)
        content["models"].append(control)
    return content


def poisoned_page(folder: Path, host: str) -> str:
    name = "".join(c for c in PAYLOADS[8] if c != "/")  # a folder's name can hold all but a slash
    return report_files([write_encoding_run(folder / name, poisoned(host))])["report.html"]


@functools.cache
def allowed() -> tuple[set[str], set[str]]:
    """Elements and attributes of the harmless page, as the template writes them."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        page = Page(report_files([write_encoding_run(Path(folder) / "harmless")])["report.html"])
    return {tag for tag, _ in page.elements}, {name for _, found in page.elements for name in found}


def test_no_payload_makes_an_element_or_attribute(tmp_path: Path) -> None:
    page = Page(poisoned_page(tmp_path, "http://127.0.0.1:9"))
    tags, attributes = allowed()
    assert {tag for tag, _ in page.elements} <= tags | {"del"}
    assert {name for _, found in page.elements for name in found} <= attributes
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in page.attributes("src"))
    assert all(link.startswith(("#", "https://")) for link in page.attributes("href"))


def test_payloads_are_shown_as_the_text_they_are(tmp_path: Path) -> None:
    page = Page(poisoned_page(tmp_path, "http://127.0.0.1:9"))
    cells = {cell for row in page.rows for cell in row}
    shown = 0
    for text in PAYLOADS:
        if "\u202e" in text or "\x1b" in text:
            continue
        assert " ".join(text.replace("HOST", "http://127.0.0.1:9").split()) in cells, text
        shown += 1
    assert shown == 38


def test_marks_of_direction_and_escape_sequences_are_taken_out(tmp_path: Path) -> None:
    text = poisoned_page(tmp_path, "http://127.0.0.1:9")
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert html.escape("<U+202E>") in text


def test_formulas_in_csv_stand_behind_an_apostrophe(tmp_path: Path) -> None:
    content = encoding_content()
    formulas = ("=1+1", "+1", "-1+x", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'x'!A0")
    for model, score, name in zip(content["models"][1:], content["scores"][2::2], formulas, strict=True):
        model["name"] = score["model"] = name
    content["models"][5]["name"] = "wrong category"
    written = report_files([write_encoding_run(tmp_path / "formulas", content)])
    rows = list(csv.DictReader(io.StringIO(written["scores.csv"], newline="")))
    found = {row["model"] for row in rows}
    assert {f"'{name}" for name in formulas} <= found
    # Numbers below zero stay numbers.
    assert any(float(row["mean"]) < 0 and row["mean"].startswith("-") for row in rows)


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Address of a server of this machine, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the inherited name
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def browse(page: Path, profile: Path) -> str:
    """Open a file in a browser, let its scripts run, return the document that came of it."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    return done.stdout.decode()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page in")
def test_nothing_runs_and_nothing_is_asked_for_in_a_browser(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    host, asked = listener
    # The same payloads unescaped must be noticed, or silence would prove nothing.
    bare = tmp_path / "bare.html"
    bare.write_text("<!DOCTYPE html><html><body>" + PAYLOADS[9].replace("HOST", host), encoding="utf-8")
    assert "data-pwned" in browse(bare, tmp_path / "profile").split("<body")[0]
    assert asked
    asked.clear()
    page = tmp_path / "page.html"
    page.write_text(poisoned_page(tmp_path, host), encoding="utf-8")
    document = browse(page, tmp_path / "profile")
    assert "What was checked" in document
    assert "data-pwned" not in document.split("<head")[0]
    assert asked == []
