"""One builder of conversations: what carries meaning is in the row that comes out, or the row is dropped with a reason of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.data.records import assistant, user
from alignflow.data.sources import trl
from alignflow.data.sources.base import RowError
from alignflow.data.sources.conversations import preference
from alignflow.data.sources.transcripts import is_transcript, transcript_turns
from alignflow.data.sources.turn_order import ordered
from alignflow.data.sources.turns import turn_list

SYSTEM = [{"role": "system", "content": "In French."}]
EARLIER = [*user("Name a fruit."), *assistant("Pomme.")]
WHOLE = [*SYSTEM, *EARLIER, *user("Another?")]
CHAT = [*user("q"), *assistant("a")]
HH = "\n\nHuman: Name a fruit.\n\nAssistant: Pomme.\n\nHuman: Another?\n\nAssistant:"


def parse(name, kind, row):
    return catalogue.FORMATS[name].resolve()(row, kind)


def reason(name, kind, row):
    with pytest.raises(RowError) as error:
        parse(name, kind, row)
    return error.value.reason


USED = [
    (
        "alpaca",
        "demonstrations",
        {"instruction": "Another?", "output": "a", "system": "In French.", "history": [["Name a fruit.", "Pomme."]]},
        {"messages": [*WHOLE, *assistant("a")]},
    ),
    (
        "alpaca",
        "demonstrations",
        {"instruction": "Another?", "output": "a", "history": EARLIER},
        {"messages": [*WHOLE[1:], *assistant("a")]},
    ),
    (
        "alpaca",
        "prompts",
        {"instruction": "Another?", "history": '[["Name a fruit.", "Pomme."]]'},
        {"prompt": WHOLE[1:]},
    ),
    ("alpaca", "demonstrations", {"instruction": "q", "output": "a", "history": [], "system": ""}, {"messages": CHAT}),
    (
        "trl",
        "demonstrations",
        {"prompt": "Another?", "completion": "a", "chat_history": EARLIER},
        {"messages": [*WHOLE[1:], *assistant("a")]},
    ),
    (
        "trl",
        "preferences",
        {"systemPrompt": "In French.", "prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [*SYSTEM, *user("q")]},
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("a")[0], "channel": "final", "recipient": "all"}]},
        {"messages": CHAT},
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("b")[0], "trainable": False}, *CHAT]},
        {"messages": [*user("q"), {**assistant("b")[0], "weight": 0}, *CHAT]},
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("b")[0], "loss_mask": 0}, *CHAT]},
        {"messages": [*user("q"), {**assistant("b")[0], "weight": 0}, *CHAT]},
    ),
    (
        "alpaca",
        "unpaired",
        {"instruction": "q", "output": "a", "kto_tag": False},
        {"prompt": user("q"), "label": False},
    ),
    (
        "alpaca",
        "preferences",
        {"instruction": "q", "chosen": "a", "rejected": "b", "system": "In French."},
        {"prompt": [*SYSTEM, *user("q")]},
    ),
    (
        "alpaca",
        "demonstrations",
        {"instruction": "q", "context": "c", "response": "a"},
        {"messages": [*user("q\n\nc"), *assistant("a")]},
    ),
    (
        "trl",
        "preferences",
        {"system": "In French.", "prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [*SYSTEM, *user("q")]},
    ),
    (
        "trl",
        "demonstrations",
        {"system_prompt": "In French.", "prompt": "q", "completion": "a"},
        {"messages": [*SYSTEM, *CHAT]},
    ),
    (
        "trl",
        "preferences",
        {
            "prompt": "Name a fruit.",
            "chosen": [*WHOLE, *assistant("Poire.")],
            "rejected": [*WHOLE, *assistant("Pear.")],
        },
        {"prompt": WHOLE, "chosen": assistant("Poire."), "rejected": assistant("Pear.")},
    ),
    (
        "trl",
        "preferences",
        {"prompt": "Another?", "chosen": [*WHOLE, *assistant("Poire.")], "rejected": [*WHOLE, *assistant("Pear.")]},
        {"prompt": WHOLE},
    ),
    ("trl", "prompts", {"prompt": "Name a fruit.", "chosen": [*WHOLE, *assistant("a")]}, {"prompt": WHOLE}),
    (
        "trl",
        "preferences",
        {"prompt": HH, "chosen": " Poire.", "rejected": " Pear."},
        {"prompt": WHOLE[1:], "chosen": assistant("Poire."), "rejected": assistant("Pear.")},
    ),
    (
        "trl",
        "demonstrations",
        {"prompt": "q", "completion": [*assistant("a"), *user("more"), *assistant("b")]},
        {"messages": [*CHAT, *user("more"), *assistant("b")]},
    ),
    (
        "trl",
        "unpaired",
        {"prompt": "q", "completion": [*CHAT, *user("more"), *assistant("b")], "label": 1},
        {"prompt": [*CHAT, *user("more")], "completion": assistant("b"), "label": True},
    ),
    (
        "trl",
        "preferences",
        {"prompt": user("q"), "chosen": CHAT, "rejected": "b"},
        {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")},
    ),
    (
        "trl",
        "completions",
        {"prompt": "q", "system": "In French.", "completions": ["a", "b"]},
        {"prompt": [*SYSTEM, *user("q")]},
    ),
    (
        "comparison",
        "rankings",
        {
            "prompt": "q",
            "system": "In French.",
            "answers": [{"text": "a", "score": "2"}, {"text": "b", "score": "1.5"}],
        },
        {"prompt": [*SYSTEM, *user("q")], "scores": [2.0, 1.5]},
    ),
    (
        "comparison",
        "preferences",
        {"instruction": "q", "output": ["a", "b"], "ranks": [2, 1]},
        {"chosen": assistant("b"), "rejected": assistant("a")},
    ),
    (
        "comparison",
        "rankings",
        {"prompt": "q", "responses": ["a", "b"], "rank": ["2", "1"]},
        {"completions": ["a", "b"], "scores": [-2.0, -1.0]},
    ),
    (
        "trl",
        "preferences",
        {"prompt": "q", "completions": ["a", "b"], "ranks": [2, 1]},
        {"chosen": assistant("b"), "rejected": assistant("a")},
    ),
    (
        "hh_rlhf",
        "demonstrations",
        {"system": "In French.", "chosen": f"{HH} Poire."},
        {"messages": [*WHOLE, *assistant("Poire.")]},
    ),
    ("messages", "demonstrations", {"system": "In French.", "messages": CHAT}, {"messages": [*SYSTEM, *CHAT]}),
    (
        "messages",
        "demonstrations",
        {"system": "In French.", "messages": [*SYSTEM, *CHAT]},
        {"messages": [*SYSTEM, *CHAT]},
    ),
    ("messages", "demonstrations", {"messages": [{"role": "system", "content": ""}, *CHAT]}, {"messages": CHAT}),
    (
        "messages",
        "demonstrations",
        {"messages": [{"role": "developer", "content": "In French."}, *CHAT]},
        {"messages": [*SYSTEM, *CHAT]},
    ),
    (
        "messages",
        "demonstrations",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "q"}]},
                *assistant("a"),
            ]
        },
        {"messages": [*user("qq"), *assistant("a")]},
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [{**turn, "tool_calls": None, "images": []} for turn in CHAT], "tools": "[]", "images": []},
        {"messages": CHAT},
    ),
    (
        "messages",
        "demonstrations",
        {
            "messages": [
                *user("q"),
                {**assistant("bad")[0], "weight": 0},
                *user("q"),
                {**assistant("a")[0], "weight": 1},
            ]
        },
        {"messages": [*user("q"), {**assistant("bad")[0], "weight": 0}, *user("q"), *assistant("a")]},
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*CHAT, *user("q"), {**assistant("bad")[0], "train": False}]},
        {"messages": CHAT},
    ),
    (
        "messages",
        "prompts",
        {"messages": [*user("q"), {**assistant("bad")[0], "weight": 0}, *user("q"), *assistant("a")]},
        {"prompt": [*user("q"), *assistant("bad"), *user("q")]},
    ),
    ("sharegpt", "demonstrations", {"conversation": CHAT}, {"messages": CHAT}),
    ("sharegpt", "unpaired", {"conversations": CHAT, "kto_tag": "true"}, {"prompt": user("q"), "label": True}),
    ("sharegpt", "demonstrations", {"conversations": CHAT, "mask": "<|x|>User<|y|>"}, {"messages": CHAT}),
    (
        "transcript",
        "demonstrations",
        {"text": "### Human: q. And?### Assistant: a. b.### Human: more?### Assistant: c."},
        {"messages": [*user("q. And?"), *assistant("a. b."), *user("more?"), *assistant("c.")]},
    ),
    ("transcript", "prompts", {"text": "### Human: q### Assistant: a"}, {"prompt": user("q")}),
    (
        "text",
        "demonstrations",
        {"text": "### Human: q. And?### Assistant: a. b."},
        {"messages": [*user("q. And?"), *assistant("a. b.")]},
    ),
]


@pytest.mark.parametrize(("name", "kind", "row", "wanted"), USED)
def test_what_carries_meaning_is_in_the_row(name, kind, row, wanted):
    (found,) = parse(name, kind, row)
    assert {key: found[key] for key in wanted} == wanted


DROPPED = [
    (
        "trl",
        "preferences",
        {"prompt": "q", "chosen": [*CHAT, *user("Thanks")], "rejected": [*CHAT, *user("No")]},
        "no_answer",
    ),
    (
        "trl",
        "preferences",
        {"prompt": "other", "chosen": CHAT, "rejected": [*user("q"), *assistant("b")]},
        "different_prompts",
    ),
    (
        "trl",
        "preferences",
        {"prompt": "q", "chosen": [*CHAT, *user("x"), *assistant("c")], "rejected": "b"},
        "different_prompts",
    ),
    ("trl", "demonstrations", {"prompt": CHAT, "completion": "b"}, "no_prompt"),
    ("trl", "demonstrations", {"prompt": f"{HH} Sure,", "completion": " Poire."}, "no_prompt"),
    ("trl", "demonstrations", {"prompt": "<s>[INST] q [/INST]", "completion": "a"}, "rendered_template"),
    (
        "trl",
        "demonstrations",
        {"prompt": [*SYSTEM, *user("q")], "completion": "a", "system": "In English."},
        "two_system_prompts",
    ),
    ("alpaca", "demonstrations", {"instruction": "q", "output": "a", "history": "yesterday"}, "unknown_history"),
    ("alpaca", "demonstrations", {"instruction": "q", "output": "a", "history": [["x", "y", "z"]]}, "unknown_history"),
    (
        "alpaca",
        "demonstrations",
        {"instruction": "q", "output": "a", "history": '[["a \\ud83d b", "c"]]'},
        "lone_surrogate",
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("<image>Who?"), *assistant("a")], "images": ["0.jpg"]},
        "images",
    ),
    (
        "messages",
        "demonstrations",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
                *assistant("a"),
            ]
        },
        "images",
    ),
    ("messages", "demonstrations", {"messages": [*user("q"), {**assistant("a")[0], "weight": 0}]}, "nothing_to_train"),
    ("messages", "demonstrations", {"messages": [*user("q"), {**assistant("a")[0], "weight": 0.5}]}, "unknown_weight"),
    ("messages", "demonstrations", {"messages": [*user("q"), {**assistant("a")[0], "mask": 1}]}, "unknown_weight"),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("a")[0], "channel": "analysis"}]},
        "reasoning_not_used",
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("{}")[0], "recipient": "functions.f"}]},
        "tool_calls",
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("a")[0], "thoughts": "hm"}]},
        "reasoning_not_used",
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [{**user("q")[0], "attachments": ["0.pdf"]}, *assistant("a")]},
        "unknown_content",
    ),
    ("trl", "demonstrations", {"prompt": "q", "completion": "a", "image_path": "0.png"}, "images"),
    ("trl", "demonstrations", {"prompt": "q", "completion": "a", "desirable": False}, "labelled_bad"),
    (
        "trl",
        "demonstrations",
        {"prompt": "q", "completion": "a", "history": [["r", "b"]], "chat_history": [["s", "c"]]},
        "unknown_history",
    ),
    (
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**assistant("a")[0], "weight": 1, "train": False}]},
        "unknown_weight",
    ),
    ("messages", "demonstrations", {"messages": [{**user("q")[0], "train": True}, *assistant("a")]}, "trained_prompt"),
    (
        "messages",
        "unpaired",
        {"messages": [*user("q"), {**assistant("a")[0], "weight": 0}], "label": True},
        "nothing_to_train",
    ),
    ("sharegpt", "demonstrations", {"conversations": CHAT, "mask": "Assistant"}, "unknown_weight"),
    ("sharegpt", "demonstrations", {"conversations": ["q", "a"]}, "not_text"),
    ("messages", "demonstrations", {"messages": CHAT, "label": False}, "labelled_bad"),
    ("trl", "demonstrations", {"prompt": "q", "completion": "a", "label": "undesirable"}, "labelled_bad"),
    ("alpaca", "demonstrations", {"instruction": "q", "output": "a", "kto_tag": "0"}, "labelled_bad"),
    ("trl", "demonstrations", {"prompt": "q", "completion": "a", "label": "perhaps"}, "unknown_label"),
    ("trl", "demonstrations", {"prompt": "q", "completion": "a", "train": False}, "nothing_to_train"),
    ("trl", "preferences", {"prompt": "q", "completions": ["a", "b"]}, "no_scores"),
    ("trl", "preferences", {"prompt": "q", "completions": ["a", "b"], "output": "z"}, "no_scores"),
    ("comparison", "rankings", {"prompt": "q", "responses": ["a", "b"], "outputs": ["y", "z"]}, "no_scores"),
    ("comparison", "rankings", {"instruction": "q", "output": ["a", "b"], "ranks": [1]}, "no_scores"),
    ("comparison", "rankings", {"instruction": "q", "output": ["a", "b"], "ranks": [1, None]}, "no_scores"),
    ("comparison", "rankings", {"instruction": "q", "output": ["a", "b"], "rank": 1}, "no_scores"),
    (
        "comparison",
        "preferences",
        {"prompt": "q", "responses": [{"text": "a", "score": "nan"}, {"text": "b", "score": 1}]},
        "not_finite",
    ),
    ("transcript", "demonstrations", {"text": "Once there was a dog. It ran."}, "no_transcript"),
    (
        "text",
        "demonstrations",
        {"text": "Which is best? I ask.", "role": "prompter", "message_id": "1", "parent_id": None},
        "one_turn_of_several",
    ),
]


@pytest.mark.parametrize(("name", "kind", "row", "wanted"), DROPPED)
def test_what_is_not_understood_drops_the_row_with_a_reason_of_its_own(name, kind, row, wanted):
    assert reason(name, kind, row) == wanted


ROWS = [
    ("alpaca", "demonstrations", {"instruction": "q", "output": "a"}),
    ("messages", "demonstrations", {"messages": CHAT}),
    ("trl", "preferences", {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("trl", "unpaired", {"prompt": "q", "completion": "a", "label": True}),
    ("trl", "rankings", {"prompt": "q", "completions": ["a", "b"], "scores": [1, 2]}),
    ("trl", "completions", {"prompt": "q", "completions": ["a", "b"]}),
]


@pytest.mark.parametrize("name", ["weight", "train"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (False, "nothing_to_train"),
        (0, "nothing_to_train"),
        ("0.0", "nothing_to_train"),
        ("no", "nothing_to_train"),
        ("FALSE", "nothing_to_train"),
        (0.5, "unknown_weight"),
        (2, "unknown_weight"),
        ("half", "unknown_weight"),
        ([1], "unknown_weight"),
    ],
)
@pytest.mark.parametrize(("form", "kind", "row"), ROWS)
def test_a_row_that_is_not_to_be_trained_on_in_full_is_dropped(form, kind, row, name, value, why):
    if (kind, name) == ("preferences", "weight") and value in (0.5, 2):
        assert parse(form, kind, {**row, name: value})[0]["weight"] == value, "pairs are weighed by any number above 0"
        return
    assert reason(form, kind, {**row, name: value}) == why


@pytest.mark.parametrize("value", [1, 1.0, "1", True, "true", None, ""])
@pytest.mark.parametrize(("form", "kind", "row"), ROWS)
def test_a_row_with_the_weight_1_or_none_is_trained_on_in_full(form, kind, row, value):
    assert parse(form, kind, {**row, "weight": value, "train": value}) == parse(form, kind, row)


def test_the_weight_of_an_answer_does_not_matter_to_a_prompt():
    assert parse("alpaca", "prompts", {"instruction": "q", "output": "a", "weight": 0})[0]["prompt"] == user("q")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("label", False, "labelled_bad"),
        ("label", 0, "labelled_bad"),
        ("label", "bad", "labelled_bad"),
        ("kto_tag", False, "labelled_bad"),
        ("kto_tag", "false", "labelled_bad"),
        ("label", "greeting", "unknown_label"),
        ("label", 0.3, "unknown_label"),
    ],
)
def test_a_turn_that_is_labelled_bad_or_in_a_way_that_is_not_known_drops_the_row(key, value, why):
    assert reason("messages", "demonstrations", {"messages": [*user("q"), {**assistant("a")[0], key: value}]}) == why
    assert parse("messages", "demonstrations", {"messages": [*user("q"), {**assistant("a")[0], key: "good"}]}) == [
        {"messages": CHAT}
    ]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (1.0, True),
        ("1", True),
        ("0", False),
        ("True", True),
        ("no", False),
        (" Good ", True),
        ("bad", False),
        ("Desirable", True),
        ("undesirable", False),
        ("thumbs_up", True),
        ("Thumbs-Down", False),
        ("👍", True),
        ("👎", False),
        ("positive", True),
        ("Negative", False),
        ("correct", True),
        ("n", False),
        (-1, False),
        (1, True),
        ("-1", False),
    ],
)
def test_labels_are_booleans_numbers_or_words(value, label):
    for name in ("label", "kto_tag"):
        (row,) = parse("trl", "unpaired", {"prompt": "q", "completion": "a", name: value})
        assert row["label"] is label


@pytest.mark.parametrize(
    "row", [{}, {"label": None}, {"label": ""}, {"label": 2}, {"label": "World"}, {"label": True, "kto_tag": False}]
)
def test_a_row_without_a_label_that_is_known_is_no_unpaired_row(row):
    assert reason("trl", "unpaired", {"prompt": "q", "completion": "a", **row}) == "no_label"


@pytest.mark.parametrize(
    "text",
    [
        "Human: q\n\nAssistant: a",
        "\n\nHuman: q\n\nAssistant: a",
        "### Human: q\n### Assistant: a",
        "### Instruction:\nq\n\n### Response:\na",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n",
        "<|user|>\nq</s>\n<|assistant|>\na</s>",
        "<|prompter|>q<|endoftext|><|assistant|>a<|endoftext|>",
    ],
)
def test_notations_of_transcripts(text):
    assert is_transcript(text) and transcript_turns(text) == CHAT


CHATML = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{CHATML}a<|im_end|>\n<|im_start|>tool\nx<|im_end|>\n", "tool_calls"),
        ("<|user|>\nq\n<|assistant|>\na\n<|tool|>\nx\n", "tool_calls"),
        ("<|user|>\nq<|assistant|>\na\n<|observation|>\nx", "tool_calls"),
        ("<|user|>q<|assistant|>a<|observation|>x", "tool_calls"),
        ("### Human: q\n### Assistant: a\n### Tool: x", "tool_calls"),
        (f"{CHATML}a<|im_end|>\n<|im_start|>user_2\nx<|im_end|>\n", "unknown_role"),
        ("<|user|>\nq\n<|assistant|>\na\n<|wizard|>\nx", "unknown_role"),
        (f"{CHATML}a<|im_end|>\n<|im_start|>tool name=w\nx", "rendered_template"),
        (f"{CHATML}a<|im_end|>b<|im_end|>", "rendered_template"),
        ("<|im_start|> user\nq<|im_end|>\n", "rendered_template"),
        ("### Human: q\n### Assistant: a<|im_end|>\n### Human: b", "rendered_template"),
    ],
)
def test_a_turn_of_a_speaker_that_is_not_known_is_never_part_of_an_answer(text, why):
    for format_, row in (("transcript", {"text": text}), ("trl", {"prompt": "q", "completion": text})):
        assert reason(format_, "demonstrations", row) == why


def test_a_heading_within_an_answer_is_no_speaker():
    text = "### Human: q\n### Assistant: a\n\n### Summary: b\n### Function: c"
    assert transcript_turns(text) == [*user("q"), *assistant("a\n\n### Summary: b\n### Function: c")]


def test_a_developer_speaks_as_the_system():
    text = f"<|im_start|>developer\nIn French.<|im_end|>\n{CHATML}a<|im_end|>\n<|endoftext|>"
    assert transcript_turns(text) == [*SYSTEM, *CHAT]


def test_an_answer_is_without_the_end_that_the_notation_of_its_prompt_writes():
    for prompt, end in (
        (CHATML, "<|im_end|>\n"),
        ("<|user|>\nq</s>\n<|assistant|>\n", "</s>"),
        ("USER: q ASSISTANT:", "</s>"),
    ):
        row = {"prompt": prompt, "chosen": f"a{end}", "rejected": f"b{end}"}
        assert parse("trl", "preferences", row) == [
            {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")} | figures()
        ]
    assert reason("trl", "demonstrations", {"prompt": CHATML, "completion": "a<|im_end|>\nb"}) == "rendered_template"


def test_an_answer_to_a_plain_prompt_may_speak_of_control_tokens():
    (row,) = parse("trl", "demonstrations", {"prompt": "What ends a turn?", "completion": "It is <|im_end|>"})
    assert row["messages"] == [*user("What ends a turn?"), *assistant("It is <|im_end|>")]


def figures():
    return dict.fromkeys(("soft_label", "margin", "score_chosen", "score_rejected"))


@pytest.mark.parametrize("text", ["User: q\nAssistant:", "USER: q ASSISTANT:"])
def test_a_script_is_a_transcript_only_where_the_answer_is_open(text):
    assert is_transcript(text) and transcript_turns(text) == user("q")
    assert not is_transcript(f"{text} a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "q",
        "Human: q",
        "Tell me of ### Human: and ### Assistant: marks",
        "# Title\n## Human: q",
        "<b>Assistant:</b> Human:",
    ],
)
def test_texts_that_mention_speakers_are_no_transcripts(text):
    assert not is_transcript(text)


WORDS = (
    st.text(alphabet="abc .?!é\n", min_size=1, max_size=20)
    .map(str.strip)
    .filter(lambda text: text and "\n\n" not in text)
)


@given(st.lists(WORDS, min_size=2, max_size=7), st.booleans())
def test_turns_come_back_whatever_the_format_writes_them_in(texts, has_system):
    spoken = [
        {"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts[: len(texts) // 2 * 2])
    ]
    whole = [*SYSTEM, *spoken] if has_system else spoken
    row = {"system": "In French."} if has_system else {}
    names = {"user": "human", "assistant": "gpt"}
    said = "".join(f"\n\n{'Human' if turn['role'] == 'user' else 'Assistant'}: {turn['content']}" for turn in spoken)
    guanaco = "".join(f"### {'Human' if turn['role'] == 'user' else 'Assistant'}: {turn['content']}" for turn in spoken)
    pairs = [[spoken[at]["content"], spoken[at + 1]["content"]] for at in range(0, len(spoken) - 2, 2)]
    last, answer = spoken[-2]["content"], spoken[-1]["content"]
    for name, columns in {
        "messages": {"messages": spoken},
        "sharegpt": {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in spoken]},
        "hh_rlhf": {"chosen": said},
        "transcript": {"text": guanaco},
        "alpaca": {"instruction": last, "output": answer, "history": pairs},
        "trl": {"prompt": spoken[:-1], "completion": answer},
    }.items():
        assert parse(name, "demonstrations", {**row, **columns}) == [{"messages": whole}], name


@given(st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=6))
def test_no_conversation_has_its_turns_out_of_order(roles):
    turns = [{"role": role, "content": "x"} for role in roles]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    good = bool(spoken) and spoken == [("user", "assistant")[at % 2] for at in range(len(spoken))]
    try:
        assert ordered(turn_list(turns)) == turns and good
    except RowError as error:
        assert not good and error.reason in ("wrong_role_order", "empty")


def test_the_blank_after_the_speaker_s_name_is_no_part_of_an_answer():
    row = {"prompt": "Human: q\n\nAssistant:", "chosen": " a", "rejected": " b"}
    (found,) = trl.parse(row, "preferences")
    assert (found["chosen"], found["rejected"]) == (assistant("a"), assistant("b"))
    (other,) = trl.parse({**row, "prompt": "q"}, "preferences")
    assert other["chosen"] == assistant(" a"), "no transcript: the answer is as it was given"


@pytest.mark.parametrize("other", ["yes\u200b", "\ufeffyes", " yes"])
def test_answers_that_look_the_same_are_an_identical_pair(other):
    with pytest.raises(RowError, match="identical_pair"):
        preference([*user("q"), *assistant("yes")], [*user("q"), *assistant(other)])
