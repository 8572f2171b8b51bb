"""The figures by which runs are compared."""

from types import SimpleNamespace

from alignflow.data.report.figures import Figures, figures_of


def step(config=None, **metrics):
    return SimpleNamespace(config=config or {}, metrics=metrics)


EVALUATED = step(
    **{
        "win_rate/helpful": 0.6,
        "win_rate/helpful/low": 0.5,
        "win_rate/helpful/high": 0.7,
        "win_rate/reader": 0.4,
        "kl": 2.5,
    }
)


def test_they_are_those_of_the_steps_that_measure_them():
    steps = {"reward": step(eval_accuracy=0.8), "align": step({"method": "dpo"}), "evaluate": EVALUATED}
    assert figures_of(steps) == Figures(
        method="dpo", judge="helpful", win_rate=0.6, win_rate_low=0.5, win_rate_high=0.7, kl=2.5, reward_accuracy=0.8
    )


def test_the_win_rate_is_that_of_a_judge_that_did_not_make_the_labels():
    labelled = step({"labelling_judge": {"name": "helpful"}}, **EVALUATED.metrics)
    assert (figures_of({"evaluate": labelled}).judge, figures_of({"evaluate": labelled}).win_rate) == ("reader", 0.4)
    alone = step({"labelling_judge": {"name": "helpful"}}, **{"win_rate/helpful": 0.6})
    assert (figures_of({"evaluate": alone}).judge, figures_of({"evaluate": alone}).win_rate) == ("helpful", 0.6)


def test_what_was_not_measured_is_none_and_no_zero():
    assert figures_of({}) == Figures()
    assert figures_of({"reward": step(eval_loss=0.1), "evaluate": step(**{"win_rate/helpful": None})}) == Figures()


def test_of_several_rounds_the_last_one_counts():
    rounds = {
        "align.1": step({"method": "dpo"}),
        "evaluate.1": step(kl=1.0),
        "align.2": step({"method": "kto"}),
        "evaluate.2": EVALUATED,
    }
    assert (figures_of(rounds).method, figures_of(rounds).kl) == ("kto", 2.5)
