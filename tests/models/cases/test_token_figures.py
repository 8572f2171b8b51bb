"""Cases of figures of a token's distribution go through the table of statistics."""

import math

from alignflow.models.loss_cases import check_case

NAN, INF = float("nan"), float("inf")
TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]


def passes(function, inputs, **wanted):
    return check_case(function, {"inputs": inputs, "expected": wanted}, TOLERANCES) == ""


def test_logits_of_any_number_of_dimensions_and_600_nats_apart():
    assert passes("logsumexp", {"x": [600.0, 0.0]}, value=600.0) and passes(
        "logsumexp", {"x": [[[0.0, 0.0], [-600.0, -600.0]]]}, value=[[math.log(2), math.log(2) - 600]]
    )
    assert passes("entropy_from_logits", {"logits": [[600.0, 0.0], [1.0, 1.0]]}, value=[0.0, math.log(2)])


def test_the_logits_of_a_place_score_the_next_token():
    logits = [[[0.0, math.log(3)], [600.0, 0.0], [NAN, INF]]]
    assert passes("gather_token_logps", {"logits": logits, "tokens": [[0, 1, 1]]}, value=[[math.log(0.75), -600.0]])


def test_the_kl_of_distributions_given_as_logits_ignores_what_is_masked():
    inputs = {
        "p_logdist": [[[1.0, 1.0], [NAN, INF]]],
        "q_logdist": [[[0.0, math.log(3)], [NAN, NAN]]],
        "mask": [[1, 0]],
    }
    kl = -math.log(2) - (math.log(0.25) + math.log(0.75)) / 2
    assert passes("full_kl", inputs, per_token=[[kl, 0.0]], sequence=[kl])
