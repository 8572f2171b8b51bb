"""YAML that a person wrote: read as it is meant, or refused with the line."""

import pytest

from alignflow.data.yaml_text import MAX_BYTES, YamlError, read_yaml, read_yaml_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: 1e-5", {"x": 1e-5}),
        ("x: -.5E+3", {"x": -500.0}),
        ("x: '1e-5'", {"x": "1e-5"}),
        ("x: 1_000", {"x": 1000}),
        ("x: 0x1F", {"x": 31}),
        ("x: 010", {"x": "010"}),
        ("x: 1:30", {"x": "1:30"}),
        ("x: 2026-01-01", {"x": "2026-01-01"}),
        ("x: yes", {"x": True}),
        ("x:", {"x": None}),
        ("a: &a {b: 1}\nc: {<<: *a, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("a: &a {b: 1}\nc: {<<: *a, b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_a_value_is_read_as_it_is_written(text, value):
    found = read_yaml(text)
    assert found == value and type(found["x" if "x" in found else "a"]) is type(value["x" if "x" in value else "a"])


def test_an_alias_is_a_copy():
    found = read_yaml("a: &a {b: 1}\nc: *a")
    found["a"]["b"] = 2
    assert found["c"] == {"b": 1}


BOMB = "a0: &a0 [x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("sft: 1\nx: 2\nsft: 3", "lines 1 and 3: the key 'sft' is there twice"),
        ("a:\n  b:\n    c: 1\n    c: 2", "lines 3 and 4"),
        ("{a: 1, a: 2}", "line 1: the key 'a' is there twice"),
        (BOMB, "once its aliases are copied"),
        ("a: &a [*a]", "contains itself"),
        ("x: " + "[" * 3000, "nested deeper"),
        ("x: !!python/object/apply:os.system [true]", "tag 'python/object/apply:os.system' is not allowed"),
        ("x: !!binary aGk=", "tag 'binary'"),
        ("x: .nan", "not a finite number"),
        ("x: 1e999", "not a finite number"),
        ("x: " + "9" * 5000, "cannot be read as int"),
        ("1: 2", "the key '1' is not text"),
        ("\tx: 1", "line 1, column 1"),
        ('x: "\\ud800"', "which no text has"),
        ("x: *y", "undefined alias"),
        ("a: 1\n---\nb: 2", "single document"),
        ("<<: 5", "takes in a mapping"),
        ("x" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_has_no_one_meaning_is_refused_with_its_line(text, what):
    with pytest.raises(YamlError) as error:
        read_yaml(text)
    assert what in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a: 1\nb: \xff", "line 2: it is not UTF-8"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "larger"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, what):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(YamlError, match=what):
        read_yaml_file(tmp_path / "x.yaml")


def test_a_mark_of_byte_order_and_windows_lines_are_no_fault(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml_file(tmp_path / "x.yaml") == {"a": 1, "b": 2}


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_what_is_no_regular_file_is_not_opened(path):
    from pathlib import Path

    with pytest.raises(YamlError, match="it is not a"):
        read_yaml_file(Path(path))
