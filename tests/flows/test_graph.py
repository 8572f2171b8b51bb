"""The flow is exactly as long as the recipe needs, and every stage can be replaced."""

from dataclasses import replace

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.graph import nodes
from alignflow.flows.steps import Link, downstream, upstream

SOURCE = [{"path": "file.jsonl"}]


def recipe(**content):
    return Recipe.model_validate({"data": {"demonstrations": SOURCE}, **content})


def names(**content):
    return [node.name for node in nodes(recipe(**content))]


RUBRIC = [{"name": "judge", "options": {"judge": {"name": "rubric"}}}]
READER = {"name": "rubric", "options": {"constitution": "reader"}}
CASES = [
    ({}, "init prepare sft sample label reward reference align evaluate report"),
    ({"reward": None}, "init prepare sft sample label reference align evaluate report"),
    ({"sft": None}, "init prepare sample label reward reference align evaluate report"),
    ({"align": None, "report": None}, "init prepare sft"),
    ({"align": None, "reward": {}, "report": None}, "init prepare sft sample label reward"),
    ({"align": None, "label": {}, "reward": None, "report": None}, "init prepare sft sample label"),
    ({"align": None, "sample": {}, "label": None, "report": None}, "init prepare sft sample"),
    ({"align": None, "label": None, "sample": None, "report": None}, "init prepare sft"),
    (
        {"align": None, "reward": {}, "data": {"preferences": SOURCE}, "model": {"path": "m"}},
        "init prepare reward report",
    ),
    (
        {"align": {"method": "ppo", "options": {"rewards": RUBRIC}}, "label": None},
        "init prepare sft align evaluate report",
    ),
    ({"data": {"preferences": SOURCE}, "model": {"path": "m"}}, "init prepare reference align evaluate report"),
    (
        {"data": {"preferences": SOURCE}, "model": {"path": "m"}, "evaluate": None, "report": None},
        "init prepare reference align",
    ),
    (
        {"data": {"preferences": SOURCE}, "model": {"path": "m"}, "reward": {}},
        "init prepare reward reference align evaluate report",
    ),
    ({"replace": {"sft": "mine"}}, "sft prepare sample label reward reference align evaluate report"),
    ({"replace": {"label": "pairs.jsonl"}}, "init prepare sft reference align evaluate report"),
    ({"replace": {"sample": "answers.jsonl"}}, "init prepare sft label reward reference align evaluate report"),
    ({"replace": {"reward": "mine"}}, "init prepare sft sample label reward reference align evaluate report"),
    ({"replace": {"align": "mine"}}, "init prepare sft align evaluate report"),
    ({"replace": {"align": "mine"}, "reward": None}, "init prepare sft align evaluate report"),
    ({"replace": {"align": "mine"}, "label": None, "sample": None}, "init prepare sft align evaluate report"),
    ({"align": {"method": "ppo"}}, "init prepare sft sample label reward align evaluate report"),
    (
        {"align": {"method": "ppo", "options": {"rewards": RUBRIC}}, "reward": None},
        "init prepare sft align evaluate report",
    ),
    ({"align": {"method": "online_dpo"}}, "init prepare sft sample label reward align evaluate report"),
    (
        {"align": {"method": "nash_md", "options": {"judge": READER}}, "reward": None},
        "init prepare sft align evaluate report",
    ),
    (
        {"align": {"method": "on_policy_distillation", "options": {"teacher": "m"}}, "reward": None},
        "init prepare sft align evaluate report",
    ),
    ({"align": {"method": "ppo"}, "replace": {"reward": "mine"}}, "init prepare sft reward align evaluate report"),
    (
        {"align": {"method": "ppo"}, "data": {"preferences": SOURCE}, "model": {"path": "m"}},
        "init prepare reward align evaluate report",
    ),
]


@pytest.mark.parametrize(("content", "wanted"), CASES)
def test_the_flow_is_as_long_as_the_recipe_needs(content, wanted):
    assert names(**content) == wanted.split()


@pytest.mark.parametrize(("content", "wanted"), CASES)
def test_every_input_is_made_before_it_is_taken(content, wanted):
    made = set()
    for node in nodes(recipe(**content)):
        assert {link.node for link in node.inputs.values()} <= made
        made.add(node.name)


