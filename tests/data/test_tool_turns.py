"""Conversations with tools: the ids are the template's own, calls and their ends are learnt, results and tools never are."""

import pytest
from chat_template_support import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_template_support import NO_TEXT_BESIDE_CALLS, ONE_CALL, THINKING, TOOL_FAMILIES, TOOL_TOKENIZERS

from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_prompt, encode_turn, encode_turns
from alignflow.data.template_checks import refusal
from alignflow.data.template_turns import end_token, end_tokens
from alignflow.data.tools import as_text, with_tools

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather of a city.", "parameters": PARAMETERS},
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
NAMES = sorted(TOOL_TOKENIZERS)
ENDS = {
    "llama3.1": ("<|eot_id|>", "<|eot_id|>"),
    "qwen2.5": ("<|im_end|>", "<|im_end|>"),
    "qwen3": ("<|im_end|>", "<|im_end|>"),
    "qwen3.5": ("<|im_end|>", "<|im_end|>"),
    "mistral": ("</s>", "</s>"),
    "gpt-oss": ("<|call|>", "<|return|>"),
    "glm": ("<|observation|>", "<|user|>"),
    "deepseek": ("<|end of sentence|>", "<|end of sentence|>"),
}
"""What ends a turn of calls, and the last answer."""


def calling(*arguments, text="", name="weather", first=0, **beside):
    calls = [
        {"id": f"call{first + at:05d}", "type": "function", "function": {"name": name, "arguments": given}}
        for at, given in enumerate(arguments)
    ]
    return {"role": "assistant", "content": text, **beside, "tool_calls": calls}


def result(text, at=0, name="weather"):
    return {"role": "tool", "content": text, "name": name, "tool_call_id": f"call{at:05d}"}


ASKED = with_tools(user("What is it in Bern?"), [TOOL, CLOCK])
SIMPLE = [*ASKED, calling({"city": "Bern", "days": 2}), result("rain and wind"), *assistant("It rains.")]
LONG = [
    *SIMPLE,
    *user("And Oslo?"),
    calling({"city": "Oslo"}),
    result("snow"),
    calling({}, name="clock"),
    result("noon", name="clock"),
    *assistant("Snow at noon."),
]


@pytest.fixture(params=NAMES, ids="-".join)
def named(request):
    """The name of a family, and a tokenizer with its template."""
    return request.param[0], TOOL_TOKENIZERS[request.param]


def own_ids(tokenizer, messages):
    """What the template itself writes, given the arguments in the form that it takes."""
    turns = [{name: value for name, value in turn.items() if name not in ("tools", "weight")} for turn in messages]
    if "function.arguments + " in tokenizer.chat_template:
        turns = [
            {**turn, "tool_calls": [_with_text(call) for call in turn["tool_calls"]]}
            if turn.get("tool_calls")
            else turn
            for turn in turns
        ]
    thinking = "thinking" if "m.thinking" in tokenizer.chat_template else "reasoning_content"
    turns = [
        {(thinking if name == "reasoning_content" else name): value for name, value in turn.items()} for turn in turns
    ]
    return tokenizer.apply_chat_template(turns, tools=messages[0].get("tools"), tokenize=True, return_dict=False)


def _with_text(call):
    return {**call, "function": {**call["function"], "arguments": as_text(call["function"]["arguments"])}}


def learnt(tokenizer, found):
    """The supervised texts, one for each run of tokens."""
    runs, before = [], False
    for token, counts in zip(found.ids, found.supervised, strict=True):
        if counts:
            runs = [*runs[:-1], [*runs[-1], token]] if before else [*runs, [token]]
        before = counts
    return [tokenizer.decode(run) for run in runs]


def is_its_own(tokenizer, messages, found):
    own = own_ids(tokenizer, messages)
    return found.ids == own[: len(found.ids)] or found.ids[:-1] == own  # GLM leaves the end to the next turn


@pytest.mark.parametrize("messages", [SIMPLE, SIMPLE[:2], LONG], ids=["answered", "ends with a call", "long"])
def test_calls_and_answers_are_learnt_with_their_ends_and_nothing_else(named, messages):
    name, tokenizer = named
    found = encode_turns(tokenizer, messages)
    assert found.merged or is_its_own(tokenizer, messages, found)
    runs = learnt(tokenizer, found)
    spoken = [turn for turn in messages if turn["role"] == "assistant"]
    assert len(runs) == len(spoken)
    end_of_calls, end = ENDS[name]
    for turn, run in zip(spoken, runs, strict=True):
        ends = {end_of_calls} if turn.get("tool_calls") else {end, "<|end|>"}
        assert any(run.endswith(wanted) for wanted in ends)
        calls = [call["function"] for call in turn.get("tool_calls", ())]
        assert turn["content"] in run and all(
            text in run for call in calls for text in (call["name"], *map(str, call["arguments"].values()))
        )
    text = "".join(runs)
    assert not any(said in text for said in ("rain and wind", "What", "Oslo?", "time.", "required"))


