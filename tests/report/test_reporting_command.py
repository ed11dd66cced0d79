"""`wernicke report`: where its files go, what it prints, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated_runs import encoding_content, write_encoding_run

from wernicke.cli import run as cli
from wernicke.core.errors import EXIT_DONE, EXIT_IN_USE, EXIT_USER, InputError
from wernicke.recipes.reporting import report
from wernicke.store.run import RunFolder

FILES = {"report.html", "references.bib", "methods.txt", "scores.csv", "fits.csv"}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return write_encoding_run(tmp_path / "finished")


def test_one_run_gets_the_report_in_its_folder_and_manifest(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["report", "--run", str(finished)]) == EXIT_DONE
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {finished / 'report.html'}"
    folder = RunFolder.open(finished)
    assert folder.verify() == []
    assert folder.manifest is not None
    assert {name for name, entry in folder.manifest["files"].items() if entry["step"] == "report"} == FILES
    assert set(folder.manifest["steps"]) == {"encode", "report"}


def test_a_second_report_is_the_same_and_repairs_an_edited_one(finished: Path) -> None:
    first = report([finished]).read_bytes()
    assert report([finished]).read_bytes() == first
    (finished / "report.html").write_text("edited")
    (finished / "scores.csv").unlink()
    assert report([finished]).read_bytes() == first
    assert RunFolder.open(finished).verify() == []


def test_out_leaves_the_run_as_it_is(finished: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    page = report([finished], tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_report_killed_half_way_is_written_again(finished: Path) -> None:
    report([finished])
    page = (finished / "report.html").read_bytes()
    with RunFolder.open(finished, step="report") as folder:
        folder.write_text("report.html", page.decode())  # and then nothing more: the manifest does not list it
    assert report([finished]).read_bytes() == page
    assert RunFolder.open(finished).verify() == []


def test_a_user_s_own_files_are_not_overwritten(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, arguments in ((tmp_path / "mine", ["--out", str(tmp_path / "mine")]), (finished, [])):
        folder.mkdir(exist_ok=True)
        (folder / "scores.csv").write_text("mine")
        assert "`scores.csv`, which no report wrote" in refused(["--run", str(finished), *arguments], capsys)
        assert (folder / "scores.csv").read_text() == "mine"
        assert not (folder / "report.html").exists()


def test_a_report_in_out_is_written_again(finished: Path, tmp_path: Path) -> None:
    page = report([finished], tmp_path / "out").read_bytes()
    assert report([finished], tmp_path / "out").read_bytes() == page


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli(["report", *arguments]) == EXIT_USER
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) <= 2, message
    assert "Traceback" not in message
    return message


def test_several_runs_need_a_folder(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_encoding_run(tmp_path / "other", encoding_content(seed=1))
    assert "--out" in refused(["--run", str(finished), str(other)], capsys)
    assert cli(["report", "--run", str(finished), str(other), "--out", str(tmp_path / "both")]) == EXIT_DONE
    assert capsys.readouterr().out == f"report: {tmp_path / 'both' / 'report.html'}\n"


def test_absent_empty_and_foreign_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text("{}")
    assert "no such run folder" in refused(["--run", str(tmp_path / "absent")], capsys)
    assert "not a run folder" in refused(["--run", str(tmp_path / "foreign")], capsys)
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["manifest.json"]


def test_an_unfinished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.create(tmp_path / "begun", step="encode", config={"a": 1}, seed=0) as run:
        run.write_json("facts.json", {})
    assert "not finished" in refused(["--run", str(tmp_path / "begun")], capsys)
    assert not (tmp_path / "begun" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("models.json", lambda path: path.unlink(), "models.json: missing"),
        ("facts.json", lambda path: path.write_text(path.read_text().replace("400", "401")), "E-SUM content differs"),
        ("maps/r.npy", lambda path: path.write_bytes(path.read_bytes()[:-8]), "maps/r.npy: "),
        ("config.yaml", lambda path: path.write_text("llm: other\n"), "config.yaml"),
    ],
)
def test_files_that_changed_since_are_refused(
    finished: Path, name: str, change: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    change(finished / name)
    message = refused(["--run", str(finished)], capsys)
    assert message.startswith("wernicke: E-SUM")
    assert said in message
    assert not (finished / "report.html").exists()


def test_a_card_edited_together_with_the_manifest_is_refused(tmp_path: Path) -> None:
    run = write_encoding_run(tmp_path / "edited")
    with RunFolder.open(run, step="encode") as folder:
        card = folder.read_json("card.json")
        card["verdict"] = card["claims"][0]["verdict"] = "SUPPORTED"
        content = encoding_content()
        for name in ("models", "scores", "facts"):
            folder.write_json(f"{name}.json", content[name])
        for name, values in content["maps"].items():
            folder.write_npy(f"maps/{name}.npy", values)
        folder.write_json("card.json", card)
        folder.finish()
    with pytest.raises(InputError, match="its lines give"):
        report([run])


def test_a_run_without_results_of_a_known_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, files in (("bare", {}), ("unknown", {"facts.json": {"data": {"simulated": True}}})):
        with RunFolder.create(tmp_path / name, step="grid", config={"a": 1}, seed=0) as run:
            for file, content in files.items():
                run.write_json(file, content)
            run.finish()
        assert "nothing to report" in refused(["--run", str(tmp_path / name)], capsys)


def test_out_that_is_a_file_or_holds_a_run(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_encoding_run(tmp_path / "other")
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(["--run", str(finished), "--out", str(tmp_path / "file")], capsys)
    assert "holds a run" in refused(["--run", str(finished), "--out", str(other)], capsys)
    assert "given twice" in refused(["--run", str(finished), str(finished), "--out", str(tmp_path / "out")], capsys)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_being_written_is_in_use(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.open(finished, step="encode"):
        assert cli(["report", "--run", str(finished)]) == EXIT_IN_USE
    assert "Traceback" not in capsys.readouterr().err
