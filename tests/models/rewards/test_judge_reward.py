"""Direct RLAIF: a language model's grades are the reward of a training that samples."""

import json
import math

from alignflow.data.configs.inputs import BuildConfig, InitConfig, SourceConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import user, write_table
from alignflow.models.initialise import initialise
from alignflow.models.trainers.align import align

RATING = {"name": "judge", "options": {"judge": {"name": "rating", "options": {"signed": True, "max_length": 4096}}}}


def test_ppo_is_rewarded_by_the_grades_of_the_model_that_it_starts_from(new_run, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat and graded it with 1 2 3 4 5. " * 40)
    shape = BuildConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        vocab_size=320,
        max_position_embeddings=4096,
    )
    init = new_run("init")
    initialise(InitConfig(build=shape, corpus=(SourceConfig(path=str(corpus), format="text"),)), run=init)
    rows = [{"id": f"q{i}", "source": "t", "prompt": user(f"the cat {i}"), "instructions": None} for i in range(4)]
    write_table(rows, "prompts", tmp_path / "prompts" / "train.parquet")
    config = AlignConfig(
        method="ppo",
        learning_rate=1e-3,
        max_steps=2,
        batch_size=4,
        max_length=64,
        logging_steps=1,
        options={"response_length": 6, "num_ppo_epochs": 1, "rewards": [RATING]},
    )
    run = new_run("ppo")
    align(config, policy=init.out, reference=init.out, prompts=tmp_path / "prompts", run=run)
    curves = [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]
    scores = [value for line in curves for name, value in line.items() if "rating" in name and value is not None]
    assert scores and all(math.isfinite(score) and -1 <= score <= 1 for score in scores)