def test_a_replaced_stage_is_done_by_taking_in(**_):
    stages = {node.name: node.stage for node in nodes(recipe(replace={"sft": "m", "reward": "r", "align": "a"}))}
    assert (stages["sft"], stages["reward"], stages["align"]) == ("init", "adopt_reward", "init")


def test_dpo_takes_its_references_log_probabilities_as_an_artifact():
    steps = {node.name: node for node in nodes(recipe(align={"max_length": 99}))}
    assert steps["align"].inputs["policy"] == Link("sft") and steps["align"].inputs["reference"] == Link("reference")
    assert steps["reference"].inputs == {"checkpoint": Link("sft"), "preferences": Link("label", "preferences")}
    assert steps["reference"].config.max_length == 99


TEACHER = {"method": "gkd", "options": {"teacher": "m"}}


def test_gkd_takes_demonstrations_and_no_reference_and_nothing_is_labelled_for_it():
    assert names(align=TEACHER) == ["init", "prepare", "sft", "align", "evaluate", "report"]
    assert align_of(align=TEACHER).inputs == {
        "policy": Link("sft"),
        "demonstrations": Link("prepare", "demonstrations"),
    }


def test_npo_that_holds_by_a_kl_has_its_reference_beside_it_and_no_step_of_its_own():
    data = {"unpaired": SOURCE, "demonstrations": SOURCE}
    with_step, without = (
        names(data=data, reward=None, align={"method": "npo", "options": {"retain": retain}})
        for retain in ("nll", "kl")
    )
    assert "reference" in with_step and without == [name for name in with_step if name != "reference"]


def test_dro_v_takes_what_the_step_label_scored():
    align = align_of(align={"method": "dro_v"}, data={"prompts": SOURCE}, model={"path": "m"})
    assert align.inputs == {
        "policy": Link("init"),
        "reference": Link("reference"),
        "rankings": Link("label", "rankings"),
    }


@pytest.mark.parametrize(
    ("data", "link"),
    [
        ({"rankings": SOURCE, "preferences": SOURCE}, Link("prepare", "rankings")),
        ({"preferences": SOURCE}, Link("prepare", "preferences")),
        ({"prompts": SOURCE}, Link("label", "rankings")),
    ],
)
def test_d2o_takes_lists_before_pairs_with_the_references_scores_of_the_same(data, link):
    steps = {node.name: node for node in nodes(recipe(align={"method": "d2o"}, data=data, model={"path": "m"}))}
    kind = link.part
    assert steps["align"].inputs == {"policy": Link("init"), "reference": Link("reference"), kind: link}
    assert (
        steps["reference"].inputs == {"checkpoint": Link("init"), kind: link}
        and steps["reference"].config.family == "negatives"
    )


MIX = {"label": {"mix": "override"}, "model": {"path": "m"}}


@pytest.mark.parametrize("answers", [{"prompts": SOURCE}, {"completions": SOURCE}, {}])
def test_pairs_of_people_are_mixed_with_the_judges_where_that_is_asked_for(answers):
    steps = {node.name: node for node in nodes(recipe(data={"preferences": SOURCE, **answers}, **MIX))}
    assert steps["label"].inputs["preferences"] == Link("prepare", "preferences")
    assert steps["reference"].inputs["preferences"] == Link("label", "preferences")
    assert ("sample" in steps) == ("completions" not in answers) and "reward" in steps
    assert steps["reward"].inputs["preferences"] == Link("label", "preferences")


def test_methods_of_other_kinds_learn_from_the_mixed_pairs_or_are_refused():
    data = {"preferences": SOURCE, "prompts": SOURCE}
    steps = {node.name: node for node in nodes(recipe(data=data, align={"method": "kto"}, reward=None, **MIX))}
    assert steps["align"].inputs["preferences"] == Link("label", "preferences")
    assert "unpaired" not in steps["align"].inputs
    with pytest.raises(RecipeError, match="takes only rankings"):
        names(data=data, align={"method": "dro_v"}, reward=None, **MIX)


