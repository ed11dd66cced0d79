"""Units of a run: whole or not there, made once, shared by processes."""

from __future__ import annotations

import pytest

from wernicke.core.errors import InputError, RunInUseError
from wernicke.store.files import write_text
from wernicke.store.run import RunFolder
from wernicke.store.units import WORK, Share, Unit, read_identity, remove_work, unfinished


@pytest.fixture
def unit(tmp_path):
    return Unit(tmp_path / "subjects" / "S01" / "all", {"responses": "a", "code": "b"})


def make(unit: Unit, text: str = "1") -> None:
    with unit.building() as folder:
        write_text(folder / "r.txt", text)


def test_a_unit_is_whole_or_not_there(unit):
    assert not unit.is_whole()
    assert unfinished([unit]) == [unit]
    with pytest.raises(InputError), unit.building() as folder:
        write_text(folder / "r.txt" / "below a file", write_text(folder / "r.txt", "half") or "")
    assert not unit.folder.exists()
    make(unit)
    assert unit.is_whole()
    assert unfinished([unit]) == []
    assert read_identity(unit.folder) == {"responses": "a", "code": "b"}


def test_a_damaged_unit_is_made_again(unit, caplog):
    make(unit)
    (unit.folder / "r.txt").write_text("2")
    assert not unit.is_whole()
    assert "is computed again" in caplog.text
    make(unit)
    assert unit.is_whole()
    (unit.folder / "extra.txt").write_text("whose?")
    assert not unit.is_whole()


def test_a_unit_of_other_inputs_is_refused_and_left(unit):
    make(unit)
    with pytest.raises(InputError, match="E-CFG.*finished with other responses\n  nothing was changed"):
        Unit(unit.folder, {"responses": "other", "code": "b"}).is_whole()
    assert (unit.folder / "r.txt").read_text() == "1"


def test_of_two_processes_the_first_wins(unit):
    with unit.building() as folder:
        write_text(folder / "r.txt", "late")
        make(Unit(unit.folder, unit.identity), "first")
    assert (unit.folder / "r.txt").read_text() == "first"
    assert unit.is_whole()


def test_shares_cover_everything_once():
    for count in (1, 2, 3, 8, 11):
        parts = [Share(k, count).of(range(8)) for k in range(1, count + 1)]
        assert [item for part in parts for item in part] == list(range(8))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["9/8", "0/8", "1", "1/0", "a/b", "-1/2", "1/8/2", "merge me"])
def test_other_shares_are_refused(text):
    with pytest.raises(InputError, match="E-CFG --part: found"):
        Share.parse(text)
    assert Share.parse("2/8") == Share(2, 8)


def test_a_share_has_one_process(tmp_path):
    with (
        Share(1, 2).locked(tmp_path),
        Share(2, 2).locked(tmp_path),
        pytest.raises(RunInUseError),
        Share(1, 2).locked(tmp_path),
    ):
        pass
    with Share(1, 2).locked(tmp_path) as share:
        assert share == Share(1, 2)


def test_beginning_keeps_no_lock_and_refuses_another_run(tmp_path):
    run = RunFolder.create(tmp_path / "run", config={"a": 1}, seed=0)
    run.begin()
    again = RunFolder.create(tmp_path / "run", config={"a": 1}, seed=0)
    again.begin()
    with again:
        again.write_text("x.txt", "x")
        again.finish()
    with pytest.raises(InputError, match="other settings: a: 1 there, 2 given"):
        RunFolder.create(tmp_path / "run", config={"a": 2}, seed=0).begin()
    with again, pytest.raises(RunInUseError):
        RunFolder.create(tmp_path / "run", config={"a": 1}, seed=0).begin(wait_s=0.1)


def test_a_run_that_computed_nothing_takes_other_settings(tmp_path):
    run, other = (RunFolder.create(tmp_path / "run", config={"a": value}, seed=value) for value in (1, 2))
    run.begin()
    with Share(1, 2).locked(run.folder):  # mistyped: it ended here, with an error
        pass
    other.begin()
    assert RunFolder.open(tmp_path / "run").config == {"a": 2}
    assert other.seed == 2
    with Share(1, 2).locked(run.folder), pytest.raises(InputError, match="other settings: a: 2 there, 1 given"):
        run.begin()  # somebody works here
    with Unit(run.path("subjects/S1"), {}).building() as folder:
        write_text(folder / "x.txt", "x")
    with pytest.raises(InputError, match="other settings"):
        run.begin()
    assert RunFolder.open(tmp_path / "run").config == {"a": 2}


def test_work_is_emptied_but_for_locks(tmp_path):
    with Share(1, 2).locked(tmp_path):
        write_text(tmp_path / WORK / "jobs" / "a" / "x.txt", "x")
    remove_work(tmp_path)
    assert [item.name for item in (tmp_path / WORK).iterdir()] == ["part-1-of-2"]
