"""The whole pipeline through its command line: what runs, what is found, and what happens to damaged bytes."""

import json
import os

from system_support import STAGES, TINY


def only(*names):
    return {stage: stage in names for stage in STAGES}


def flip(path, keep_time):
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_second_run_finds_everything_and_starts_no_child(copy):
    before = sorted((copy.store / "artifacts").iterdir())
    assert copy.run() == only()
    assert sorted((copy.store / "artifacts").iterdir()) == before and not list((copy.store / "staging").iterdir())


def test_a_run_ends_with_paths_that_exist(finished):
    output = finished("run", TINY)
    for name in ("aligned model", "preference data", "report"):
        (path,) = [line.split(": ", 1)[1] for line in output.splitlines() if line.startswith(f"{name}: ")]
        assert os.path.exists(path)
    page = (finished.artifact("report") / "side" / "report.html").read_text()
    assert "training curves of sft" in page and "rubric:reader" in page and "http" not in page.replace("http-equiv", "")


def test_another_beta_runs_align_evaluate_and_report_alone(copy):
    plan = copy("plan", TINY, "--set", "align.options.beta=0.2")
    assert "config.align.options.beta (default) -> 0.2" in plan
    assert copy.run("--set", "align.options.beta=0.2") == only("align", "evaluate", "report")


def test_a_raised_version_of_the_reward_stage_runs_reward_and_not_align(copy, raised):
    found = copy.run(**raised("reward"))
    assert found["reward"] and not found["align"] and not found["sft"]
    assert not found["evaluate"], "the reward model came out the same, so what uses it is found"


def test_force_runs_a_stage_again_and_what_follows_only_where_its_digest_changed(copy):
    assert copy.run("--force", "label") == only("label")


def test_from_runs_a_stage_and_everything_after_it(copy):
    assert copy.run("--from", "align") == only("align", "evaluate", "report")


def test_only_runs_one_stage(copy):
    found = copy.run("--only", "align", "--set", "align.options.beta=0.3")
    assert found["align"] and "evaluate" not in found and "reward" not in found


def test_a_flipped_byte_with_a_changed_time_runs_the_stage_again(copy, finished):
    flip(copy.artifact("sft") / "payload" / "model.safetensors", keep_time=False)
    output = copy("run", TINY)
    assert "changed on disk" in output and copy.digests() == finished.digests()


def test_a_flipped_byte_behind_its_time_is_found_where_it_is_loaded_and_repaired_in_the_same_run(copy, finished):
    flip(copy.artifact("sft") / "payload" / "model.safetensors", keep_time=True)
    output = copy("run", TINY, "--force", "align")
    assert "sft was damaged and runs again" in output and copy.digests() == finished.digests()


def test_verify_sets_a_flipped_byte_aside_with_what_was_derived_from_it(copy, finished):
    flip(copy.artifact("label") / "payload" / "preferences" / "train.parquet", keep_time=True)
    assert "preferences/train.parquet" in copy("verify", status=1)
    derived = ("reward", "reference", "align", "evaluate", "report")
    assert copy.run() == only("label", *derived) and copy.digests() == finished.digests()


def test_two_runs_at_the_same_time_do_the_work_once(empty):
    both = [empty.start("run", TINY, "--until", "sft") for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    ran = [
        line.split()[0]
        for output in outputs
        for line in output.splitlines()
        if len(line.split()) > 1 and line.split()[1] == "ran"
    ]
    assert sorted(ran) == ["init", "prepare", "sft"], outputs


def test_smoke_runs_every_stage_under_keys_of_its_own(copy):
    found = copy.run("--smoke")
    assert all(found[stage] for stage in STAGES if stage != "init") and copy.run() == only()


def test_dpo_on_ones_own_pairs_needs_no_judge_and_no_reward_model(finished, empty, tmp_path):
    rows = [{"prompt": f"Say {word}.", "chosen": f"{word}!", "rejected": "No."} for word in "abcdefghijklmnopqrstuvwx"]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "mine.yaml"
    model = finished.artifact("sft") / "payload"
    recipe.write_text(
        f"model: {{path: {model}}}\ndata: {{preferences: [{{path: pairs.jsonl}}], heldout_fraction: 0.3}}\n"
        "align: {max_steps: 3, batch_size: 4, max_length: 100}\nevaluate: null\nengine: {threads: 1}\n"
    )
    assert empty.run(recipe=recipe) == dict.fromkeys(("init", "prepare", "reference", "align", "report"), True)


def test_talking_to_two_models_side_by_side(finished):
    import subprocess
    import sys

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "alignflow",
            "chat",
            finished.artifact("sft").name[:12],
            finished.artifact("align").name[:12],
            "--max-new-tokens",
            "5",
        ],
        input="Hello?\n\n",
        capture_output=True,
        text=True,
        env=finished.environment(),
    )
    assert done.returncode == 0 and "sft-" in done.stdout and "align-" in done.stdout, done.stderr