def test_without_mixing_pairs_of_people_are_all_there_is():
    assert "label" not in names(data={"preferences": SOURCE, "prompts": SOURCE}, model={"path": "m"})
    assert "preferences" not in {n.name: n for n in nodes(recipe())}["label"].inputs


def test_mixing_with_nothing_that_learns_from_pairs_is_refused():
    with pytest.raises(RecipeError, match="nothing to label and to learn from"):
        names(data={"preferences": SOURCE, "unpaired": SOURCE}, align={"method": "kto"}, reward=None, **MIX)


def test_a_reward_section_that_is_asked_for_is_trained_beside_a_method_that_has_its_own_data():
    assert names(align=TEACHER, reward={}) == [
        "init",
        "prepare",
        "sft",
        "sample",
        "label",
        "reward",
        "align",
        "evaluate",
        "report",
    ]


@pytest.mark.parametrize(
    "other", [{"options": {"beta": 0.2}}, {"learning_rate": 1e-3}, {"lora": {"r": 2}}, {"eval_steps": 5}, {"seed": 3}]
)
def test_nothing_about_the_training_is_part_of_the_reference(other):
    configs = [
        next(node.config for node in nodes(recipe(align=fields)) if node.name == "reference") for fields in ({}, other)
    ]
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"needs_reference": False}, False),
        ({"reference_tokens": True}, True),
    ],
)
def test_a_method_without_pairs_or_without_a_reference_has_no_such_step(changes, made, monkeypatch):
    monkeypatch.setitem(catalogue.METHODS, "dpo", replace(catalogue.METHODS["dpo"], **changes))
    steps = {node.name: node for node in nodes(recipe())}
    assert ("reference" in steps) is made and ("reference" in steps["align"].inputs) is made
    assert not made or steps["reference"].config.per_token


def align_of(**content):
    return next(node for node in nodes(recipe(**content)) if node.name == "align")


def test_ppo_takes_policy_reference_prompts_and_reward_model_and_no_preferences():
    align = align_of(align={"method": "ppo"})
    assert align.inputs == {
        "policy": Link("sft"),
        "reference": Link("sft"),
        "prompts": Link("prepare", "prompts"),
        "reward_model": Link("reward"),
    }


def test_ppo_takes_what_its_options_need():
    assert "reward_model" not in align_of(align={"method": "ppo", "options": {"rewards": RUBRIC}}).inputs
    assert align_of(align={"method": "ppo", "options": {"ptx_coefficient": 0.1}}).inputs["demonstrations"] == Link(
        "prepare", "demonstrations"
    )
    judged = [{"name": "judge", "options": {"judge": {"name": "reward_model"}}}]
    assert align_of(align={"method": "ppo", "options": {"rewards": judged}}).inputs["reward_model"] == Link("reward")
    started = {"rewards": RUBRIC, "init_value_from": "reward_model"}
    assert align_of(align={"method": "ppo", "options": started}).inputs["reward_model"] == Link("reward")


REWARD_DATA = [
    ({"loss": "ranking"}, {"demonstrations": SOURCE}, ("label", "rankings")),
    ({"loss": "pointwise"}, {"demonstrations": SOURCE}, ("label", "rankings")),
    ({"loss": "binary"}, {"demonstrations": SOURCE}, ("label", "unpaired")),
    ({"loss": "bradley_terry"}, {"demonstrations": SOURCE}, ("label", "preferences")),
    ({"loss": "ranking"}, {"rankings": SOURCE, "preferences": SOURCE}, ("prepare", "rankings")),
    ({"loss": "ranking"}, {"preferences": SOURCE}, ("prepare", "preferences")),
    ({"loss": "pointwise"}, {"rankings": SOURCE, "preferences": SOURCE}, ("prepare", "rankings")),
    ({"loss": "binary"}, {"unpaired": SOURCE, "demonstrations": SOURCE}, ("prepare", "unpaired")),
]


@pytest.mark.parametrize(("reward", "data", "wanted"), REWARD_DATA)
def test_a_reward_model_takes_the_data_of_its_loss_the_recipes_own_first(reward, data, wanted):
    steps = {node.name: node for node in nodes(recipe(reward=reward, data=data, model={"path": "m"}))}
    policy = "sft" if "demonstrations" in data else "init"
    assert steps["reward"].inputs == {"base": Link(policy), wanted[1]: Link(*wanted)}


