"""Tasks of the user's own: their names, and what would run code or read data that no key knows."""

import pytest

from alignflow.data.errors import UserError
from alignflow.models.evaluators.harness_tasks import local_names

METRICS = {"acc"}


@pytest.fixture
def names(tmp_path):
    """The names in a directory with one file of this text."""

    def write(text, metrics=METRICS, name="a.yaml"):
        (tmp_path / name).write_text(text)
        return local_names(tmp_path, metrics)

    return write


def test_tasks_groups_and_tags_have_names(names):
    assert names("task: a\ntag: [few, more]\n") == {"a", "few", "more"}
    assert names("group: g\ntask: [a, b]\n", name="b.yml") == {"a", "few", "more", "g", "b"}


@pytest.mark.parametrize(
    "line",
    [
        "process_docs: !function code.run",
        "metric_list: [{metric: !function code.run}]",
        "metric_list: [{metric: nobody/has_it}]",
        "metric_list: [{metric: acc, hf_evaluate: true}]",
        "class: !function code.Task",
        "unsafe_code: true",
    ],
)
def test_what_would_run_code_is_refused_unless_it_is_allowed(names, line):
    with pytest.raises(UserError, match="would run code"):
        names(f"task: a\n{line}\n")
    assert names(f"task: a\n{line}\n", metrics=()) == {"a"}


def test_a_python_tag_is_text_even_where_code_is_allowed(names):
    assert names("task: a\nx: !!str b\ny: !python/object/apply:os.system [ls]\n", metrics=()) == {"a"}


@pytest.mark.parametrize(
    "line",
    [
        "include: ../other.yaml",
        "include: /etc/task.yaml",
        "dataset_kwargs: {data_files: {test: ../rows.jsonl}}",
        "dataset_kwargs: {data_files: [rows.jsonl, /data/rows.jsonl]}",
        "dataset_kwargs: {data_files: 'https://host/rows.jsonl'}",
        "dataset_path: ../rows",
    ],
)
def test_what_lies_outside_of_the_directory_is_refused(names, line):
    with pytest.raises(UserError, match="lies outside of the directory"):
        names(f"task: a\n{line}\n")


def test_data_and_files_of_the_directory_and_names_of_the_hub_are_taken(names):
    text = "task: a\ninclude: b.yaml\ndataset_path: json\ndataset_kwargs: {data_files: {test: data/rows.jsonl}}\n"
    assert names(text) == {"a"} and names("task: a\ndataset_path: allenai/arc\n") == {"a"}


def test_a_file_that_is_no_yaml_and_a_directory_without_tasks_are_refused(names):
    with pytest.raises(UserError, match="no YAML file in it has a task"):
        names("hello: 1\n")
    with pytest.raises(UserError, match="it is no YAML"):
        names("task: [a\n")
