"""The stage `merge`: what two adapters changed becomes one model, matrix by matrix; values by hand."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("peft")

from alignflow.data.adapters import is_adapter
from alignflow.data.artifacts import payload_files
from alignflow.data.configs.merging import MergeConfig
from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import ModelError
from alignflow.data.run import Runtime
from alignflow.models.adapters import adapted_matrices, add_adapter, attach, save_model
from alignflow.models.batching import EncodedRow
from alignflow.models.export import export
from alignflow.models.merged_adapters import merge_adapters, merge_deltas
from alignflow.models.policy import load_policy

QUERY = "model.layers.0.self_attn.q_proj"
VALUE = "model.layers.0.self_attn.v_proj"
ROWS = [EncodedRow((4, 9, 20), (30, 31, 1)), EncodedRow((4,), (7, 8, 9, 10, 11, 1))]


@pytest.fixture
def adapter(tiny_checkpoint, new_run):
    """Make an adapter whose product of factors has the entries that are given: module -> {(row, column): value}; rank and scale vary."""

    def make(name, deltas, r, lora_alpha, modules, base=tiny_checkpoint):
        policy, config = load_policy(base, Runtime(), trainable=True), {"r": r, "lora_alpha": lora_alpha}
        add_adapter(policy, SFTConfig(lora={**config, "target_modules": modules}), base)
        out = new_run(name).out
        save_model(policy, out, {"Adapter": "for a test"})
        factors = load_file(out / "adapter_model.safetensors")
        for tensor in factors.values():
            tensor.zero_()
        for module, entries in deltas.items():
            first, second = (factors[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
            for place, ((row, column), value) in enumerate(entries.items()):
                first[place, column], second[row, place] = 1.0, value * r / lora_alpha
        save_file(factors, out / "adapter_model.safetensors")
        return out

    return make


@pytest.fixture
def pair(adapter):
    """Two adapters of different ranks, scales and modules that disagree about one entry."""
    return {
        "sft": adapter("sft", {QUERY: {(0, 0): 2.0, (1, 0): -4.0}}, 2, 8, ["q_proj"]),
        "aligned": adapter(
            "align", {QUERY: {(0, 0): -1.0, (0, 1): 3.0}, VALUE: {(2, 2): 5.0}}, 3, 3, ["q_proj", "v_proj"]
        ),
    }


def changed(out, base):
    """Module -> {(row, column): change} of the entries that differ from the base's."""
    before, after = (load_file(path / "model.safetensors") for path in (base, out))
    assert before.keys() == after.keys()
    found = {}
    for name, tensor in after.items():
        delta = tensor - before[name]
        if entries := {
            tuple(place): pytest.approx(float(delta[*place]), abs=1e-5) for place in delta.nonzero().tolist()
        }:
            found[name.removesuffix(".weight")] = entries
    return found


@pytest.mark.parametrize(
    ("fields", "query", "value"),
    [
        ({"method": "linear"}, {(0, 0): 1.0, (1, 0): -4.0, (0, 1): 3.0}, 5.0),
        ({"method": "linear", "sft_weight": 0.5, "align_weight": 2.0}, {(0, 0): -1.0, (1, 0): -2.0, (0, 1): 6.0}, 10.0),
        (
            {"method": "ties", "density": 1.0},
            {(0, 0): 2.0, (1, 0): -4.0, (0, 1): 3.0},
            5.0,
        ),  # 2 - 1 is positive: -1 is left out
        ({"method": "ties", "density": 1.0, "sft_weight": 0.5}, {(0, 0): 1.0, (1, 0): -2.0, (0, 1): 3.0}, 5.0),
        (
            {"method": "ties", "density": 1.0, "sft_weight": 0.5, "divisor": "weight"},
            {(0, 0): 2.0, (1, 0): -4.0, (0, 1): 3.0},
            5.0,
        ),
        ({"method": "dare_linear", "density": 1.0}, {(0, 0): 1.0, (1, 0): -4.0, (0, 1): 3.0}, 5.0),
        ({"method": "dare_ties", "density": 1.0}, {(0, 0): 2.0, (1, 0): -4.0, (0, 1): 3.0}, 5.0),
    ],
)
def test_the_base_gets_the_merged_changes(fields, query, value, pair, tiny_checkpoint, new_run):
    run = new_run()
    merge_adapters(MergeConfig(**fields), base=tiny_checkpoint, **pair, run=run)
    assert changed(run.out, tiny_checkpoint) == {QUERY: query, VALUE: {(2, 2): value}}
    assert not is_adapter(run.out) and not run.warnings


def test_metrics_are_those_of_both_changes_over_all_adapted_matrices(pair, tiny_checkpoint, new_run):
    run = new_run()
    metrics = merge_adapters(MergeConfig(method="linear"), base=tiny_checkpoint, **pair, run=run)
    shapes = {name: load_file(tiny_checkpoint / "model.safetensors")[f"{name}.weight"].shape for name in (QUERY, VALUE)}
    entries = 2 * sum(shape.numel() for shape in shapes.values())  # of two layers
    assert metrics == pytest.approx(
        {
            "sparsity/sft": 1 - 2 / entries,
            "sparsity/align": 1 - 3 / entries,
            "sparsity/merged": 1 - 4 / entries,
            "sign_conflicts": 1.0,  # the one entry that both changed
            "norm/sft": 20**0.5,
            "norm/align": 35**0.5,
            "norm/merged": (1 + 16 + 9 + 25) ** 0.5,
            "cosine": -2 / (20 * 35) ** 0.5,
        }
    )
    written = json.loads((run.out / "merge.json").read_text())
    assert written["metrics"] == metrics and written["method"] == "linear"
    first = next(row for row in written["matrices"] if row["matrix"] == VALUE)
    assert first["entries"] == shapes[VALUE].numel() and first["norm/align"] == pytest.approx(5)
    assert (first["norm/sft"], first["sign_conflicts"], first["cosine"]) == (0.0, None, None)


