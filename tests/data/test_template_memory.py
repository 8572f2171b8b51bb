"""What is remembered of a tokenizer's chat template."""

import gc
import weakref

from alignflow.data.template_memory import remembered


class Tokenizer:
    chat_template = "one"


def test_it_is_remembered_until_the_template_is_set_anew():
    tokenizer, other = Tokenizer(), Tokenizer()
    memory = remembered(tokenizer)
    memory.prompt = "found"
    assert remembered(tokenizer) is memory and remembered(other) is not memory
    tokenizer.chat_template = "two"
    assert remembered(tokenizer).prompt is None and remembered(tokenizer).template == "two"


def test_it_goes_with_its_tokenizer():
    tokenizer = Tokenizer()
    memory = weakref.ref(remembered(tokenizer))
    del tokenizer
    gc.collect()
    assert memory() is None
