"""The report says what there is, escapes what models wrote, and loads nothing from anywhere."""

import json
import re

import pytest
from tests_support import as_artifact

from alignflow.data.configs.generation import ReportConfig
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.report import judge_report
from alignflow.data.report.body import FinishedStep, alarm_marks, gather, render, report, rollouts
from alignflow.data.report.plots import curve_plot
from alignflow.data.run import Run, Runtime, write_json

JUDGE = {
    "win_rate": 0.6,
    "low": 0.5,
    "high": 0.7,
    "made_the_labels": True,
    "wins": 6,
    "ties": 0,
    "losses": 4,
    "no_label": 0,
    "flip_rate": None,
}


@pytest.fixture
def run(tmp_path):
    for name in ("out", "side", "work", "rows"):
        (tmp_path / name).mkdir()
    return Run(
        out=tmp_path / "out", side=tmp_path / "side", work=tmp_path / "work", rows=tmp_path / "rows", runtime=Runtime()
    )


@pytest.fixture
def evaluation(tmp_path):
    directory = tmp_path / "evaluation"
    write_json(
        directory / "evaluation.json",
        {"prompts": 10, "left_out": {"kl": "nothing"}, "win_rate": {"rubric:helpful": JUDGE}},
    )
    hostile = "<script>alert(1)</script><img src=http://evil.example/x>"
    write_json(
        directory / "samples.json",
        [{"prompt": [{"role": "user", "content": hostile}], "aligned": hostile, "sft": "plain"}],
    )
    return directory


def test_a_run_without_anything_is_still_a_page(run):
    assert report(ReportConfig(title="empty"), steps={}, run=run) == {"stages": 0.0}
    assert "<h1>empty</h1>" in (run.side / "report.html").read_text()


