"""Chat templates in the manner of the model families, written for these tests, and tokenizers that have their control tokens.

Each row: the template, EOS, BOS, further control tokens, tokens that were added without being special, and what generation stops at.
"""

import re
from dataclasses import dataclass, field

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """A template, and the tokens that belong to it.

    Attributes:
        template: Jinja.
        eos: The tokenizer's EOS, which need not end a turn.
        end: What ends an assistant's turn.
        header: What stands between a user's turn and an answer.
        system: Whether a system turn is taken.
        plain: Tokens that were added as a whole, but are not special.
        special: Control tokens of other forms than those of CONTROL.
    """

    template: str
    eos: str
    end: str
    header: str
    bos: str | None = None
    system: bool = True
    plain: tuple[str, ...] = field(default=("<think>", "</think>"))
    special: tuple[str, ...] = ()


TURN = "{%- for m in messages %}"
CHATML = TURN + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
NO_SYSTEM = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{%- endif %}"
LAST_USER = "{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
SPLIT = (
    "{%- set think = '' %}{%- set text = m.content %}{%- if '</think>' in text %}"
    "{%- set think = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}{%- set text = text.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
)

FAMILIES = {
    "llama2": Family(
        "{%- set ns = namespace(system='') %}"
        + TURN
        + "{%- if m.role == 'system' %}{%- set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}"
        "{%- elif m.role == 'user' %}{{ bos_token + '[INST] ' + ns.system + m.content | trim + ' [/INST]' }}{%- set ns.system = '' %}"
        "{%- else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{%- endif %}{%- endfor %}",
        "</s>",
        " </s>",
        " [/INST]",
        "<s>",
    ),
    "llama3": Family(
        "{{ bos_token }}"
        + TURN
        + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|begin_of_text|>",
    ),
    "gemma": Family(
        NO_SYSTEM
        + "{{ bos_token }}"
        + TURN
        + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}"
        "{%- endfor %}{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{%- endif %}",
        "<eos>",
        "<end_of_turn>",
        "<start_of_turn>model\n",
        "<bos>",
        system=False,
    ),
    "mistral": Family(  # the system turn moves into the last user turn
        "{%- set system = messages[0].content if messages[0].role == 'system' else '' %}"
        + LAST_USER
        + "{{ bos_token }}"
        + TURN
        + "{%- if m.role == 'user' %}{{ '[INST] ' + (system + '\n\n' if system and loop.index0 == ns.last else '') + m.content + '[/INST]' }}"
        "{%- elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}{%- endif %}{%- endfor %}",
        "</s>",
        "</s>",
        "[/INST]",
        "<s>",
    ),
    "qwen2.5": Family(
        "{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{%- endif %}"
        + CHATML
        + "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}",
        "<|endoftext|>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
    ),
    "qwen3": Family(  # earlier thinking is left out; the last answer has a block of thinking, which may be empty
        LAST_USER
        + TURN
        + "{%- if m.role == 'assistant' %}"
        + SPLIT
        + "{{ '<|im_start|>assistant\n' }}{%- if loop.index0 > ns.last and (loop.last or think) %}{{ '<think>\n' + think + '\n</think>\n\n' }}{%- endif %}"
        "{{ text + '<|im_end|>\n' }}{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and not enable_thinking %}"
        "{{ '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}",
        "<|im_end|>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
    ),
    "qwen3.5": Family(  # the generation prompt opens a block of thinking
        LAST_USER
        + TURN
        + "{%- if m.role == 'assistant' %}"
        + SPLIT
        + "{{ '<|im_start|>assistant\n' }}{%- if loop.index0 > ns.last %}{{ '<think>\n' + think + '\n</think>\n\n' }}{%- endif %}{{ text + '<|im_end|>\n' }}"
        "{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{%- if enable_thinking is defined and not enable_thinking %}"
        "{{ '\n</think>\n\n' }}{%- endif %}{%- endif %}",
        "<|im_end|>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
    ),
    "phi": Family(
        TURN + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{%- else %}{{ eos_token }}{%- endif %}",
        "<|endoftext|>",
        "<|end|>",
        "<|assistant|>\n",
    ),
    "deepseek": Family(  # an answer's thinking is always left out; the generation prompt opens it
        "{{ bos_token }}"
        + TURN
        + "{%- if m.role == 'system' %}{{ m.content }}{%- elif m.role == 'user' %}{{ '<|User|>' + m.content }}{%- else %}"
        + "{{ '<|Assistant|>' + m.content.split('</think>')[-1] + '<|end of sentence|>' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{%- endif %}",
        "<|end of sentence|>",
        "<|end of sentence|>",
        "<|Assistant|>",
        "<|begin of sentence|>",
    ),
    "glm": Family(  # the next turn's header ends a turn
        "[gMASK]<sop>"
        + TURN
        + "{{ '<|' + m.role + '|>\n' + m.content }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{%- endif %}",
        "<|endoftext|>",
        "<|user|>",
        "<|assistant|>\n",
    ),
    "nemotron": Family(
        TURN
        + "{%- if m.role == 'assistant' %}"
        + SPLIT
        + "{{ '<SPECIAL_11>Assistant\n' + text.strip() + '\n<SPECIAL_12>\n' }}"
        "{%- else %}{{ '<SPECIAL_10>' + m.role + '\n' + m.content.strip() + '\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<SPECIAL_11>Assistant\n<think>\n' }}{%- endif %}",
        "</s>",
        "\n<SPECIAL_12>",
        "<SPECIAL_11>Assistant\n",
    ),
    "gpt-oss": Family(
        "{{ '<|start|>system<|message|>Today is ' + strftime_now('%Y-%m-%d') + '.<|end|>' }}"
        + TURN
        + "{%- if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
        "{%- else %}{{ '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{%- endif %}",
        "<|return|>",
        "<|return|>",
        "<|start|>assistant<|channel|>final<|message|>",
    ),
    "cohere": Family(
        "{{ bos_token }}"
        + TURN
        + "{{ '<|START_OF_TURN_TOKEN|>' + ('<|CHATBOT_TOKEN|>' if m.role == 'assistant' else '<|' + m.role | upper + '_TOKEN|>')"
        " + m.content.strip() + '<|END_OF_TURN_TOKEN|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif %}",
        "<|END_OF_TURN_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<BOS_TOKEN>",
    ),
    "zephyr": Family(
        TURN
        + "{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{%- endif %}",
        "</s>",
        "</s>",
        "<|assistant|>\n",
        "<s>",
        plain=("<think>", "</think>", "<|user|>", "<|assistant|>", "<|system|>"),
    ),
}

