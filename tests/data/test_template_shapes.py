"""What a chat template writes around the texts, where it does not look at them."""

import copy

import pytest
from chat_template_support import FAMILIES, TOKENIZERS
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.records import assistant, user
from alignflow.data.template_shapes import is_blind_to_texts, shape_of

BLIND = ["llama3", "gemma", "qwen2.5", "phi", "glm", "zephyr", *TEMPLATES]
LOOKS = "{% for m in messages %}{{ m.role }}"
BLIND_PARTS = [
    "{{ m.content }}",
    "{{ m['content'] | trim }}",
    "{% set text = '<' + m.content + '>' %}{{ text }}",
    "{% if m.content is string %}{{ m.get('content') }}{% endif %}",
    "{% if 'tool_calls' in m and m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ m.content }}",
    "{% if loop.first and messages[0]['role'] != 'system' %}a{% endif %}{{ m.content }}{{ bos_token ~ m.role.upper() }}",
    "{% if messages[1:] and messages | length > 2 %}b{% endif %}{{ m.content }}{{ messages[loop.index0 - 1].role }}",
]
LOOKING_PARTS = [
    "{% if m.content %}a{% endif %}",
    "{% if '</think>' in m.content %}a{% endif %}",
    "{% if m.content == 'x' %}a{% endif %}",
    "{{ m.content | upper }}",
    "{{ m.content | length }}",
    "{{ m.content[:3] }}",
    "{{ m.content * 2 }}",
    "{{ '%s' % m.content }}",
    "{{ m.content.split('\n')[0] }}",
    "{{ (m.content + 'a') | trim }}",
    "{{ m | tojson }}",
    "{{ m }}",
    "{{ messages }}",
    "{{ m.items() }}",
    "{{ m.values() | list }}",
    "{{ m[m.role] }}",
    "{% if m == messages[0] %}a{% endif %}",
    "{% if messages[0].content is not none and messages[0].content %}a{% endif %}",
    "{% set text = m.content %}{% if text != false %}a{% endif %}",
    "{% set text = '' %}{% set text = text + m.content %}{% if text %}a{% endif %}",
    "{% if loop.previtem is defined and loop.previtem.content == 'x' %}a{% endif %}",
    "{% if loop.changed(m.content) %}a{% endif %}",
    "{% for letter in m.content %}a{% endfor %}",
    "{% for key in m %}{{ m[key] }}{% endfor %}",
    "{% for name, value in m.items() %}{{ value }}{% endfor %}",
    "{{ messages | map(attribute='content') | join }}",
    "{{ messages | selectattr('content') | list | length }}",
    "{{ strftime_now('%Y') }}",
    "{{ {'x': 1}[m.content] }}",
    "{{ 'a' if m.content else 'b' }}",
    "{{ raise_exception(m.content) }}",
    "{% set ns = namespace(text=m.content) %}{{ ns.text | length }}",
    "{% macro write(text) %}{{ text | length }}{% endmacro %}{{ write(m.content) }}",
    "{% filter upper %}{{ m.content }}{% endfilter %}",
    "{% set text %}{{ m.content }}{% endset %}{{ text | length }}",
]


@pytest.mark.parametrize("part", BLIND_PARTS)
def test_a_text_that_is_only_written_decides_nothing(part):
    assert is_blind_to_texts(f"{LOOKS}{part}{{% endfor %}}")


@pytest.mark.parametrize("part", LOOKING_PARTS)
def test_a_text_that_could_decide_anything_is_looked_at(part):
    assert not is_blind_to_texts(f"{LOOKS}{part}{{% endfor %}}")


def test_what_cannot_be_parsed_is_not_known():
    assert not is_blind_to_texts("{% for m in messages %}")
    assert not is_blind_to_texts("{% generation %}{% endgeneration %}")
    assert not is_blind_to_texts("{% for name, (first, second) in tools %}{{ first }}{% endfor %}")


@pytest.mark.parametrize("name", BLIND)
def test_usual_templates_are_known(name):
    assert is_blind_to_texts(FAMILIES[name].template if name in FAMILIES else TEMPLATES[name])


CONVERSATIONS = st.tuples(st.booleans(), st.integers(1, 3), st.booleans())
TEXTS = st.text(st.sampled_from(" \n\u2003\ue0f0ab</think>é日"), max_size=12)


@pytest.mark.parametrize("key", [key for key in TOKENIZERS if key[1] == "byte-level"], ids=lambda key: key[0])
@given(data=st.data())
def test_a_shape_writes_what_the_template_writes(key, data):
    system, exchanges, asked = data.draw(CONVERSATIONS)
    roles = ("system",) * system + ("user", "assistant") * exchanges
    roles = roles[:-1] if asked else roles
    shape = shape_of(TOKENIZERS[key], roles, asked)
    if shape is not None:
        texts = [data.draw(TEXTS) for _ in roles]
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        assert shape.written(texts) == TOKENIZERS[key].apply_chat_template(
            messages, tokenize=False, add_generation_prompt=asked
        )


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ raise_exception('no') }}{% endfor %}",
        "{% for m in messages %}{{ m.role }}{% endfor %}",
        "{% for m in messages %}{{ m.content + m.content }}{% endfor %}",
        "{% for m in messages[1:] %}{{ m.content }}{% endfor %}{{ messages[0].content }}",
    ],
    ids=["refused", "left out", "written twice", "in another order"],
)
def test_there_is_no_shape_unless_each_text_is_written_once_and_in_order(template):
    tokenizer = copy.copy(TOKENIZERS["qwen2.5", "byte-level"])
    tokenizer.chat_template = template
    assert is_blind_to_texts(template)
    assert shape_of(tokenizer, ("user", "assistant"), False) is None


def test_a_template_that_is_set_anew_is_looked_at_again():
    tokenizer = copy.copy(TOKENIZERS["qwen2.5", "byte-level"])
    tokenizer.chat_template = TEMPLATES["plain"]
    before = shape_of(tokenizer, ("user", "assistant"), False)
    tokenizer.chat_template = TEMPLATES["turns"]
    after = shape_of(tokenizer, ("user", "assistant"), False)
    messages = [*user("a"), *assistant("b")]
    assert [shape.written(["a", "b"]) for shape in (before, after)] == [
        "ab" + tokenizer.eos_token,
        tokenizer.apply_chat_template(messages, tokenize=False),
    ]