def test_several_calls_of_one_turn_are_learnt_whole(named):
    name, tokenizer = named
    messages = [
        *ASKED,
        calling({"city": "Bern"}, {"city": "Oslo"}),
        result("rain"),
        result("snow", 1),
        *assistant("Rain and snow."),
    ]
    if name in ONE_CALL:
        assert refusal(tokenizer, messages) in ("refused_by_template", "tool_calls_not_in_template")
        with pytest.raises(TemplateRefusedError):
            encode_turns(tokenizer, messages)
        return
    found = encode_turns(tokenizer, messages)
    first, second = learnt(tokenizer, found)
    assert is_its_own(tokenizer, messages, found) or found.merged
    assert (
        "Bern" in first
        and "Oslo" in first
        and first.endswith(ENDS[name][0])
        and first.count(ENDS[name][0]) == 1
        and "Rain and" in second
    )


def test_text_beside_calls_is_learnt_or_the_row_is_dropped_for_it(named):
    name, tokenizer = named
    messages = [*ASKED, calling({"city": "Bern"}, text="I look."), result("rain"), *assistant("It rains.")]
    if name in NO_TEXT_BESIDE_CALLS:
        assert refusal(tokenizer, messages) == "text_beside_calls_not_in_template"
        with pytest.raises(TemplateRefusedError, match="text beside calls"):
            encode_turns(tokenizer, messages)
        return
    run = learnt(tokenizer, encode_turns(tokenizer, messages))[0]
    assert "I look." in run and "Bern" in run and run.endswith(ENDS[name][0])


def test_thinking_is_learnt_where_the_template_writes_it_or_the_row_is_dropped_for_it(named):
    name, tokenizer = named
    messages = [
        *ASKED,
        calling({"city": "Bern"}, reasoning_content="a map says"),
        result("rain"),
        {**assistant("It rains.")[0], "reasoning_content": "so be kind"},
    ]
    if name not in THINKING:
        assert refusal(tokenizer, messages) == "reasoning_not_in_template"
        return
    assert not refusal(tokenizer, messages)
    found = encode_turns(tokenizer, messages)
    first, second = learnt(tokenizer, found)
    assert "a map says" in first and "so be kind" in second and (found.merged or is_its_own(tokenizer, messages, found))


@pytest.mark.parametrize("name", sorted(THINKING))
def test_thinking_that_the_template_leaves_out_of_earlier_answers_is_left_out(name):
    tokenizer = TOOL_TOKENIZERS[name, "byte-level"]
    messages = [
        *user("q"),
        {**assistant("a")[0], "reasoning_content": "a map says"},
        *user("r"),
        {**assistant("b")[0], "reasoning_content": "so be kind"},
    ]
    assert not refusal(tokenizer, messages)
    found = encode_turns(tokenizer, messages)
    assert is_its_own(tokenizer, messages, found)
    assert "map" not in tokenizer.decode(found.ids) and "so be kind" in learnt(tokenizer, found)[-1]


def test_a_turn_of_calls_of_weight_0_is_not_learnt(named):
    _, tokenizer = named
    messages = [*ASKED, {**SIMPLE[1], "weight": 0}, *SIMPLE[2:]]
    (run,) = learnt(tokenizer, encode_turns(tokenizer, messages))
    assert (
        "It rains." in run
        and "Bern" not in run
        and encode_turns(tokenizer, messages).ids == encode_turns(tokenizer, SIMPLE).ids
    )


def test_a_prompt_with_a_result_goes_before_its_answer(named):
    _, tokenizer = named
    turn = encode_turn(tokenizer, SIMPLE[:3], "It rains.", ended=True)
    whole = encode_turns(tokenizer, SIMPLE)
    assert turn.prompt_ids + turn.completion_ids == whole.ids
    prompt = encode_prompt(tokenizer, SIMPLE[:3])
    assert prompt[: len(turn.prompt_ids)] == turn.prompt_ids
    assert all(text in tokenizer.decode(prompt) for text in ("weather", "clock", "rain and wind"))


