"""Every stage in small on real data and real models, where they are at hand."""

import pytest
from system_support import REPOSITORY, STAGES

SHARED = REPOSITORY.parent / "shared"
PAFT = ("init", "prepare", "sft", "reference", "align", "merge", "evaluate", "report")


@pytest.mark.skipif(not (SHARED / "weights" / "stories3M").is_dir(), reason="needs ../shared")
def test_stories3m_in_small(empty):
    assert empty.run("--smoke", recipe="recipes/stories3m.yaml") == dict.fromkeys(STAGES, True)


@pytest.mark.skipif(not (SHARED / "weights" / "stories3M").is_dir(), reason="needs ../shared")
@pytest.mark.long
def test_paft_in_small(empty):
    assert empty.run("--smoke", recipe="recipes/paft.yaml") == dict.fromkeys(PAFT, True)


@pytest.mark.skipif(
    not (REPOSITORY.parent / "smollm2").is_dir() or not SHARED.is_dir(), reason="needs ../shared and ../smollm2"
)
def test_smollm2_in_small(empty):
    settings = [
        "--set",
        "sample.max_new_tokens=8",
        "--set",
        "data.demonstrations.0.max_rows=24",
        "--set",
        "data.prompts.0.max_rows=16",
    ]
    assert empty.run("--smoke", *settings, "--until", "label", recipe="recipes/smollm2.yaml")["label"]
