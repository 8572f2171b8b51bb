"""A language model for judges that answers by rules, and hands for asking a judge of the catalogue with it."""

import math
import re

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.records import user
from alignflow.models.judges import model_judges
from alignflow.models.judges.base import Candidate, make_judge
from alignflow.models.judges.judge_model import Reading, Writing

TEMPLATE = (
    "{% for message in messages %}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", *alphabet])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", chat_template=TEMPLATE
    )


class RuleModel:
    """Reads and writes by two functions of the question's text.

    Args:
        read: (text, options) -> a probability for each option, or a Reading.
        write: (text, seed) -> a text, or a Writing.
    """

    identity = "rules"
    control_tokens = ("<|im_end|>",)

    def __init__(self, read=None, write=None):
        self.reader, self.writer = read, write
        self.read_questions, self.written_questions, self.seeds, self.closed = [], [], [], False

    def check_options(self, options):
        assert len(set(options)) == len(options)

    def read(self, questions, options):
        self.read_questions += questions
        found = [self.reader(shown(question), options) for question in questions]
        return [each if isinstance(each, Reading) else Reading(tuple(map(logarithm, each))) for each in found]

    def write(self, questions, sampling, seeds):
        self.written_questions += questions
        self.seeds += seeds
        found = [self.writer(shown(question), seed) for question, seed in zip(questions, seeds, strict=True)]
        return [each if isinstance(each, Writing) else Writing(each, True, tokens=len(each)) for each in found]

    def close(self):
        self.closed = True


def logarithm(probability):
    return math.log(probability) if probability > 0 else -math.inf


def shown(question):
    """All turns of a question as one text."""
    return "\n".join(turn["content"] for turn in question.messages)


def enclosed(text, what):
    """What stands in a question between the fences of a name, as a reader of the fences finds it."""
    code = re.search(r"the code ([0-9a-f]{12})", text)[1]
    return re.search(rf"^\[{what} {code}\]\n(.*?)\n\[End of {what[0].lower()}{what[1:]} {code}\]$", text, re.S | re.M)[
        1
    ]


def judge_by(monkeypatch, model, name, run, **options):
    """A judge of the catalogue that asks `model`."""
    monkeypatch.setattr(model_judges, "make_judge_model", lambda *_: model)
    return make_judge(JudgeConfig(name=name, options=options), policy=run.out, reward_model=None, run=run)


def pair(first, second, prompt="Which is longer?"):
    return Candidate(user(prompt), first), Candidate(user(prompt), second)


def worth(text):
    """What an answer such as `good #3` is worth."""
    return int(re.search(r"#(\d+)", text)[1])


def oracle(text, options):
    """Prefers the answer that is worth more, whatever its seat."""
    first, second = (worth(enclosed(text, f"Answer {option}")) for option in options)
    return (0.9, 0.05) if first > second else (0.05, 0.9)