def test_an_adapter_of_weight_0_leaves_the_other_one_as_it_is(pair, tiny_checkpoint, new_run):
    run = new_run()
    merge_adapters(MergeConfig(method="linear", align_weight=0.0), base=tiny_checkpoint, **pair, run=run)
    alone, merged = (load_policy(path, Runtime()) for path in (pair["sft"], run.out))
    with torch.no_grad():
        torch.testing.assert_close(*(policy.token_statistics(ROWS).logps for policy in (merged, alone)))


def test_what_comes_out_is_exported_as_it_is(pair, tiny_checkpoint, new_run, tmp_path):
    run = new_run()
    merge_adapters(MergeConfig(density=1.0), base=tiny_checkpoint, **pair, run=run)
    export(run.out, tmp_path / "model")
    assert changed(tmp_path / "model", tiny_checkpoint) == changed(run.out, tiny_checkpoint)


@pytest.mark.parametrize(("method", "theirs"), [("linear", "svd"), ("ties", "ties_svd")])
@pytest.mark.filterwarnings("ignore")
def test_whole_changes_are_merged_as_peft_merges_them(method, theirs, pair, tiny_checkpoint):
    wrapped = attach(load_policy(tiny_checkpoint, Runtime()).model, {"sft": pair["sft"], "align": pair["aligned"]})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        both = {"density": 0.5} if method == "ties" else {}
        wrapped.add_weighted_adapter(["sft", "align"], [0.7, 1.3], "both", combination_type=theirs, svd_rank=32, **both)
        config = MergeConfig(method=method, sft_weight=0.7, align_weight=1.3, **both)
        shared = [matrix for matrix in adapted_matrices(wrapped) if matrix.name.endswith("q_proj")]
        for matrix in shared:
            ours = merge_deltas([matrix.delta("sft"), matrix.delta("align")], config, torch.Generator())
            torch.testing.assert_close(ours, matrix.delta("both"), atol=1e-4, rtol=1e-4)
    assert len(shared) == 2


def test_ties_keeps_the_largest_entries_of_each():
    deltas = [torch.tensor([[4.0, -3.0, 1.0, 0.0]]), torch.tensor([[-5.0, 0.0, 2.0, 6.0]])]
    merged = merge_deltas(deltas, MergeConfig(density=0.5), torch.Generator())
    assert merged.tolist() == [[-5.0, -3.0, 0.0, 6.0]]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_drops_by_the_seed_and_scales_up_the_rest(method, adapter, tiny_checkpoint, new_run):
    entries = {QUERY: {(row, row): 1.0 for row in range(16)}}
    pair = {name: adapter(name, entries, 16, 16, ["q_proj"]) for name in ("sft", "aligned")}

    def merged(name, seed):
        run = new_run(name)
        merge_adapters(MergeConfig(method=method, density=0.5, seed=seed), base=tiny_checkpoint, **pair, run=run)
        return {file: (run.out / file).read_bytes() for file in payload_files(run.out)}, changed(
            run.out, tiny_checkpoint
        )

    once, found = merged("once", 1)
    again, other = merged("again", 1)[0], merged("other", 2)[1]
    assert once == again and found.keys() == other.keys() and found != other
    values = {round(value.expected, 3) for value in found[QUERY].values()}
    assert values == ({2.0, 4.0} if method == "dare_linear" else {2.0}), (
        "each kept entry counts 1 / 0.5; TIES takes the mean"
    )


def test_an_adapter_that_changes_nothing_is_told(pair, adapter, tiny_checkpoint, new_run):
    run, empty = new_run(), adapter("empty", {}, 2, 4, ["q_proj"])
    metrics = merge_adapters(MergeConfig(density=1.0), base=tiny_checkpoint, sft=pair["sft"], aligned=empty, run=run)
    assert run.warnings == ["the adapter of align changes nothing: the merge contains only the other one"]
    assert metrics["cosine"] is None and metrics["sign_conflicts"] is None and metrics["sparsity/align"] == 1.0


def test_a_whole_model_is_no_adapter(pair, tiny_checkpoint, new_run):
    with pytest.raises(ModelError, match=r"the model of align is not an adapter(.|\n)*set align.lora"):
        merge_adapters(MergeConfig(), base=tiny_checkpoint, sft=pair["sft"], aligned=tiny_checkpoint, run=new_run())


def test_adapters_of_different_bases_are_not_merged(pair, adapter, tiny_checkpoint, new_run, tmp_path):
    base = shutil.copytree(tiny_checkpoint, tmp_path / "second_base")
    weights = load_file(base / "model.safetensors")
    save_file({name: weight * 2 for name, weight in weights.items()}, base / "model.safetensors", {"format": "pt"})
    other = adapter("other", {QUERY: {(0, 0): 1.0}}, 1, 1, ["q_proj"], base=base)
    with pytest.raises(ModelError, match=r"the adapter of sft was trained on .*second_base, not on"):
        merge_adapters(MergeConfig(), base=tiny_checkpoint, sft=other, aligned=pair["aligned"], run=new_run())
