"""kill -9 at random moments in SFT, reward, DPO, PPO and GRPO, with one and two processes: resumed, they end with the same bytes.

Five kills each, by the functions of benchmarks/reliability.py; docs/measurements/reliability.md has the table of 25 each.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from kill_cells import KINDS, Cell, make_inputs
from reliability import kill_and_resume, undisturbed

KILLS, SEED = 5, 3
STEPS = {"ppo": 6, "grpo": 6}  # updates; of the others steps
CELLS = [(kind, processes) for processes in (2, 1) for kind in KINDS]
pytestmark = [pytest.mark.timeout(1500), pytest.mark.long]


def outcome_of(cell):
    return kill_and_resume(cell, undisturbed(cell), KILLS, SEED, reach=0.7)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """(kind, processes) -> what its kills did, to come; as many cells at once as there are cores, up to four."""
    root = tmp_path_factory.mktemp("reliability")
    inputs = make_inputs(root)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield {pair: pool.submit(outcome_of, Cell(root, inputs, *pair, steps=STEPS.get(pair[0], 14))) for pair in CELLS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("kind", "processes"), CELLS)
def test_a_training_that_is_killed_at_random_moments_ends_with_the_digest_of_an_undisturbed_one(
    kind, processes, outcomes
):
    outcome = outcomes[kind, processes].result()
    assert len(outcome.kills) == KILLS and outcome.runs >= 1
    assert outcome.equal == outcome.runs, outcome
    assert outcome.figures_equal == outcome.runs, "its metrics and curves differ"
    assert outcome.orphans == 0
    if kind in STEPS:
        assert {"rollout", "scoring", "update"} <= {kill.aim for kill in outcome.kills}
