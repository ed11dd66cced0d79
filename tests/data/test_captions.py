"""Captions survive the disk, and files that cannot be right end in one clear message."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wernicke.core.errors import InputError
from wernicke.core.results import Captions
from wernicke.data.captions import read_captions, read_references, write_captions


def put(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def texts(captions: Captions) -> list[str]:
    return captions.table["text"].tolist()


def test_csv_with_one_and_with_several_references(tmp_path):
    one = read_captions(put(tmp_path, "id,text,reference\na,x y,z\nb,,w\n"))
    assert texts(one) == ["x y", ""]
    assert one.references == (("z",), ("w",))
    assert one.decoding == "unknown"
    several = read_captions(put(tmp_path, "id,text,reference_10,reference_2,label\na,x,q,r,NA\nb,y,,s,null\n"))
    assert several.references == (("r", "q"), ("s",))
    assert several.table["label"].tolist() == ["NA", "null"]


def test_tsv_json_list_and_json_object(tmp_path):
    tsv = read_captions(put(tmp_path, 'id\ttext\treference\n1\t"a ""quoted"" word"\tz, w\n', "a.tsv"))
    assert texts(tsv) == ['a "quoted" word']
    rows = [{"id": 1, "text": "x", "reference": ["a", "b"], "order": 3, "label": 7}]
    listed = read_captions(put(tmp_path, json.dumps(rows), "a.json"))
    assert listed.table["id"].tolist() == ["1"]
    assert listed.table["label"].tolist() == ["7"]
    assert listed.table["order"].tolist() == [3.0]
    assert listed.references == (("a", "b"),)
    assert texts(read_captions(put(tmp_path, '{"0": "a man", "1": ""}', "b.json"))) == ["a man", ""]
    assert read_references(put(tmp_path, '{"0": ["a", "b"], "1": "c"}', "r.json")) == {"0": ("a", "b"), "1": ("c",)}
    assert read_references(put(tmp_path, "id,reference\n0,a\n", "r.csv")) == {"0": ("a",)}


def test_byte_order_mark_crlf_and_line_breaks_in_cells(tmp_path):
    path = put(tmp_path, b'\xef\xbb\xbfid,text,reference\r\na,"two\nlines",gr\xc3\xbcn\r\n')
    assert texts(read_captions(path)) == ["two\nlines"]
    assert read_captions(path).references == (("grün",),)


BAD = [
    ("id,reference\na,b\n", "E-META", "column `text` is missing"),
    ("text,reference\na,b\n", "E-META", "column `id` is missing"),
    ("id,text,reference\na,b,\n", "E-META", "'a' has an empty reference"),
    ("id,text,reference\na,b,  \n", "E-META", "empty reference"),
    ("id,text,reference_1,reference_2\na,b,,\n", "E-META", "empty reference"),
    ("id,text,reference\na,b,c\na,d,e\n", "E-META", "'a' occurs twice"),
    ("id,text,text\na,b,c\n", "E-META", "'text' occurs twice"),
    ("id,text,reference,reference_1\na,b,c,d\n", "E-META", "numbered"),
    ("id,text,reference\n,b,c\n", "E-META", "row 1 is empty"),
    ("id,text,label\na,b,c\nd,e,\n", "E-META", "row 2 is empty"),
    ("id,text,reference\na,b\n", "E-FMT", "row 1 has 2 cells, the header 3"),
    ('id,text,reference\na,"b,c\n', "E-FMT", "not CSV"),
    ("id;text;reference\na;b;c\n", "E-FMT", "parted by ','"),
    ("id,text,order\na,b,soon\n", "E-META", "expected a number"),
    ("id,text,order\na,b,nan\n", "E-NONFIN", "finite"),
    ("id,text,subject\na,b,../../etc\n", "E-META", "letters and digits"),
    ("id,text,reference\n", "E-META", "no captions"),
    ("", "E-TRUNC", "empty"),
    ("id,text,reference\na,caf\u00e9,c\n".encode("latin-1"), "E-FMT", "byte 0xe9 in line 2"),
    ("id,text,reference\na,b,c\n".encode("utf-16"), "E-FMT", "UTF-16"),
    ("id,text,reference\na,b,c\n".encode("utf-16-le"), "E-FMT", "UTF-16"),
    (f"id,text,reference\na,{'x' * 2_000_001},c\n", "E-SIZE", "field larger"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "code", "words"), BAD)
def test_bad_tables_are_one_message(tmp_path, content, code, words):
    path = put(tmp_path, content)
    with pytest.raises(InputError, match=words) as error:
        read_captions(path)
    message = str(error.value)
    assert error.value.code == code
    assert str(path) in message
    assert len(message.splitlines()) <= 2


BAD_JSON = [
    ("[", "E-FMT", "not JSON"),
    ("[]", "E-META", "no captions"),
    ('["a"]', "E-FMT", "another structure"),
    ('{"a": 1, "b": {}}', "E-META", "expected text"),
    ('[{"id": "a", "text": null, "reference": "x"}]', "E-META", "expected text"),
    ('[{"id": "a", "text": NaN, "reference": "x"}]', "E-NONFIN", "NaN"),
    ('[{"id": "a", "text": "b", "reference": []}]', "E-META", "empty reference"),
    ('[{"id": "a", "text": "b", "reference": ["x", ""]}]', "E-META", "empty reference"),
    ('[{"id": "a", "text": "b", "reference": null}]', "E-META", "expected text"),
    ('[{"id": "a", "text": "b", "id": "c"}]', "E-FMT", "twice"),
    ('[{"id": "a", "text": "\\ud800", "reference": "x"}]', "E-FMT", "surrogate"),
    ('{"captions": [{"id": "a", "text": "b"}], "decoding": "greedy"}', "E-CFG", "greedy"),
]


@pytest.mark.parametrize(("content", "code", "words"), BAD_JSON)
def test_bad_json_is_one_message(tmp_path, content, code, words):
    with pytest.raises(InputError, match=words) as error:
        read_captions(put(tmp_path, content, "a.json"))
    assert error.value.code == code
    assert len(str(error.value).splitlines()) <= 2


def test_wrong_path_and_wrong_suffix(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_captions(tmp_path / "none.csv")
    with pytest.raises(InputError, match="expected .csv"):
        read_captions(put(tmp_path, "x", "a.txt"))
    with pytest.raises(InputError, match="expected .csv"):
        write_captions(Captions(pd.DataFrame({"id": ["a"], "text": ["b"]})), tmp_path / "a.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt"]


FORMULAS = ["=HYPERLINK(1)", "+1", "-2+3", "@x", "\t=1", "\r=1", "'=kept", "''+kept", "'plain", "-", "=", "＝1"]


def sample(values: list[str]) -> Captions:
    n = len(values)
    table = pd.DataFrame({"id": [f"i{k}" for k in range(n)], "text": values, "label": ["NA"] * n,
                          "order": [-1.5 + k for k in range(n)]})  # fmt: skip
    return Captions(table, tuple((f"ref {k}", *["-x"] * (k % 2)) for k in range(n)), "free", {"beams": 1}, ("ab",))


def assert_same(read: Captions, written: Captions) -> None:
    assert read.table.to_dict("list") == written.table.to_dict("list")
    assert read.references == written.references


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json"])
def test_formulas_round_trip(tmp_path, suffix):
    before = sample(FORMULAS)
    path = tmp_path / f"a.{suffix}"
    write_captions(before, path)
    after = read_captions(path)
    assert_same(after, before)
    if suffix == "json":
        assert (after.decoding, dict(after.parameters), after.split_fingerprints) == ("free", {"beams": 1}, ("ab",))
    else:
        assert after.decoding == "unknown"


def test_no_cell_of_a_written_csv_begins_a_formula_and_numbers_stay_numbers(tmp_path):
    write_captions(sample(FORMULAS), tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert not row["text"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert rows[0]["order"] == "-1.5"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), min_size=1, max_size=5))
def test_any_text_round_trips(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("captions")
    before = sample(values)
    for suffix in ("csv", "tsv", "json"):
        write_captions(before, folder / f"a.{suffix}")
        assert_same(read_captions(folder / f"a.{suffix}"), before)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("a.json", "b.json", "a.csv", "b.csv"):
        write_captions(sample(["x", "y"]), tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_published_references_are_read(shared):
    references = read_references(shared / "data/published/brainhub/refs.json")
    assert len(references) == 982
    assert {len(texts) for texts in references.values()} == {5, 6}
    assert len(read_captions(shared / "data/published/brainhub/braincap.json")) == 982
