"""Timed texts in the formats that people have: files written by hand."""

from __future__ import annotations

import pytest

from wernicke.core.errors import InputError
from wernicke.data.transcripts import read_transcripts

WORDS = [("A", 0.0, 0.4), ("cat", 0.5, 0.25), ("sits", 1.25, 0.5)]

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2
            text = "say ""1.5"" [3]: 7"
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 0.4
            text = "A"
        intervals [2]:
            xmin = 0.4
            xmax = 0.5
            text = ""
        intervals [3]:
            xmin = 0.5
            xmax = 0.75
            text = "cat"
        intervals [4]:
            xmin = 0.75
            xmax = 1.25
            text = "sp"
        intervals [5]:
            xmin = 1.25
            xmax = 1.75
            text = "sits"
"""

SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
1
"IntervalTier"
"words"
0
2
4
0
0.4
"A"
0.4
0.5
""
0.5
0.75
"cat"
1.25
1.75
"sits"
"""

FILES = {
    "r1_events.tsv": "onset\tduration\ttext\n0\t0.4\tA\n0.5\t0.25\tcat\n1.25\t0.5\tsits\n",
    "r1.csv": "word,start,end\nA,0,0.4\ncat,0.5,0.75\nsits,1.25,1.75\n",
    "r1.TextGrid": LONG,
    "r1.textgrid": SHORT,
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_words_out_of_every_format(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    table = read_transcripts(tmp_path / name).table
    found = list(zip(table["text"], table["onset_s"].round(9), table["duration_s"].round(9), strict=True))
    assert found == WORDS
    assert set(table["run"]) == {"r1"}


def test_a_textgrid_in_utf_16_and_another_tier(tmp_path):
    (tmp_path / "a.TextGrid").write_text(LONG, encoding="utf-16")
    assert list(read_transcripts(tmp_path / "a.TextGrid").table["text"]) == ["A", "cat", "sits"]
    other = read_transcripts(tmp_path / "a.TextGrid", text="phones").table
    assert list(other["text"]) == ['say "1.5" [3]: 7']


def test_a_folder_is_a_run_a_file(tmp_path):
    for name, text in (("r1.tsv", "cat"), ("r2.tsv", "dog")):
        (tmp_path / name).write_text(f"onset\tduration\tsaid\tannotator\n1\tn/a\t{text}\tx\n2\t1\tn/a\ty\n")
    table = read_transcripts(tmp_path, text="said").table
    assert table["run"].to_list() == ["r1", "r1", "r2", "r2"]
    assert table["annotator"].to_list() == ["x", "y"] * 2
    assert table["text"].isna().to_list() == [False, True] * 2
    assert table["duration_s"].to_list() == [0, 1, 0, 1]


@pytest.mark.parametrize(("name", "comma"), [("a.tsv", "\t"), ("a.csv", ",")])
def test_missing_and_silent_cells_say_nothing(tmp_path, name, comma):
    rows = [("onset", "duration", "word"), (0, 1, "null"), (1, "n/a", "n/a"), (2, 1, "sp"), (3, 1, "sil"), (4, 1, "NA")]
    (tmp_path / name).write_text("".join(comma.join(map(str, row)) + "\n" for row in rows))
    table = read_transcripts(tmp_path / name).table
    assert [text for text in table["text"] if text is not None] == ["null", "NA"]
    assert table["text"].isna().to_list() == [False, True, True, True, False]
    assert table["duration_s"].to_list() == [1, 0, 1, 1, 1]


def test_a_run_column_wins(tmp_path):
    (tmp_path / "all.csv").write_text('run,onset,duration,text\n1,0,1,"a, b"\n2,0,1,c\n')
    table = read_transcripts(tmp_path / "all.csv").table
    assert table["run"].to_list() == ["1", "2"]
    assert table["text"].to_list() == ["a, b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", "x", "E-FMT"),
        ("a.tsv", "onset\tduration\n0\t1\n", "E-META"),
        ("a.tsv", "duration\ttext\n0\tx\n", "E-META"),
        ("a.tsv", "onset\tduration\ttext\nsoon\t1\tx\n", "E-META"),
        ("a.tsv", "onset\tduration\ttext\n0\t-1\tx\n", "E-META"),
        ("a.tsv", "onset\tend\ttext\n2\t1\tx\n", "E-META"),
        ("a.tsv", "onset\tduration\ttext\n0\t1\tn/a\n", "E-META"),
        ("a.csv", "onset,duration,text\n0,1\n", "E-FMT"),
        ("a.csv", "onset,onset,text\n0,1,x\n", "E-META"),
        ("a.csv", "", "E-TRUNC"),
        ("a.TextGrid", "words", "E-FMT"),
        ("a.TextGrid", LONG.replace('"words"', '"sentences"'), "E-META"),
        ("a.TextGrid", LONG[: LONG.index("intervals [4]")], "E-TRUNC"),
        ("a.TextGrid", LONG.replace("intervals: size = 5", "intervals: size = 99999999999"), "E-TRUNC"),
        ("a.TextGrid", LONG.replace("xmax = 0.75", "xmax = 0.25"), "E-META"),
    ],
)
def test_files_that_cannot_be_right(tmp_path, name, content, code):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_transcripts(tmp_path / name)
    assert caught.value.code == code


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "absent.tsv"):
        with pytest.raises(InputError, match="E-REF"):
            read_transcripts(path)
