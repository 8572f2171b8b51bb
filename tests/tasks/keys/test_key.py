"""Equal keys mean equal results: what changes a result changes the key, and nothing else does."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_directory_support import write_weights
from safetensors.torch import save_file

from alignflow.data import catalogue
from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig, LabelConfig, ReportConfig, SampleConfig
from alignflow.data.configs.inputs import InitConfig, PrepareConfig, SourceConfig
from alignflow.data.configs.training import AlignConfig, LoRAConfig, ReferenceConfig, SFTConfig
from alignflow.data.configs.unpaired import KTOOptions
from alignflow.data.errors import ModelError, UserError
from alignflow.data.run import Runtime
from alignflow.data.shared_parts import VERSIONED
from alignflow.tasks.keys import versions
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.key import bound_parts, difference, stage_key
from alignflow.tasks.launch.stage import rows_name
from alignflow.tasks.store.artifact_store import ArtifactStore


@pytest.fixture
def key(store):
    contents = ContentDigests(store.root)

    def of(stage, config, runtime=None, **inputs):
        refs = {name: ArtifactRef(kind="dataset", key="any", digest=digest) for name, digest in inputs.items()}
        return stage_key(stage, config, refs, runtime or Runtime(), contents)[0]

    return of


def test_a_key_is_the_stage_and_forty_hex_digits(key):
    assert key("sft", SFTConfig()).startswith("sft-") and len(key("sft", SFTConfig())) == 44


@pytest.mark.parametrize(
    "other",
    [
        SFTConfig(learning_rate=1e-3),
        SFTConfig(seed=1),
        SFTConfig(num_train_epochs=2),
        SFTConfig(weight_decay=0.1),
        SFTConfig(lora=LoRAConfig()),
        SFTConfig(eval_steps=5),
    ],
)
def test_what_changes_the_result_changes_the_key(key, other):
    assert key("sft", other) != key("sft", SFTConfig())


@pytest.mark.parametrize(
    "other", [SFTConfig(logging_steps=1), SFTConfig(save_steps=7), SFTConfig(gradient_checkpointing=True)]
)
def test_what_changes_no_result_does_not(key, other):
    assert key("sft", other) == key("sft", SFTConfig())


def test_inputs_count_by_digest(key):
    assert key("sft", SFTConfig(), base="a") != key("sft", SFTConfig(), base="b")


def test_engine_and_precision_count_but_not_threads_tokens_or_device(key):
    base = key("sft", SFTConfig(), Runtime(engine="torch"))
    assert key("sft", SFTConfig(), Runtime(engine="deepspeed")) != base
    assert key("sft", SFTConfig(), Runtime(precision="bf16")) != base
    assert key("sft", SFTConfig(), Runtime(threads=4, micro_batch_tokens=64, zero_stage=2)) == base


def test_the_engine_of_training_does_not_touch_stages_that_do_not_train(key):
    assert key("label", LabelConfig(), Runtime(engine="torch")) == key(
        "label", LabelConfig(), Runtime(engine="deepspeed")
    )


def test_a_path_counts_by_its_bytes(key, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("same" if name != "c" else "other")
    keys = [
        key("prepare", PrepareConfig(prompts=(SourceConfig(path=str(tmp_path / name)),))) for name in ("a", "b", "c")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_an_adapter_of_others_counts_with_its_base(key, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "../base"}')
    write_weights(tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "base" / "model.safetensors").write_text("one")
    before = key("init", InitConfig(path=str(tmp_path / "adapter")))
    (tmp_path / "base" / "model.safetensors").write_text("two!")
    assert key("init", InitConfig(path=str(tmp_path / "adapter"))) != before


def test_scores_of_a_reference_depend_on_precision_and_on_no_engine(key):
    base = key("reference", ReferenceConfig())
    assert key("reference", ReferenceConfig(), Runtime(precision="bf16")) != base
    assert key("reference", ReferenceConfig(), Runtime(engine="deepspeed", generator="other")) == base


def test_a_changed_file_is_seen_though_its_digest_is_remembered(key, tmp_path):
    file = tmp_path / "data"
    file.write_text("one")
    config = PrepareConfig(prompts=(SourceConfig(path=str(file)),))
    before = key("prepare", config)
    file.write_text("two!")
    assert key("prepare", config) != before


def test_a_path_that_does_not_exist_is_the_users_mistake(key):
    with pytest.raises(UserError, match="no such file"):
        key("init", InitConfig(path="./nowhere"))


def test_a_default_that_is_written_out_changes_nothing(key):
    written = LabelConfig(judge=JudgeConfig(name="rubric", options={"constitution": "helpful", "temperature": 0.1}))
    assert key("label", written) == key("label", LabelConfig())


def test_a_rubric_counts_by_its_content_with_its_lexicons(key, tmp_path):
    rubric, lexicon = tmp_path / "my.yaml", tmp_path / "words.txt"
    rubric.write_text("name: my\nprinciples:\n  - {name: a, kind: sentiment, options: {lexicon: words.txt}}\n")
    config = LabelConfig(judge=JudgeConfig(options={"constitution": str(rubric)}))
    lexicon.write_text("good\t1\n")
    before = key("label", config)
    lexicon.write_text("good\t1\nbad\t-1\n")
    assert key("label", config) != before


def test_a_teacher_counts_by_its_content_and_not_by_its_path(key, tmp_path):
    def of(name, content):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        save_file({"w": torch.full((1,), content)}, directory / "model.safetensors")
        (directory / "config.json").write_text('{"model_type": "llama"}')
        (directory / "tokenizer.json").write_text("{}")
        return key("align", AlignConfig(method="gkd", options={"teacher": str(directory)}))

    assert of("one", 1.0) == of("two", 1.0) != of("three", 2.0)
    (tmp_path / "one" / "config.json").unlink()
    with pytest.raises(ModelError, match="no config.json"):
        key("align", AlignConfig(method="gkd", options={"teacher": str(tmp_path / "one")}))


def test_a_users_own_judge_enters_by_its_source(key, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_judge.py").write_text("class Mine: pass\n")
    config = LabelConfig(judge=JudgeConfig(name="own_judge:Mine"))
    before = key("label", config)
    (tmp_path / "own_judge.py").write_text("class Mine: x = 12\n")
    assert key("label", config) != before


def test_a_users_own_loss_enters_by_its_source_and_changes_no_step_before_it(key, tmp_path):
    text = (
        'from alignflow.models.losses import method\n@method(family="unpaired")\ndef mine(batch, options): return {}\n'
    )

    def keys(number, place="a"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "own.py").write_text(text.format(number))
        config = AlignConfig(method=f"{tmp_path / place / 'own.py'}:mine")
        return key("align", config), key("reference", ReferenceConfig(family="unpaired")), set(bound_parts(config))

    before, reference, parts = keys(1)
    assert keys(2)[0] != before and keys(2)[1] == reference, "an edit runs align again, and nothing else"
    assert keys(1, "b")[0] == before, "the folder may move"
    assert [(table, name) for table, name, _ in parts] == [("families", "unpaired")]


def test_what_a_users_own_loss_takes_from_alignflow_counts_too(key, tmp_path, monkeypatch):
    head = "from alignflow.models.losses import kto, method\nfrom alignflow.data.configs.unpaired import KTOOptions\n"
    step = 'whole_step="alignflow.models.losses.step_scalars:kto_step"'
    loss = f'@method(family="unpaired", options=KTOOptions, {step})\ndef mine(batch, options): return kto(batch, options)\n'
    (tmp_path / "own.py").write_text(head + loss)
    config = AlignConfig(method=f"{tmp_path / 'own.py'}:mine")
    before = key("align", config)
    assert {"methods.kto", "families.unpaired"} == {f"{table}.{name}" for table, name, _ in bound_parts(config)}
    monkeypatch.setitem(catalogue.METHODS, "kto", replace(catalogue.METHODS["kto"], version="changed"))
    assert key("align", config) != before
    monkeypatch.undo()
    monkeypatch.setattr(KTOOptions.model_fields["beta"], "default", 0.7)
    assert key("align", config) != before, "a default of a class of alignflow changed"


JUDGED = {"name": "judge", "options": {"judge": {"name": "rubric"}}}
MEASURED = {"name": "function", "options": {"function": "own_reward:score"}}


def test_a_reward_function_enters_by_its_name_and_its_source(key, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_reward.py").write_text("def score(prompt, completion, row): return 1.0\n")

    def of(name):
        rewards = [{"name": "function", "options": {"function": f"own_reward:{name}"}}]
        return key("align", AlignConfig(method="ppo", options={"rewards": rewards}))

    before = of("score")
    assert of("other") != before
    (tmp_path / "own_reward.py").write_text("def score(prompt, completion, row): return 2.00\n")
    assert of("score") != before


def test_a_method_that_samples_has_its_generator_in_the_key(key):
    ppo = AlignConfig(method="ppo")
    assert key("align", ppo, Runtime(generator="other")) != key("align", ppo)
    assert key("align", AlignConfig(), Runtime(generator="other")) == key("align", AlignConfig())


def test_options_that_only_show_do_not_change_the_key(key):
    assert key("align", AlignConfig(method="ppo", options={"samples_steps": 3})) == key(
        "align", AlignConfig(method="ppo")
    )
    assert key("align", AlignConfig(method="ppo", options={"lam": 0.9})) != key("align", AlignConfig(method="ppo"))


def test_checks_enter_by_name_and_options_and_a_schema_by_its_content(key, tmp_path):
    def of(name, **options):
        check = {"name": "verifier", "options": {"verifier": {"name": name, "options": options}}}
        return key("align", AlignConfig(method="ppo", options={"rewards": [check]}))

    schema = tmp_path / "schema.json"
    schema.write_text("{}")
    keys = [of("numeric_answer"), of("numeric_answer", tolerance=0.5), of("exact_answer")]
    keys.append(of("json_schema", schema_file=str(schema)))
    schema.write_text('{"type": "object"}')
    keys.append(of("json_schema", schema_file=str(schema)))
    assert len(set(keys)) == 5 and of("numeric_answer", tolerance=0.0) == keys[0], (
        "a default that is written out is no change"
    )


def test_the_versions_of_bound_parts_enter(key):
    names = {f"{table}.{name}" for table, name, _ in bound_parts(AlignConfig())}
    assert names == {"methods.dpo", "families.pairs"}
    ppo = {
        f"{table}.{name}"
        for table, name, _ in bound_parts(AlignConfig(method="ppo", options={"rewards": [JUDGED, MEASURED]}))
    }
    assert ppo == {
        "methods.ppo",
        "families.online",
        "advantages.gae",
        "policy_losses.clip",
        "rewards.judge",
        "rewards.function",
        "judges.rubric",
    }
    evaluate = EvaluateConfig(judges=(JudgeConfig(name="llm"),), evaluators=("kl",))
    assert {f"{table}.{name}" for table, name, _ in bound_parts(evaluate)} == {"judges.llm", "evaluators.kl"}
    auto = PrepareConfig(prompts=(SourceConfig(path="x"),))
    assert "formats.alpaca" in {f"{table}.{name}" for table, name, _ in bound_parts(auto)}


def test_a_difference_names_the_component_and_both_values():
    assert difference({"config.align.beta": 0.2, "a": 1}, {"config.align.beta": 0.1, "a": 1}) == [
        "config.align.beta 0.1 -> 0.2"
    ]


def test_a_difference_calls_files_by_their_names():
    """The key knows them by the digests of their contents, which say nothing to a person."""
    one, other = ({"config.data.0.path": digit * 64} for digit in "ab")
    configs = [{"data": [{"path": f"../pairs/{name}.jsonl"}]} for name in ("new", "old")]
    assert difference(one, other, configs) == ["config.data.0.path old.jsonl -> new.jsonl"]
    assert difference(one, other, configs[:1] * 2) == ["config.data.0.path new.jsonl, whose content changed"]
    assert difference(one, {}, (configs[0], {})) == ["config.data.0.path (default) -> new.jsonl"]


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(1e-7, 1.0), steps=st.integers(-1, 1000), seed=st.integers(0, 2**31))
def test_a_config_has_the_same_key_after_json(tmp_path_factory, rate, steps, seed):
    config = SFTConfig(learning_rate=rate, max_steps=steps, seed=seed)
    again = SFTConfig.model_validate_json(config.model_dump_json())
    contents = ContentDigests(tmp_path_factory.mktemp("contents"))
    assert stage_key("sft", config, {}, Runtime(), contents) == stage_key("sft", again, {}, Runtime(), contents)


def test_a_chat_template_counts_by_its_name_or_by_the_bytes_of_its_file(key, tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("{{ one }}")
    before = key("init", InitConfig(chat_template=str(file)))
    file.write_text("{{ other }}")
    assert key("init", InitConfig(chat_template=str(file))) != before
    assert key("init", InitConfig(chat_template="plain")) != key("init", InitConfig(chat_template="chatml"))


def test_the_revision_of_a_hub_id_counts_by_its_commit(key, monkeypatch):
    commits = {None: "aaa", "main": "aaa", "v2": "bbb"}
    monkeypatch.setattr(ContentDigests, "_hub", lambda self, name, revision: f"hub:{name}@{commits[revision]}")
    by_revision = {revision: key("init", InitConfig(path="some/model", revision=revision)) for revision in commits}
    assert by_revision[None] == by_revision["main"] != by_revision["v2"]


def test_a_field_that_a_new_version_adds_at_its_default_leaves_the_key_alone(key):
    class Newer(SFTConfig):
        """What a later alignflow may have: a new field, a new section, a new list."""

        patience: int | None = None
        section: LabelConfig = LabelConfig()
        names: tuple[str, ...] = ("a",)

    unlike = {"config.section.judge.options.constitution"}  # bytes that a field names always count

    def components(config):
        contents = ContentDigests(ArtifactStore().root)
        return {
            name: value
            for name, value in stage_key("sft", config, {}, Runtime(), contents)[1].items()
            if name.startswith("config.")
        }

    assert set(components(Newer())) - set(components(SFTConfig())) <= unlike
    assert components(Newer(patience=3)) != components(Newer()) != components(Newer(names=()))
    assert components(Newer(section=LabelConfig(batch_size=1, seed=1))) != components(Newer())


def test_a_section_that_is_there_differs_from_none_and_a_list_by_its_length(key):
    assert key("sft", SFTConfig(lora={})) != key("sft", SFTConfig())
    one, two = (InitConfig(corpus=(SourceConfig(path=__file__),) * count) for count in (1, 2))
    assert key("init", one) != key("init", two)


@pytest.fixture
def raised(monkeypatch):
    """A function that raises the version of a part."""

    def to(part, version):
        table, _, name = part.partition(".")
        rows = VERSIONED[table]
        monkeypatch.setitem(VERSIONED, table, {**rows, name: replace(rows[name], version=version)})

    return to


PPO = AlignConfig(method="ppo")
LLM = LabelConfig(judge=JudgeConfig(name="llm"))


@pytest.mark.parametrize(
    ("part", "stage", "config", "runtime"),
    [
        ("stages.sample", "evaluate", EvaluateConfig(), Runtime()),  # it samples
        ("generators.transformers", "sample", SampleConfig(), Runtime()),
        ("generators.transformers", "label", LLM, Runtime()),
        ("generators.transformers", "evaluate", EvaluateConfig(), Runtime()),
        ("generators.transformers", "align", PPO, Runtime()),
        ("engines.torch", "sft", SFTConfig(), Runtime(engine="torch")),
        ("engines.deepspeed", "align", AlignConfig(), Runtime(engine="deepspeed")),
        ("parts.training", "sft", SFTConfig(), Runtime()),
        ("parts.training", "align", AlignConfig(), Runtime()),  # by the trainer that its method names
        ("parts.forward", "align", PPO, Runtime()),
        ("parts.rendering", "prepare", PrepareConfig(), Runtime()),
        ("parts.rendering", "label", LLM, Runtime()),  # by the judge
        ("parts.judging", "evaluate", EvaluateConfig(), Runtime()),
        ("parts.process", "report", ReportConfig(), Runtime()),
    ],
)
def test_a_stage_inherits_the_version_of_what_it_reaches(key, raised, part, stage, config, runtime):
    raised(part, "1")
    before = key(stage, config, runtime)
    raised(part, "a version of this test")
    assert key(stage, config, runtime) != before


@pytest.mark.parametrize(
    ("part", "stage", "config", "runtime"),
    [
        ("engines.deepspeed", "sft", SFTConfig(), Runtime(engine="torch")),
        ("engines.torch", "sft", SFTConfig(), Runtime(engine="deepspeed")),
        ("engines.torch", "sample", SampleConfig(), Runtime(engine="torch")),
        ("generators.transformers", "sft", SFTConfig(), Runtime()),
        ("generators.transformers", "align", AlignConfig(), Runtime()),  # its method does not sample
        ("parts.training", "prepare", PrepareConfig(), Runtime()),
        ("parts.reward_model", "sft", SFTConfig(), Runtime()),
    ],
)
def test_a_stage_has_no_part_of_the_version_of_what_it_does_not_reach(key, raised, part, stage, config, runtime):
    before = key(stage, config, runtime)
    raised(part, "2")
    assert key(stage, config, runtime) == before


def test_rows_of_a_journal_are_not_taken_over_from_an_inherited_version(store, raised):
    def rows():
        return rows_name("sample", stage_key("sample", SampleConfig(), {}, Runtime(), ContentDigests(store.root))[1])

    before = rows()
    raised("generators.transformers", "a version of this test")
    assert rows() != before


def test_a_part_that_the_lock_file_does_not_know_is_looked_up_in_the_source(monkeypatch):
    known = versions.recorded()
    monkeypatch.setattr(
        versions, "recorded", lambda: {name: entry for name, entry in known.items() if name != "methods.dpo"}
    )
    assert versions.reached_parts.__wrapped__() == {name: entry["reaches"] for name, entry in known.items()}