def test_nothing_is_labelled_for_a_reward_model_that_has_data_of_its_own():
    data = {"unpaired": SOURCE, "demonstrations": SOURCE}
    order = names(reward={"loss": "binary"}, data=data, align={"method": "kto"}, evaluate=None)
    assert order == ["init", "prepare", "sft", "reward", "reference", "align", "report"]


@pytest.mark.parametrize(
    ("reward", "data", "said"),
    [
        ({"loss": "pointwise"}, {"preferences": SOURCE}, "pointwise needs scored answers"),
        ({}, {"unpaired": SOURCE}, "bradley_terry needs preference pairs"),
    ],
)
def test_a_reward_model_whose_data_is_missing_is_refused_once(reward, data, said):
    with pytest.raises(RecipeError, match=f"reward.loss {said}") as refused:
        nodes(recipe(reward=reward, data=data, model={"path": "m"}, align=None))
    assert "or data.prompts to sample and label" in str(refused.value)


def test_a_reward_model_judge_labels_with_the_users_reward_model():
    steps = nodes(recipe(label={"judge": {"name": "reward_model"}}, replace={"reward": "mine"}))
    order = [node.name for node in steps]
    assert order.index("reward") < order.index("label")
    assert next(node for node in steps if node.name == "label").inputs["reward_model"] == Link("reward")


def test_an_llm_judge_without_a_model_is_the_policy():
    label = next(node for node in nodes(recipe(label={"judge": {"name": "llm"}})) if node.name == "label")
    assert label.inputs["policy"] == Link("sft") and "reward_model" not in label.inputs


def test_the_seed_of_the_recipe_reaches_stages_that_set_none():
    configs = {node.name: node.config for node in nodes(recipe(seed=7, align={"seed": 3}))}
    assert configs["sft"].seed == configs["init"].seed == configs["sample"].seed == 7 and configs["align"].seed == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {}}, "tokenizer"),
        ({"data": {}, "model": {"path": "m"}}, "names no data"),
        ({"label": {"judge": {"name": "reward_model"}}}, "needs a reward model"),
        ({"evaluate": {"judges": [{"name": "rubric"}]}}, "shares"),
        ({"evaluate": {"judges": [{"name": "reward_model"}]}, "reward": None}, "needs a reward model"),
        ({"data": {"evaluation": SOURCE}, "model": {"path": "m"}}, "needs preferences"),
        (
            {"align": {"method": "ppo"}, "data": {"evaluation": SOURCE}, "model": {"path": "m"}},
            "ppo needs prompts to sample answers for",
        ),
        ({"align": {"method": "ppo"}, "reward": None}, "ppo needs a reward model"),
        ({"label": None}, r"label is null, but dpo learns from labelled answers\n.*or set data.preferences"),
        (
            {"label": None, "align": {"method": "ppo"}},
            "label is null, but the reward model learns from labelled answers",
        ),
        ({"label": None, "align": None, "revise": {}}, "nothing uses the revised answers"),
        ({"sample": None}, "sample is null, so there are no answers to label"),
        ({"sample": None, "rounds": {"number": 2}}, "sample is null, but each round samples"),
        ({"label": None, "align": {"method": "iterative_dpo"}}, "label is null, but each round samples"),
        (
            {"label": None, "align": {**TEACHER}, "data": {"prompts": SOURCE}, "model": {"path": "m"}},
            "gkd needs demonstrations",
        ),
        (
            {"label": None, "align": None, "judge_eval": {"data": SOURCE}},
            "label is null, so there is no judge to measure",
        ),
        ({"align": TEACHER, "data": {"prompts": SOURCE}, "model": {"path": "m"}}, "gkd needs demonstrations"),
        (
            {"align": {"method": "dro_v"}, "data": {"preferences": SOURCE}, "model": {"path": "m"}},
            "set data.rankings: pairs have no scores",
        ),
        (
            {"align": {"method": "dro_v"}, "data": {"evaluation": SOURCE}, "model": {"path": "m"}},
            "give data.rankings, or data.prompts to sample and label$",
        ),
        (
            {
                "align": {"method": "ppo", "options": {"ptx_coefficient": 1.0}},
                "data": {"prompts": SOURCE},
                "model": {"path": "m"},
            },
            "ppo needs demonstrations",
        ),
        ({"align": {"method": "ppo", "options": {"heldout_judge": {"name": "rubric"}}}}, "shares"),
        (
            {
                "align": {
                    "method": "ppo",
                    "options": {"heldout_judge": READER, "rewards": [{"name": "judge", "options": {"judge": READER}}]},
                }
            },
            "shares",
        ),
    ],
)
def test_a_recipe_that_lacks_something_is_refused(content, message):
    with pytest.raises(RecipeError, match=message):
        nodes(recipe(**content))


