"""Two runs side by side: what was set, what rows they had, what came out."""

import io

import pytest
from rich.console import Console
from tests_support import as_artifact

from alignflow.cli.compare import answers_table, metrics_table, plain
from alignflow.data.artifacts import Manifest, manifest_text
from alignflow.data.records import user, write_table
from alignflow.tasks.store.compare import compare, lineage


@pytest.fixture
def made(store, tmp_path):
    """Put an artifact into the store: its table's rows, and whatever its manifest is to say."""

    def make(key, rows=(), table="preferences/train", kind="preferences", **manifest):
        folder = tmp_path / f"made-{key}"
        folder.mkdir()
        (folder / "note.txt").write_text(str(sorted(row["id"] for row in rows)))
        if rows:
            write_table(rows, kind, folder / f"{table}.parquet")
        payload = as_artifact(folder, store.root, key)
        file = payload.parent / "manifest.json"
        written = Manifest.model_validate_json(file.read_text()).model_copy(update=manifest)
        file.write_text(manifest_text(written))
        return written

    return make


@pytest.fixture
def runs(made):
    """Two runs that share sft; the second has one pair more and another beta, and no reward model."""
    sft = made("sft-1", metrics={"loss": 2.0})

    def answers(text):
        return [{"id": "p", "prompt": user("Say [bold]a[/bold]."), "completions": [text]}]

    def run(number, ids, beta, rate, text, **more):
        label = made(
            f"label-{number}",
            [{"id": name} for name in ids],
            inputs={"policy": sft.ref()},
            metrics={"pairs/train": float(len(ids))},
        )
        components = {"config.beta": beta, "input.preferences": label.digest}
        align = made(
            f"align-{number}",
            components=components,
            inputs={"preferences": label.ref(), "policy": sft.ref()},
            libraries=more,
        )
        rates = {"win_rate": rate, "win_rate/low": rate - 0.1, "win_rate/high": rate + 0.1, "kl": 1.0}
        evaluate = made(
            f"evaluate-{number}",
            answers(text),
            "answers/aligned",
            "completions",
            metrics=rates,
            inputs={"aligned": align.ref(), "sft": sft.ref()},
        )
        inputs = {"sft": sft, "label": label, "align": align, "evaluate": evaluate}
        return made(f"report-{number}", inputs={name: manifest.ref() for name, manifest in inputs.items()})

    first, second = run(1, "ab", 0.1, 0.5, "[red]no", torch="2.1"), run(2, "abc", 0.2, 0.625, "yes\x1b[2J", torch="2.2")
    return first, second


def by_name(found):
    return {step.name: step for step in found.steps}


def test_a_step_that_both_runs_share_has_nothing_to_tell(runs, store):
    step = by_name(compare(*runs, store))["sft"]
    assert step.same and step.first == step.second == "sft-1" and not step.metrics and not step.changes


def test_settings_inputs_and_libraries_that_differ_are_named(runs, store):
    step = by_name(compare(*runs, store))["align"]
    assert (
        step.changes == ("config.beta 0.1 -> 0.2",)
        and step.inputs == ("preferences",)
        and step.beside == ("torch 2.1 -> 2.2",)
    )


def test_rows_are_counted_by_their_ids(runs, store):
    (table,) = by_name(compare(*runs, store))["label"].tables
    assert (table.name, table.first, table.second, table.common) == ("preferences/train", 2, 3, 2)


def test_metrics_that_differ_stand_side_by_side_with_their_intervals(runs, store):
    (metric,) = by_name(compare(*runs, store))["evaluate"].metrics
    assert (metric.name, metric.first, metric.second, metric.difference) == ("win_rate", 0.5, 0.625, 0.125)
    assert metric.first_interval == pytest.approx((0.4, 0.6), abs=1e-12)


def test_a_metric_that_one_run_lacks_has_no_difference(made, store):
    first, second = made("reward-1", metrics={"eval_accuracy": None}), made("reward-2", metrics={"eval_accuracy": 0.0})
    (step,) = compare(first, second, store).steps
    assert step.metrics[0].difference is None and step.metrics[0].second == 0.0


def test_a_step_that_one_run_does_not_have_is_said_so(runs, store):
    found = by_name(compare(runs[0], store.manifest("align-2"), store))
    assert found["evaluate"].first and not found["evaluate"].second and not found["evaluate"].same


def test_the_lineage_of_any_artifact_is_a_run(runs, store):
    assert list(lineage(store.manifest("align-1"), store)) == ["sft", "label", "align"]


def test_a_model_that_was_brought_bears_the_name_of_the_step_that_it_replaced(made, store):
    base, sft = made("init-1"), made("init-2")
    report = made("report-1", inputs={"init": base.ref(), "sft": sft.ref()})
    assert list(lineage(report, store)) == ["init", "sft", "report"]
    align = made("align-1", inputs={"policy": sft.ref(), "reference": base.ref()})
    assert list(lineage(align, store)) == ["init.1", "init.2", "align"]


def shown(table):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_what_a_model_wrote_is_shown_as_text(runs, store):
    text = shown(answers_table(compare(*runs, store)))
    assert "[red]no" in text and "[bold]a[/bold]" in text and "\x1b" not in text
    assert plain("a\x1b[2Jb\nc\x07") == "a\N{REPLACEMENT CHARACTER}[2Jb\nc\N{REPLACEMENT CHARACTER}"
    assert "0.5 (0.4 to 0.6)" in shown(metrics_table(compare(*runs, store)))
