"""Tables of subjects: a row a subject, session or case, brought to a row a case."""

import pytest

from segstudy.cases import Case, write_cases
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.participants import (
    bids_tables,
    of_cases,
    read_all,
    read_participants,
    write_participants,
)

CASES = {"sub-01_ses-a": "sub-01", "sub-01_ses-b": "sub-01", "sub-02": "sub-02"}


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return path


def test_participants_and_sessions_of_bids(tmp_path):
    written(
        tmp_path / "participants.tsv", "participant_id sex age\nsub-01 F 40\n02 M n/a\nsub-09 M 7\n"
    )
    written(tmp_path / "sub-01/sub-01_sessions.tsv", "session_id scanner\nses-a p\nb q\n")
    found = of_cases(CASES, read_all(bids_tables(tmp_path)))
    assert found == {
        "sub-01_ses-a": {"sex": "F", "age": "40", "scanner": "p"},
        "sub-01_ses-b": {"sex": "F", "age": "40", "scanner": "q"},
        "sub-02": {"sex": "M", "age": "", "scanner": ""},
    }


def test_bids_tables_lie_with_the_raw_scans(tmp_path):
    written(tmp_path / "rawdata/participants.tsv", "participant_id sex\nsub-01 F\n")
    assert bids_tables(tmp_path) == [tmp_path / "rawdata/participants.tsv"]
    assert bids_tables(tmp_path / "rawdata/nothing") == []


def test_columns_of_a_case_table_that_say_something_of_the_subject(tmp_path):
    path = written(
        tmp_path / "cases.tsv",
        "case subject image_t1 label label_quality fold split sex\nÄb s1 a.nii b.nii good 0 train F\n",
    )
    table = read_participants(path)
    assert table.columns == ("label_quality", "sex")
    assert of_cases({"Aeb": "s1"}, [table]) == {"Aeb": {"label_quality": "good", "sex": "F"}}


def test_a_table_of_a_spreadsheet(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text('\ufeffsubject;sex;note\ns1;F;"a; b"\n\ns2;M;\n', encoding="utf-8")
    table = read_participants(path)
    assert next(row for _, row in table.rows) == {"subject": "s1", "sex": "F", "note": "a; b"}
    assert [number for number, _ in table.rows] == [2, 4]


@pytest.mark.parametrize(
    "text",
    [
        "subject;sex;;\ns1;F;;\n",  # empty columns of a spreadsheet
        "sep=;\nsubject;sex\ns1;F\n",
        'subject,"dose; mg",sex\ns1,"1;2",F\n',
        'subject\tnote\tsex\ns1\t"big" one\tF\n',  # BIDS has no quoting
        "subject\tsex\timage_quality\ns1\tF\tgood\n",  # no case table
        "case\tsubject\tsex\timage_quality\nc1\ts1\tF\tgood\n",
    ],
)
def test_tables_as_programs_write_them(text, tmp_path):
    (tmp_path / "people.csv").write_text(text, encoding="utf-8")
    table = read_participants(tmp_path / "people.csv")
    [cells] = of_cases({"c1": "s1"}, [table]).values()
    others = {"dose; mg": "1;2", "note": '"big" one', "image_quality": "good"}
    expected = {"sex": "F"} | {name: value for name, value in others.items() if name in text}
    assert cells == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id sex\nsub-01 F\nsub-01 M\n", "row 3: sex of case sub-01_ses-a is 'M', and 'F' in .*row 2"),
        ("name sex\nsub-01 F\n", "no column case, participant_id, subject or subject_id; found name, sex"),
        ("subject sex sex\nsub-01 F F\n", "the column 'sex' stands twice"),
        ("subject sex\nsub-01\n", "row 2: 1 cells; expected 2"),
        ("subject sex\n", "no row below the header"),
        ("subject sex\nsub-07 F\n", r"no row is of a subject of the dataset \(sub-01, sub-02\); .* has sub-07"),
        ("subject sex\n F\n", "row 2: no subject"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used(tmp_path, text, message):
    path = written(tmp_path / "people.tsv", text)
    with pytest.raises(InputError, match=message):
        of_cases(CASES, [read_participants(path)])


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_participants(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="a folder"):
        read_participants(tmp_path)


def test_a_table_that_was_found_and_cannot_be_used_is_told_of_and_left_out(tmp_path, caplog):
    case = Case("sub-01", "sub-01", (tmp_path / "i.nii",), tmp_path / "l.nii")
    write_cases(tmp_path / "cases.tsv", [case], ["image"])
    found = written(tmp_path / "bids/participants.tsv", "participant_id sex\nsub-07 F\n")
    named = written(tmp_path / "people.tsv", "subject age\nsub-01 40\n")
    command = ["download", "participants", "--dataset", "d", "--cases", str(tmp_path / "cases.tsv")]
    command += ["--output", str(tmp_path / "out.tsv"), "--tables", str(named), "--found"]
    assert main([*command, str(found.parent)]) == 0
    assert "no row is of a subject" in caplog.text
    assert (tmp_path / "out.tsv").read_text() == "case\tsubject\tage\nsub-01\tsub-01\t40\n"
    written(found, "participant_id sex\nsub-01 F\n")
    assert main([*command, str(found.parent)]) == 0
    assert (tmp_path / "out.tsv").read_text().endswith("sub-01\tsub-01\tF\t40\n")


def test_two_tables_that_contradict(tmp_path):
    first = written(tmp_path / "a.tsv", "subject sex\nsub-01 F\n")
    second = written(tmp_path / "b.tsv", "case sex\nsub-01_ses-a M\n")
    with pytest.raises(InputError, match="expected one value"):
        of_cases(CASES, read_all([first, second]))


def test_what_is_written_is_read_again(tmp_path):
    values = {"a": {"sex": "F", "age": ""}, "b": {"sex": "M", "age": "40"}}
    cases = {"a": "s1", "b": "s1"}
    write_participants(tmp_path / "participants.tsv", cases, values)
    assert of_cases(cases, [read_participants(tmp_path / "participants.tsv")]) == values