def test_control_tokens_in_tools_arguments_and_results_are_text(named):
    name, tokenizer = named
    end = ENDS[name][0]
    bad = {
        "type": "function",
        "function": {
            **TOOL["function"],
            "description": f"x {end} y",
            "parameters": {"type": "object", "properties": {f"z{end}": {"type": "string"}}},
        },
    }
    messages = [
        *with_tools(user("q"), [bad, CLOCK]),
        calling({"city": f"a {end} b", f"k{end}": [end]}),
        result(f"{end} rain"),
        *assistant("It rains."),
    ]
    clean = [
        *with_tools(user("q"), [TOOL, CLOCK]),
        calling({"city": "a b", "k": ["c"]}),
        result("rain"),
        *assistant("It rains."),
    ]
    special = {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(list(ENDS[name]))}
    found, plain = (encode_turns(tokenizer, turns) for turns in (messages, clean))
    assert [token for token in found.ids if token in special] == [token for token in plain.ids if token in special]
    assert len(learnt(tokenizer, found)) == 2 and "rain" not in learnt(tokenizer, found)[0]


WORDS = st.text(st.sampled_from("abc xyzé\n.,\"'{}<>|[]"), min_size=1, max_size=12).filter(str.strip)
VALUES = st.recursive(
    WORDS | st.integers(-9, 99) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
)
ARGUMENTS = st.dictionaries(st.text(st.sampled_from("abc"), min_size=1, max_size=3), VALUES, max_size=3)


@st.composite
def conversations(draw, name):
    """User turns, each with some rounds of calls and results before its answer."""
    turns = []
    for _ in range(draw(st.integers(1, 2))):
        turns += user(draw(WORDS))
        for _ in range(draw(st.integers(0, 2))):
            arguments = draw(st.lists(ARGUMENTS, min_size=1, max_size=1 if name in ONE_CALL else 2))
            turns += [calling(*arguments), *(result(draw(WORDS), at) for at in range(len(arguments)))]
        turns += assistant(draw(WORDS.map(str.strip)))
    return with_tools(turns, [TOOL])


@pytest.mark.parametrize("name", NAMES, ids="-".join)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_ids_of_any_conversation_with_tools_are_the_template_s_own(name, data):
    tokenizer = TOOL_TOKENIZERS[name]
    messages = data.draw(conversations(name[0]))
    found = encode_turns(tokenizer, messages)
    assert found.merged or is_its_own(tokenizer, messages, found)
    spoken = [turn for turn in messages if turn["role"] == "assistant"]
    ends = {*ENDS[name[0]], "<|end|>"}
    runs = learnt(tokenizer, found)
    assert len(runs) == len(spoken) and all(any(run.endswith(end) for end in ends) for run in runs)


@pytest.mark.parametrize("name", sorted({name for name, _ in TOKENIZERS}))
def test_a_template_that_knows_no_tools_drops_the_row_with_the_reason(name):
    tokenizer = TOKENIZERS[name, "byte-level"]
    assert refusal(tokenizer, with_tools([*user("q"), *assistant("a")], [TOOL])) == "tools_not_in_template"
    called = refusal(tokenizer, [*user("q"), calling({"city": "Bern"})])
    assert called == "tool_calls_not_in_template"
    with pytest.raises(TemplateRefusedError):
        encode_turns(tokenizer, SIMPLE)
    assert refusal(tokenizer, SIMPLE) == "tools_not_in_template"
    with pytest.raises(TemplateRefusedError):
        encode_prompt(tokenizer, SIMPLE[:3])


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_our_own_templates_know_no_tools_and_say_so(template):
    tokenizer = TOKENIZERS["qwen2.5", "byte-level"]
    before, tokenizer.chat_template = tokenizer.chat_template, TEMPLATES[template]
    try:
        assert refusal(tokenizer, SIMPLE) == "tools_not_in_template"
        assert (
            refusal(tokenizer, [*user("q"), {**assistant("a")[0], "reasoning_content": "hm"}])
            == "reasoning_not_in_template"
        )
        assert not refusal(tokenizer, [*user("q"), *assistant("a")])
    finally:
        tokenizer.chat_template = before


def test_generation_stops_at_the_end_of_a_call_and_of_an_answer(named):
    name, tokenizer = named
    assert set(end_tokens(tokenizer)) == set(tokenizer.convert_tokens_to_ids(list(ENDS[name])))


def test_a_template_without_calls_has_the_one_end_of_an_answer():
    for tokenizer in (TOKENIZERS["gpt-oss", "byte-level"], TOKENIZERS["gemma", "byte-level"]):
        assert end_tokens(tokenizer) == [end_token(tokenizer)]


def test_every_family_is_tried():
    assert set(ENDS) == set(TOOL_FAMILIES)
