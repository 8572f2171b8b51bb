"""The small version of benchmarks/mutations.py: what changes results is flagged for every stage that reaches it, what is unused for none."""

import random

import mutations
import pytest

from alignflow.tasks.keys.fingerprint import Parts
from alignflow.tasks.keys.reach import Definition, tables_in


@pytest.fixture(scope="module")
def parts():
    return Parts()


@pytest.fixture(scope="module")
def stages(parts):
    return mutations.Stages(parts)


KNOWN = {  # what went unnoticed once, and what much stands on
    ("alignflow.models.generation.transformers_generator", "TransformersGenerator"): {
        "sample",
        "label",
        "evaluate",
        "align",
    },
    ("alignflow.models.generation.drawing", "draw"): {"sample", "label", "evaluate", "align"},
    ("alignflow.models.generation.kv_cache", "make_cache"): {"sample", "label", "evaluate", "align"},
    ("alignflow.models.engines.torch_engine", "TorchEngine"): {"sft", "reward", "align"},
    ("alignflow.models.engines.deepspeed_engine", "DeepSpeedEngine"): {"sft", "reward", "align"},
    ("alignflow.models.engines.base", "make_optimizer"): {"sft", "reward", "align"},
    ("alignflow.models.trainers.fit", "fit"): {"sft", "reward", "align"},
    ("alignflow.models.generation.sample", "sample_rows"): {"sample", "evaluate"},
    ("alignflow.data.records", "row_id"): {"prepare", "sample", "label", "reference", "evaluate"},
}


@pytest.mark.parametrize(("module", "name"), KNOWN, ids=lambda value: value.rpartition(".")[2])
def test_a_change_is_flagged_for_every_stage_that_reaches_it(parts, stages, module, name):
    change = mutations.mutate(module, parts.code.source(module), {name}, random.Random(0))
    reach = stages.that_reach(Definition(module, change.definition))
    assert KNOWN[module, name] <= reach, "what reaches it is known"
    assert reach <= stages.flagged(change)[1], change.where


def test_a_doubled_learning_rate_in_the_torch_engine_is_flagged(parts, stages):
    module = "alignflow.models.engines.torch_engine"
    source = parts.code.source(module)
    change = mutations.Change(
        module, "", source.replace('group["lr"] = learning_rate', 'group["lr"] = 2 * learning_rate')
    )
    assert change.text != source and stages.flagged(change)[0] == {"engines.torch"}


def test_a_row_of_the_catalogue_is_part_of_what_its_version_stands_for(parts, stages):
    module = "alignflow.data.catalogue.methods"
    source = parts.code.source(module)
    changed = source.replace(
        '"Direct Preference Optimization."', '"Direct Preference Optimization.", needs_reference=False'
    )
    assert changed != source and stages.flagged(mutations.Change(module, "", changed))[0] == {"methods.dpo"}
    for told in ('"Another summary."', '"Direct Preference Optimization.", version="9"'):
        changed = source.replace('"Direct Preference Optimization."', told)
        assert changed != source and stages.flagged(mutations.Change(module, "", changed))[0] == set()


def test_an_unused_class_beside_the_options_is_flagged_for_nobody(parts, stages):
    module = "alignflow.data.configs.options"
    change = mutations.Change(
        module, "", parts.code.source(module) + "\n\nclass NewOptions(StageConfig):\n    rate: float = 0.1\n"
    )
    assert stages.flagged(change)[0] == set()


def test_unused_additions_are_flagged_for_nobody(parts, stages):
    changes = list(mutations.additions(stages, parts.code, random.Random(1), count=5))
    assert [change.where for change in changes if stages.flagged(change)[0]] == []


def test_every_reached_module_has_something_to_change(parts, stages):
    changed = {change.module for change in mutations.mutations(stages, parts.code, random.Random(0))}
    bare = {node.module for node in stages.reached} - changed
    of_imports = {"alignflow.data.row_process"}  # it imports what its processes need, and has no definition
    tables = {module for module in bare if tables_in(module)} | {"alignflow.models.losses"}
    assert bare - of_imports <= tables, "a module of tables has nothing else"
