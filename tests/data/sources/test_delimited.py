"""CSV and TSV are read strictly: nothing is swallowed by a quote, and a cell is a list only where its column holds lists."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.parsing import parse_sources
from alignflow.data.sources.delimited import table
from alignflow.data.sources.reading import BrokenLine, read_rows

QUESTIONS = [f"question {number},answer {number}\n" for number in range(100)]


@pytest.fixture
def read(tmp_path):
    def read_it(content, suffix="csv"):
        path = tmp_path / f"rows.{suffix}"
        path.write_text(content)
        return list(read_rows(SourceConfig(path=str(path))))

    return read_it


def test_a_quote_that_is_never_closed_is_refused_with_its_line(read):
    """Its cell had all lines up to the end of the file: 49 rows were one answer, and nothing was counted."""
    lines = [*QUESTIONS[:50], 'question 50,"answer 50\n', *QUESTIONS[51:]]
    with pytest.raises(DataError, match="the row of line 52 do not enclose a cell: the file ends before it is closed"):
        read("instruction,output\n" + "".join(lines))


def test_a_quote_that_closes_in_the_middle_of_a_cell_is_refused_with_its_line(read):
    lines = [
        *QUESTIONS[:10],
        'question 10,"answer 10\n',
        *QUESTIONS[11:40],
        'question 40,"answer 40"\n',
        *QUESTIONS[41:],
    ]
    with pytest.raises(DataError, match="the row of line 12 do not enclose a cell: on line 42"):
        read("instruction,output\n" + "".join(lines))


def test_rows_between_two_lost_quotes_are_broken_lines_each_with_its_number(read):
    lines = [
        *QUESTIONS[:10],
        'question 10,"answer 10\n',
        *QUESTIONS[11:20],
        'question 20,answer 20"\n',
        *QUESTIONS[21:],
    ]
    found = read("instruction,output\n" + "".join(lines))
    broken = [line for line in found if isinstance(line, BrokenLine)]
    assert broken == [BrokenLine(number, "rows_in_a_cell") for number in range(12, 23)] and len(found) == 100


def test_in_a_table_of_three_columns_two_swallowed_rows_are_found(read):
    found = read('id,prompt,completion\n1,a,"b\n2,c,d\n3,e,f"\n4,g,h\n')
    assert found == [
        *(BrokenLine(number, "rows_in_a_cell") for number in (2, 3, 4)),
        {"id": "4", "prompt": "g", "completion": "h"},
    ]


def test_an_answer_of_many_lines_is_one_cell(read):
    text = "First, one.\nThen two.\n\nThen, in the end, three.\nDone, really, done.\nBye"
    (row,) = read(f'prompt,completion\nq,"{text}"\n')
    assert row == {"prompt": "q", "completion": text}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Name five things.", "First, one.\nThen, two.\nNext, three.\nLater, four.\nLast, five."),
        ("How do I bake bread?", "Here is how:\nFirst,mix it\nThen,knead it\nNext,wait a bit\nLast,bake it"),
        ("Make a table of five cities", "city,people\nRome,3\nOslo,1\nLima,10\nBonn,0\nKyiv,3"),
        ("q7", "a,b\nc,d\ne,f\ng,h\ni,j"),
    ],
)
def test_an_answer_whose_lines_have_as_many_commas_as_a_row_is_one_cell(read, prompt, text):
    rows = [f'{prompt},"{text}"\n'] * 3
    assert read("prompt,completion\n" + "".join(rows)) == [{"prompt": prompt, "completion": text}] * 3


def test_swallowed_rows_are_found_by_what_other_rows_begin_with_even_in_the_first_record(read):
    begin = 'What is new?,"It is\nName a fruit,Apple\nWho came?,Nobody\nSay it,It\nWhy not?,So"\n'
    found = read("prompt,completion\n" + begin + "Tell a tale,Once\nWhat is it?,A dog\n")
    assert found[:-2] == [BrokenLine(number, "rows_in_a_cell") for number in range(2, 7)] and len(found) == 7


def test_a_row_with_too_few_or_too_many_cells_is_broken_with_the_number_of_its_line(read):
    found = read('a,b\n1,"two\nlines"\n1\n1,2,3\n\n1,2\n')
    assert found == [
        {"a": "1", "b": "two\nlines"},
        BrokenLine(4, "wrong_number_of_columns"),
        BrokenLine(5, "wrong_number_of_columns"),
        {"a": "1", "b": "2"},
    ]


def test_a_quote_within_a_cell_is_a_letter(read):
    assert read('prompt\ta\nthe 5" disk\tone "word"\n', "tsv") == [{"prompt": 'the 5" disk', "a": 'one "word"'}]


@pytest.mark.parametrize("answer", ["[1, 2, 3]", '["a", "b"]', "{}", '{"city": "Paris"}', "[]", '[{"name": "x"}]'])
@pytest.mark.parametrize("column", ["completion", "chosen", "prompt", "output", "text", "instruction"])
def test_an_answer_that_is_json_stays_a_text(read, column, answer):
    quoted = answer.replace('"', '""')
    assert read(f'id,{column}\n1,"{quoted}"\n') == [{"id": "1", column: answer}]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("messages", [{"role": "user", "content": "a"}]),
        ("completions", ["a", "b"]),
        ("scores", [1, 0.5]),
        ("history", [["a", "b"]]),
        ("chosen", [{"role": "assistant", "content": "a"}]),
        ("chosen", {"from": "gpt", "value": "a"}),
        ("tools", [{"name": "w"}]),
    ],
)
def test_a_cell_is_a_list_where_its_column_holds_lists_or_conversations(read, column, value):
    quoted = json.dumps(value).replace('"', '""')
    assert read(f'id,{column}\n1,"{quoted}"\n') == [{"id": "1", column: value}]


def test_a_conversation_as_python_writes_it_is_broken_and_no_text(read):
    """pandas writes a column of lists so."""
    assert read("""id,chosen\n1,"[{'role': 'assistant', 'content': 'a'}]"\n""") == [
        BrokenLine(2, "python_and_not_json")
    ]


def test_labels_of_a_table_are_read(tmp_path):
    (tmp_path / "kto.csv").write_text(
        "prompt,completion,label\n" + "".join(f"q{n},a{n},{n % 2 == 0}\n" for n in range(12))
    )
    rows = parse_sources([SourceConfig(path=str(tmp_path / "kto.csv"))], "unpaired", PrepareConfig()).rows
    assert [row["label"] for row in rows] == [True, False] * 6


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8), min_size=3, max_size=3),
        max_size=6,
    )
)
def test_what_is_written_with_all_cells_in_quotes_is_what_is_read(rows):
    import io

    text = "a,b,c\n" + "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    assert list(table(",")(io.BytesIO(text.encode()), "x.csv")) == [dict(zip("abc", row, strict=True)) for row in rows]


ROW = {"prompt": "a, b", "completion": "c; d"}


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("csv", 'prompt;completion\n"a, b";"c; d"\n'),
        ("csv", "prompt\tcompletion\na, b\tc; d\n"),
        ("csv", '"prompt"|"completion"\na, b|c; d\n'),
        ("tsv", 'prompt,completion\n"a, b","c; d"\n'),
        ("csv", 'sep=;\nprompt;completion\n"a, b";"c; d"\n'),
        ("csv", '\ufeffprompt;completion\r\na, b;"c; d"\r\n'),
        ("csv", 'prompt, completion\n"a, b", "c; d"\n'),
        ("csv", '\n prompt ,completion \n"a, b",c; d\n'),
    ],
)
def test_the_first_line_shows_what_stands_between_cells(read, suffix, content):
    """A table from a European Excel was one column, and one with blanks behind its commas lost all columns but the first."""
    assert read(content, suffix) == [ROW]


def test_a_header_of_one_column_that_is_no_list_of_names_divides_nothing(read):
    assert read("text\na;b\n") == [{"text": "a;b"}]
    assert read('"one; or, two"\na;b\n') == [{"one; or, two": "a;b"}]


def test_lines_are_counted_with_the_one_that_names_the_delimiter(read):
    assert read("sep=;\na;b\n1;2\n1;2;3\n")[1] == BrokenLine(4, "wrong_number_of_columns")


def test_a_column_without_a_name_gets_one_that_can_be_told(read):
    assert read(",prompt\n0,hello\n") == [{"column 1 (no name)": "0", "prompt": "hello"}]