def test_upstream_and_downstream():
    steps = nodes(recipe())
    assert upstream(steps, "align") == {"init", "prepare", "sft", "sample", "label", "reference"}
    assert downstream(steps, "align") == {"evaluate", "report"}


def test_what_cannot_change_the_base_model_is_not_in_its_config():
    data = {"demonstrations": [{"path": "a.jsonl", "max_rows": 5, "weight": 0.5}]}
    built = nodes(recipe(data=data))[0].config
    assert built == nodes(recipe(data={"demonstrations": [{"path": "a.jsonl"}]}))[0].config
    loaded = nodes(recipe(data=data, model={"path": "m", "build": {"hidden_size": 64}}, seed=7))[0].config
    assert loaded == nodes(recipe(data=data, model={"path": "m"}))[0].config


def test_a_model_in_place_of_a_stage_keeps_what_the_recipe_says_of_its_model():
    taken = nodes(recipe(model={"licence": "MIT", "chat_template": "plain"}, replace={"sft": "mine"}))[0].config
    assert (taken.path, taken.licence, taken.chat_template) == ("mine", "MIT", "plain")


def test_the_corpus_of_a_built_model_is_the_revision_that_the_data_names_and_keeps_its_licence():
    source = {"path": "org/chats", "revision": "abc", "licence": "MIT", "max_rows": 5}
    corpus = nodes(recipe(data={"demonstrations": [source]}))[0].config.corpus
    assert [(each.path, each.revision, each.licence, each.max_rows) for each in corpus] == [
        ("org/chats", "abc", "MIT", None)
    ]


def test_a_corpus_of_ones_own_keeps_the_built_model_when_data_is_added():
    corpus = [{"path": "corpus.jsonl"}]

    def init(**content):
        return nodes(recipe(**content))[0].config

    more = {"data": {"demonstrations": SOURCE, "prompts": SOURCE}}
    assert init(model={"corpus": corpus}) == init(model={"corpus": corpus}, **more)
    assert init() != init(**more), "without one it is trained on all that the recipe has"


def test_answers_are_revised_between_sampling_and_labelling():
    made = {node.name: node for node in nodes(recipe(revise={}))}
    assert made["revise"].inputs == {"completions": Link("sample", "completions"), "policy": Link("sft")}
    assert made["label"].inputs["completions"] == Link("revise", "completions")
    own = {node.name: node for node in nodes(recipe(revise={"model": "elsewhere"}))}
    assert set(own["revise"].inputs) == {"completions"}


def test_a_jury_needs_what_its_members_need():
    judges = [{"name": "llm"}, {"name": "rubric"}, {"name": "rating", "options": {"model": "elsewhere"}}]
    label = next(
        node
        for node in nodes(recipe(label={"judge": {"name": "jury", "options": {"judges": judges}}}))
        if node.name == "label"
    )
    assert label.inputs["policy"] == Link("sft") and "reward_model" not in label.inputs


def test_a_rubric_in_a_jury_must_not_check_its_own_labels():
    jury = {"name": "jury", "options": {"judges": [{"name": "llm"}, {"name": "rubric"}]}}
    with pytest.raises(RecipeError, match="shares"):
        nodes(recipe(label={"judge": jury}, evaluate={"judges": [{"name": "rubric"}]}))
