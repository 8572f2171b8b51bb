"""What a pointwise judge said goes through the journal whole, and that of a plain one is what it always was."""

import json

from alignflow.models.judges.assessments import packed_assessments, unpacked_assessments
from alignflow.models.judges.base import Assessment


def test_all_of_it_comes_back_through_json():
    found = [
        Assessment(1.5, {"a": 1.0}, {"replies": ["x"]}, mass=0.5),
        Assessment(None, reason="too long"),
        Assessment(0.0),
    ]
    assert unpacked_assessments(json.loads(json.dumps(packed_assessments(found)))) == found


def test_a_judge_with_scores_alone_packs_scores_and_details_alone():
    assert packed_assessments([Assessment(0.0), Assessment(None)]) == {"scores": [0.0, None], "details": [{}, {}]}
