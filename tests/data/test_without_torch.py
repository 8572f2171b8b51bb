"""A process that only tokenizes does without torch; one that has it keeps it."""

import subprocess
import sys

from chat_template_support import TOKENIZERS

TOKENIZE = """
import sys
from alignflow.data.without_torch import leave_torch_out
leave_torch_out()
from alignflow.data.rendering import encode_conversation, load_tokenizer
ids = encode_conversation(load_tokenizer(sys.argv[1]), [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])[0]
assert sys.modules["torch"] is None and not any(name.startswith("torch.") for name in sys.modules)
print(ids)
"""
KEEP = """
import torch
from alignflow.data.without_torch import leave_torch_out
leave_torch_out()
import torch.nn
print(torch.nn.Linear(1, 1).in_features)
"""


def test_a_tokenizer_is_the_same_without_torch(tmp_path):
    from alignflow.data.rendering import encode_conversation

    tokenizer = TOKENIZERS["qwen3", "byte-level"]
    tokenizer.save_pretrained(tmp_path)
    found = subprocess.run([sys.executable, "-c", TOKENIZE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(
        encode_conversation(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])[0]
    )
    assert "PyTorch" not in found.stderr


def test_torch_that_is_there_stays():
    assert (
        subprocess.run([sys.executable, "-c", KEEP], capture_output=True, text=True, check=True).stdout.strip() == "1"
    )
