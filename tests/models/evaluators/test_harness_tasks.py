"""Tasks of the user's own: their names, and what would run code or read data that no key knows."""

import pytest

from alignflow.data.errors import UserError
from alignflow.models.evaluators.harness_tasks import local_tasks

METRICS = {"acc"}


@pytest.fixture
def names(tmp_path):
    """The names in a directory with one file of this text."""

    def write(text, metrics=METRICS, name="a.yaml"):
        (tmp_path / name).write_text(text)
        return local_tasks(tmp_path, metrics).names

    return write


def test_tasks_groups_and_tags_have_names(names):
    assert names("task: a\ntag: [few, more]\n") == {"a", "few", "more"}
    assert names("group: g\ntask: [a, b]\n", name="b.yml") == {"a", "few", "more", "g"}


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


@pytest.mark.parametrize(
    "line",
    [
        "? !function evil.f\n: {}",
        "process_docs: !function evil.f\nprocess_docs: null",
        "metadata: !!pairs [a: !function evil.f]",
        "metadata: !!set {a}",
        "metadata: !!omap [a: 1]",
        "metadata: {a: [&x {b: *x, c: !function evil.f}]}",
    ],
)
def test_a_tag_that_the_content_does_not_show_is_refused(names, line):
    with pytest.raises(UserError, match="would run code"):
        names(f"task: a\n{line}\n")


@pytest.mark.parametrize("text", ["process_docs: !function evil.f\n", "- !function evil.f\n"])
@pytest.mark.parametrize("named", ["include: _common", "include: [_common]", "use_prompt: '_common.yaml.txt:p'"])
def test_what_a_file_includes_is_checked_whatever_its_name_and_kind(names, tmp_path, text, named):
    for name in ("_common", "_common.yaml.txt"):
        (tmp_path / name).write_text(text)
    (tmp_path / "between").write_text(f"{named}\n")
    with pytest.raises(UserError, match="would run code"):
        names(f"task: a\n{named}\n")
    with pytest.raises(UserError, match="would run code"):
        names("task: a\ninclude: between\n")
    assert names(f"task: a\n{named}\n", metrics=()) == {"a"}


def test_files_that_include_each_other_end_and_their_tasks_have_names(names, tmp_path):
    (tmp_path / "_common").write_text("task: b\ninclude: a.yaml\n")
    assert names("tag: t\ninclude: _common\n") == {"t", "b"}


def test_a_date_is_plain_data(names):
    assert names("task: a\nmetadata: {made: 2024-01-01}\n") == {"a"}


def test_what_a_group_consists_of_is_told_apart_from_what_the_directory_has(tmp_path):
    members = "[b, arc_easy, {task: gsm8k, num_fewshot: 1}, {group: mmlu}, {group: new, task: [c]}]"
    (tmp_path / "g.yaml").write_text(f"group: g\ntask: {members}\n")
    (tmp_path / "b.yaml").write_text("task: b\n")
    local = local_tasks(tmp_path, METRICS)
    assert local.names == {"g", "b"} and local.members == {"b", "arc_easy", "gsm8k", "mmlu", "c"}


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
        "dataset_path: leads_out",
        "dataset_kwargs: {data_dir: ~/rows}",
        "dataset_kwargs: {data_files: 'zip::/data/rows.zip'}",
        "use_prompt: '/data/prompts.yaml:p'",
        "task: {x: {use_prompt: '../prompts.yaml:p'}}",
    ],
)
def test_what_lies_outside_of_the_directory_is_refused(names, tmp_path, line):
    (tmp_path / "leads_out").symlink_to(tmp_path.parent)
    with pytest.raises(UserError, match="is outside of the directory"):
        names(f"task: a\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "dataset_kwargs: {data_files: .q.jsonl}",
        "dataset_kwargs: {data_files: {test: [rows/.old/q.jsonl]}}",
        "dataset_kwargs: {data_dir: ./.rows}",
        "dataset_path: ./.rows",
        "include: .common",
        "use_prompt: '.p.yaml:p'",
    ],
)
def test_hidden_files_which_no_key_knows_are_refused(names, line):
    with pytest.raises(UserError, match="is hidden"):
        names(f"task: a\n{line}\n", metrics=())


def test_a_task_in_a_hidden_folder_is_refused_unless_the_harness_passes_over_it(names, tmp_path):
    for folder in (".ipynb_checkpoints", ".more"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".ipynb_checkpoints/b.yaml").write_text("x: !function evil.f\n")
    assert names("task: a\n") == {"a"}
    with pytest.raises(UserError, match="it is hidden"):
        names("task: b\n", name=".more/b.yaml")


def test_data_and_files_of_the_directory_and_names_of_the_hub_are_taken(names):
    text = "task: a\ninclude: b.yaml\ndataset_path: json\ndataset_kwargs: {data_files: {test: data/rows.jsonl}}\n"
    assert names(text) == {"a"} and names("task: a\ndataset_path: allenai/arc\n") == {"a"}


def test_a_file_that_is_no_yaml_and_a_directory_without_tasks_are_refused(names):
    with pytest.raises(UserError, match="no YAML file in it has a task"):
        names("hello: 1\n")
    with pytest.raises(UserError, match="it is not YAML"):
        names("task: [a\n")
