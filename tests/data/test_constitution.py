"""Files of constitutions, by name or path, and the lexicons that they name."""

import pytest

from alignflow.data.constitution import constitution_files, constitution_path, read_constitution, shared_principles
from alignflow.data.errors import DataError

OWN = """
name: own
principles:
  - {name: kind words, kind: sentiment, options: {lexicon: words.txt}}
  - {name: short, kind: length_window, options: {low: 1}}
"""


def test_a_built_in_name_and_a_path_name_a_file(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    assert constitution_path("helpful").is_file() and constitution_path(str(tmp_path / "own.yaml")).name == "own.yaml"
    with pytest.raises(DataError, match="no constitution") as raised:
        constitution_path("unhelpful")
    assert "helpful, reader" in str(raised.value)


def test_scores_depend_on_the_lexicons_beside_the_file(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    assert constitution_files(str(tmp_path / "own.yaml")) == [tmp_path / "own.yaml", tmp_path / "words.txt"]


def test_what_two_constitutions_have_in_common(tmp_path):
    for name, text in (
        ("own", OWN),
        ("other", OWN.replace("kind words", "else").replace("length_window", "no_repetition")),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
    both = str(tmp_path / "own.yaml"), str(tmp_path / "other.yaml")
    assert shared_principles(*both) == {"sentiment", "short"}


@pytest.mark.parametrize("text", ["- a list", "a: [", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(DataError, match="mapping|not readable"):
        read_constitution(tmp_path / "own.yaml")
