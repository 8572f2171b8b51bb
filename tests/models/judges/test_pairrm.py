"""A pairwise model: the exact input, both orders, and no label where there is none."""

import pytest
import torch
from judge_support import pair
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.errors import ModelError
from alignflow.models.judges.base import make_judge

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "user", ":", "which", "one", "good", "bad", "fine", "[", "]", "SEP"]


@pytest.fixture
def model(tmp_path):
    def make(labels=1):
        torch.manual_seed(0)
        shape = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
            num_labels=labels,
            initializer_range=0.5,
            pad_token_id=0,
        )
        BertForSequenceClassification(shape).save_pretrained(tmp_path / "model")
        tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        ).save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return make


def judge(model, run, **options):
    config = JudgeConfig(name="pairrm", options={"model": model, **options})
    return make_judge(config, policy=None, reward_model=None, run=run)


def test_the_verdict_is_the_mean_of_both_orders_as_the_model_alone_says_it(model, new_run):
    path = model()
    alone = BertForSequenceClassification.from_pretrained(path).eval()

    def logit(*parts):
        ids = [2]
        for part in parts:
            ids += [*[WORDS.index(word) for word in part.split()], 3]
        with torch.no_grad():
            return torch.sigmoid(alone(torch.tensor([ids])).logits[0, 0]).item()

    (verdict,) = judge(path, new_run()).compare([pair("good one", "bad", "which one")])
    given = logit("user : which one", "good one", "bad")
    swapped = logit("user : which one", "bad", "good one")
    assert verdict.orders == (pytest.approx(given, abs=1e-5), pytest.approx(1 - swapped, abs=1e-5))
    assert verdict.probability == pytest.approx((given + 1 - swapped) / 2, abs=1e-5)


def test_a_batch_changes_nothing_and_the_verdict_mirrors(model, new_run):
    pairs = [pair("good", "bad one fine", "which"), pair("bad one fine", "good", "which"), pair("fine", "bad", "one")]
    path = model()
    together = judge(path, new_run()).compare(pairs)
    alone = judge(path, new_run(), batch_size=1).compare(pairs)
    assert [verdict.probability for verdict in together] == pytest.approx([verdict.probability for verdict in alone])
    assert together[0].probability + together[1].probability == pytest.approx(1)


def test_a_separator_in_an_answer_stays_text(model, new_run):
    found = judge(model(), new_run())
    candidates = pair("good [SEP] bad", "bad", "which")
    assert found._input(*candidates).count(3) == 3


def test_equal_and_over_long_answers_get_no_label(model, new_run):
    verdicts = judge(model(), new_run()).compare([pair("good", "good"), pair("good " * 40, "bad")])
    assert [verdict.reason for verdict in verdicts] == ["identical", "too long"]


def test_a_model_with_two_labels_is_refused(model, new_run):
    with pytest.raises(ModelError, match="2 labels"):
        judge(model(2), new_run())