def test_what_models_wrote_is_escaped_and_nothing_is_loaded(run, evaluation):
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    page = (run.side / "report.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert not re.findall(r"""<[^<>]*(?:src|href)=["']?(?!["']?(?:data:|#))[^<>]*>""", page)


def test_the_evaluation_is_shown_with_its_interval_and_a_plot(run, evaluation):
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    page = (run.side / "report.html").read_text()
    assert "0.5 to 0.7" in page and "data:image/png;base64" in page and "kl was left out" in page


def test_the_payload_is_the_same_each_time_and_has_no_times(run, evaluation):
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    first = (run.out / "report.json").read_bytes()
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    assert first == (run.out / "report.json").read_bytes()
    assert json.loads(first)["evaluation"]["prompts"] == 10


def test_each_round_is_shown_and_the_last_one_is_the_runs(run, tmp_path):
    steps = {}
    for turn in (1, 2):
        folder = tmp_path / f"evaluation.{turn}"
        write_json(folder / "evaluation.json", {"prompts": turn, "left_out": {}, "win_rate": {"judge": JUDGE}})
        write_json(tmp_path / f"labels.{turn}" / "statistics.json", {"judged": 10 * turn})
        steps |= {f"label.{turn}": tmp_path / f"labels.{turn}", f"evaluate.{turn}": folder}
    assert report(ReportConfig(), steps=steps, run=run) == {"stages": 4.0}
    facts = json.loads((run.out / "report.json").read_text())
    assert facts["evaluation"]["prompts"] == 2 and facts["labels"] == {"judged": 20}
    page = (run.side / "report.html").read_text()
    for turn in (1, 2):
        assert f"Evaluation of evaluate.{turn}" in page and f"Labels of label.{turn}" in page
        assert f"{turn} held-out prompts" in page and f"<td>{10 * turn}</td>" in page
    assert page.count("win rates with intervals") == 2


def test_rounds_in_a_store_keep_their_round_metrics_and_curves(run, store, tmp_path):
    steps = {}
    for turn in (1, 2):
        folder = tmp_path / f"align.{turn}"
        folder.mkdir()
        (folder / "weights.txt").write_text(str(turn))
        steps[f"align.{turn}"] = as_artifact(folder, store.root, f"align-{turn}")
        side = steps[f"align.{turn}"].parent / "side"
        side.mkdir(exist_ok=True)
        (side / "curves.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0 / turn}) + "\n")
    report(ReportConfig(), steps=steps, run=run)
    facts = json.loads((run.out / "report.json").read_text())["stages"]
    assert [(name, each["round"], each["key"]) for name, each in facts.items()] == [
        ("align.1", 1, "align-1"),
        ("align.2", 2, "align-2"),
    ]
    page = (run.side / "report.html").read_text()
    assert all(f"training curves of align.{turn}" in page for turn in (1, 2))


def test_training_and_held_out_points_share_a_panel(monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, **style: drawn.append((style["label"], x, y)) or plot(self, x, y, **style)
    )
    points = [{"step": 5, "loss": 2.0}, {"step": 5, "eval_loss": 3.0}, {"step": 10, "loss": 1.0}]
    assert curve_plot("sft", points, ("loss", "accuracy")).startswith("data:image/png")
    assert drawn == [("training", [5, 10], [2.0, 1.0]), ("held out", [5], [3.0])]


def test_alarms_and_first_and_last_samples_of_a_training_that_sampled_are_shown_escaped(tmp_path):
    align = FinishedStep("align", tmp_path)
    align.side = tmp_path
    samples = [
        {
            "step": step,
            "prompt": [{"role": "user", "content": "q"}],
            "completion": f"<b>{step}-{place}</b>",
            "ended": False,
            "tokens": 3,
            "kl": 0.5,
            "score": None,
        }
        for step in (1, 10, 20)
        for place in range(5)
    ]
    alarms = [{"step": 10, "alarm": name, "text": f"{name} rang", "figures": {}} for name in ("kl", "length")]
    curves = [{"step": step, "objective/kl": 0.1 * step, "objective/scores": 0.5} for step in range(1, 21)]
    for name, lines in (("samples", samples), ("alarms", alarms), ("curves", curves)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(sample["step"], sample["completion"]) for sample in rollouts(align)["samples"]][2:4] == [
        (1, "<b>1-2</b>"),
        (20, "<b>20-0</b>"),
    ]
    assert alarm_marks(align) == {10: "kl, length"}
    page = render("t", [align], gather([align]))
    assert (
        "kl rang" in page
        and "&lt;b&gt;20-2&lt;/b&gt;" in page
        and "10-0" not in page
        and "training curves of align" in page
    )


def test_flagged_answers_are_shown_with_how_often_they_won(run, tmp_path):
    share = {"rate": 0.75, "low": 0.3, "high": 0.95, "hits": 3, "trials": 4}
    flagged = {
        "answers": {**share, "trials": 40},
        "marks": {"verdict": 3},
        "wins": share,
        "wins_in_both_orders": {**share, "hits": 2},
    }
    write_json(tmp_path / "labels" / "statistics.json", {"judged": 60, "flagged": flagged})
    steps = [FinishedStep("label", tmp_path / "labels")]
    page = render("labels", steps, gather(steps))
    assert (
        "3 of 40 answers have marks of the judge&#39;s own (verdict 3)" in page
        or "3 of 40 answers have marks of the judge's own (verdict 3)" in page
    )
    assert "3 of 4 decided pairs: 0.75 (0.3 to 0.95); 2 of them in both orders" in page


@pytest.mark.parametrize(("mass", "warned"), [(0.04, True), (0.9, False)])
def test_the_judge_report_is_shown_and_a_judge_that_does_not_answer_is_marked(mass, warned, tmp_path):
    outcomes = [Outcome(str(place), 0.8, (0.8, 0.8), (mass, mass)) for place in range(12)]
    write_json(tmp_path / "statistics.json", {"judged": 12, "dropped": {"changes with the order": 11}})
    write_json(tmp_path / "judge_report.json", {"reports": [judge_report(outcomes, "<b>llm</b>")]})
    steps = [FinishedStep("label", tmp_path)]
    facts = gather(steps)
    page = render("labels", steps, facts)
    assert "Of 12 judged pairs, these became no preference: changes with the order 11." in page
    assert "&lt;b&gt;llm&lt;/b&gt;" in page and "<b>llm</b>" not in page
    assert ("does not answer the question" in page) is warned and ('<p class="warning"><b>' in page) is warned
    assert facts["judges"]["label"][0]["option_mass"]["mean"] == pytest.approx(mass)


def test_a_merge_is_shown_with_sparsity_norms_and_sign_conflicts(run, tmp_path):
    figures = {
        **{f"sparsity/{name}": share for name, share in (("sft", 0.91), ("align", 0.12), ("merged", 0.52))},
        **{f"norm/{name}": norm for name, norm in (("sft", 1.25), ("align", 2.75), ("merged", 3.5))},
        "sign_conflicts": 0.4321,
        "cosine": None,
    }
    row = {"matrix": "layers.0.<q_proj>", "entries": 640, **figures}
    write_json(tmp_path / "merge" / "merge.json", {"method": "ties", "metrics": figures, "matrices": [row]})
    report(ReportConfig(), steps={"merge": tmp_path / "merge"}, run=run)
    page, facts = (run.side / "report.html").read_text(), json.loads((run.out / "report.json").read_text())
    assert facts["merge"]["metrics"]["sign_conflicts"] == 0.4321
    assert "merged by ties" in page and "0.4321 have opposite signs" in page and "layers.0.&lt;q_proj&gt;" in page
    for name, sparsity, norm in (("sft", "0.91", "1.25"), ("align", "0.12", "2.75"), ("merged", "0.52", "3.5")):
        assert f'<td>{name}</td><td class="figure">{sparsity}</td><td class="figure">{norm}</td>' in page


def test_a_run_that_merges_nothing_has_no_such_section(run, evaluation):
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    assert "Merged adapters" not in (run.side / "report.html").read_text()
    assert "merge" not in json.loads((run.out / "report.json").read_text())


def test_the_credit_of_tokens_is_a_heat_map_of_escaped_texts(run, evaluation):
    found = json.loads((evaluation / "evaluation.json").read_text())
    answer = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "model": "aligned",
        "tokens": ["<script>", " 1"],
        "credit": [2.5, -0.5],
    }
    found["token_credit"] = {"answers": [answer], "answers_without_tokens": 3}
    write_json(evaluation / "evaluation.json", found)
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    page = (run.side / "report.html").read_text()
    assert '<span style="background: rgba(46, 160, 67, 0.800)" title="2.5">&lt;script&gt;</span>' in page
    assert "<script>" not in page and "sum 2" in page and "3 answers have no token" in page


def test_without_the_evaluator_no_credit_is_shown(run, evaluation):
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    assert "Credit of each token" not in (run.side / "report.html").read_text()


def test_samples_are_shown_with_verdicts_and_everything_of_models_is_escaped(run, evaluation):
    found = json.loads((evaluation / "evaluation.json").read_text())
    picked = {"clearest win": 1, "clearest loss": 0, "random": 0}
    found["samples"] = {"by": "rubric:helpful", "seed": 0, "prompts": 10, "picked": picked}
    verdict = {"judge": "<i>j</i>", "better": "aligned", "probability": 0.875, "orders": [0.9, 0.85], "flips": False}
    verdict |= {"scores": {"aligned": 2.5, "sft": 1.25}, "reason": "", "rationales": ["<script>why</script>"]}
    sample = {"id": "1", "prompt": [{"role": "user", "content": "<p>q"}], "sft": "<s>", "aligned": "<a>"}
    sample |= {"picked": "clearest win", "verdicts": [verdict], "rewards": {"aligned": 0.125, "sft": -3.5}}
    write_json(evaluation / "evaluation.json", found)
    write_json(evaluation / "samples.json", [sample])
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    page = (run.side / "report.html").read_text()
    assert "1 of 10 prompts: the clearest win and no clearest loss" in page and "Clearest wins" in page
    for text in ("aligned is better", "0.875", "0.9 / 0.85", "2.5", "1.25", "0.125", "-3.5"):
        assert f">{text}</td>" in page, text
    for text in ("<p>q", "<s>", "<a>", "<i>j", "<script>"):
        assert text not in page, text
    assert "what &lt;i&gt;j&lt;/i&gt; wrote" in page and "&lt;script&gt;why" in page


def test_what_an_older_alignflow_kept_is_shown_and_said(run, evaluation):
    report(ReportConfig(), steps={"evaluate": evaluation}, run=run)
    assert "An older alignflow made this evaluation" in (run.side / "report.html").read_text()


def test_the_lineage_says_what_the_run_found(run, store, tmp_path):
    folder = tmp_path / "sft"
    folder.mkdir()
    (folder / "weights.txt").write_text("w")
    steps = {"sft": as_artifact(folder, store.root, "sft-1234567890")}
    report(ReportConfig(found=("sft",)), steps=steps, run=run)
    page = (run.side / "report.html").read_text()
    assert '<h2 id="lineage">' in page and "<code>sft-12345678</code>" in page
    assert '<span class="state">found in the store</span>' in page