CORPUS = [
    "The quick brown fox says hello world. What is this? Answer: 42, of course!\n\nOnce upon a time, being kind is good.  Two  blanks.\n"
] * 20
CONTROL = re.compile(r"<\|[A-Za-z_ ]+\|>|<SPECIAL_\d+>|<[a-z]+_of_turn>|<sop>|\[gMASK\]")


def control_tokens(family):
    """The control tokens of a family's template."""
    roles = {f"<|{role}|>" for role in ("user", "assistant", "system")} if "'<|' + m.role" in family.template else set()
    roles |= {"<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>"} if "_TOKEN|>" in family.template else set()
    found = {
        *CONTROL.findall(family.template),
        *roles,
        *family.special,
        family.eos,
        *([family.bos] if family.bos else ()),
    }
    return sorted(found - set(family.plain))


def make_tokenizer(family, kind):
    """A small tokenizer, `byte-level` or `sentencepiece` (as Llama-2's: blanks are ▁, and one is put before a text), with the family's tokens."""
    core = Tokenizer(
        models.BPE(byte_fallback=kind == "sentencepiece", unk_token="<unk>" if kind == "sentencepiece" else None)
    )
    if kind == "byte-level":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(
                    Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
                    "isolated",
                ),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        core.decoder = decoders.ByteLevel()
        first = []
    else:
        alphabet, first = [], ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    core.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*control_tokens(family), "<|pad|>")]
    )
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.plain])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=family.eos,
        bos_token=family.bos,
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.template
    return tokenizer


TOKENIZERS = {
    (name, kind): make_tokenizer(family, kind)
    for name, family in FAMILIES.items()
    for kind in ("byte-level", "sentencepiece")
}
