"""Each kind of principle: what it likes, what it dislikes, and that its scores stay in [0, 1]."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alignflow.data.records import user
from alignflow.models.judges.base import Candidate
from alignflow.models.judges.principles import PRINCIPLES

# One valid set of options for each kind; a kind without a row here is not tested, and the test says so.
EXAMPLES = {
    "length_window": {"minimum": 3, "maximum": 6},
    "language": {"code": "en"},
    "no_repetition": {},
    "ends_properly": {},
    "sentiment": {},
    "forbidden_content": {"words": ["stupid", "shut up"]},
    "instruction_keywords": {},
    "required_words": {"words": ["please", "thank you"]},
    "sentence_count": {"minimum": 2, "maximum": 3},
    "vocabulary": {"minimum": 0.5},
    "no_placeholder": {},
    "pattern": {"pattern": r"^\d+$"},
    "prose": {},
    "no_stuffing": {},
    "own_words": {},
    "substance": {},
    "measured_tone": {},
    "no_harm": {},
}


def score(kind, text, question="How do I feed my small dog?", ended=True, **options):
    row = PRINCIPLES[kind]
    return row.score(Candidate(user(question), text, ended), row.options.model_validate({**EXAMPLES[kind], **options}))


def test_every_kind_has_an_example():
    assert set(EXAMPLES) == set(PRINCIPLES)


@pytest.mark.parametrize("kind", sorted(PRINCIPLES))
@given(
    text=st.text(max_size=200)
    | st.lists(st.sampled_from(["the", "dog", "stupid", "good", "not", "12", "a.", "!", "please"])).map(" ".join),
    ended=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_scores_stay_between_zero_and_one(kind, text, ended):
    assert 0.0 <= score(kind, text, ended=ended) <= 1.0


@pytest.mark.parametrize(
    ("words", "expected"), [(0, 0.0), (1, 1 / 3), (3, 1.0), (6, 1.0), (9, 0.5), (12, 0.0), (50, 0.0)]
)
def test_length_window_falls_off_on_both_sides(words, expected):
    assert score("length_window", "word " * words) == pytest.approx(expected)


def test_length_window_counts_characters_where_asked():
    assert score("length_window", "abcd", unit="characters") == 1.0
    assert score("length_window", "abc abc abc", unit="characters") < 0.5


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The dog is in the garden, and it was very happy to see you."),
        ("de", "Der Hund ist im Garten und er freut sich, weil die Sonne so schön ist."),
        ("fr", "Le chien est dans le jardin et il est content de vous voir."),
        ("es", "El perro está en el jardín y los niños no quieren que se vaya."),
    ],
)
def test_language_knows_its_own(code, text):
    scores = {other: score("language", text, code=other) for other in ("en", "de", "fr", "es")}
    assert scores[code] == max(scores.values()) == 1.0
    assert all(value <= 0.5 for other, value in scores.items() if other != code)


def test_no_repetition_sees_a_loop():
    assert score("no_repetition", "one two three four five") == 1.0
    assert score("no_repetition", "the cat sat " * 10) < 0.2
    assert score("no_repetition", "") == 0.0


@pytest.mark.parametrize(
    ("text", "ended", "expected"),
    [
        ("Fine.", True, 1.0),
        ("Fine", True, 0.5),
        ("Fine.", False, 0.5),
        ("Fine", False, 0.0),
        ('He said "go."', True, 1.0),
        ("", True, 0.0),
    ],
)
def test_ends_properly_wants_both_the_stop_and_the_mark(text, ended, expected):
    assert score("ends_properly", text, ended=ended) == expected


def test_sentiment_has_two_sides_and_a_middle():
    assert score("sentiment", "This is a table.") == 0.5
    assert score("sentiment", "A wonderful, kind friend!") > 0.7
    assert score("sentiment", "A terrible, rude mess.") < 0.3
    assert score("sentiment", "A terrible, rude mess.", direction="negative") > 0.7
    assert score("sentiment", "That is not good.") < 0.5


def test_sentiment_reads_a_lexicon(tmp_path):
    lexicon = tmp_path / "words.tsv"
    lexicon.write_text("# words of our own\nzorp\t3\nblik\t-3\n")
    assert score("sentiment", "zorp", lexicon=str(lexicon)) > 0.5 > score("sentiment", "blik", lexicon=str(lexicon))
    assert score("sentiment", "wonderful", lexicon=str(lexicon)) == 0.5


def test_forbidden_content_halves_with_each_word():
    assert score("forbidden_content", "How nice.") == 1.0
    assert score("forbidden_content", "How stupid.") == 0.5
    assert score("forbidden_content", "Stupid, stupid! Shut up.") == 0.125
    assert score("forbidden_content", "Stupidity is a word of its own.") == 1.0


def test_instruction_keywords_follow_the_last_user_turn():
    assert score("instruction_keywords", "Dogs need food; small dogs need feeding twice a day.") == 1.0
    assert score("instruction_keywords", "The weather is lovely.") == 0.0
    assert score("instruction_keywords", "Anything.", question="Why?") == 1.0


def test_required_words_count_their_share():
    assert score("required_words", "Please wait, thank you.") == 1.0
    assert score("required_words", "Please wait.") == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [("One.", 0.5), ("One. Two!", 1.0), ("One. Two. And three", 1.0), ("3.5 is a number", 0.5), ("", 0.0)],
)
def test_sentence_count(text, expected):
    assert score("sentence_count", text) == expected


def test_vocabulary_wants_distinct_words():
    assert score("vocabulary", "a b c d") == 1.0
    assert score("vocabulary", "a a a a") == 0.5


def test_no_placeholder():
    assert score("no_placeholder", "Dear [your name], hello") == 0.0
    assert score("no_placeholder", "Dear Ann, see [1].") == 1.0


def test_pattern_is_wanted_or_not():
    assert score("pattern", "42") == 1.0 and score("pattern", "x") == 0.0
    assert score("pattern", "x", wanted=False) == 1.0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("length_window", {"minimum": 9, "maximum": 3}),
        ("language", {"code": "xx"}),
        ("forbidden_content", {"words": []}),
        ("required_words", {"words": []}),
        ("pattern", {"pattern": "("}),
        ("no_repetition", {"n": 0}),
    ],
)
def test_wrong_options_are_refused(kind, options):
    with pytest.raises(ValidationError):
        PRINCIPLES[kind].options.model_validate(options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Wait...", 1), ('He said "No." and left.', 2), ("One. Two! Three", 3), ("3.5 is a number", 1)],
)
def test_sentences_end_where_a_stop_is_followed_by_a_blank_or_by_nothing(text, expected):
    assert score("sentence_count", text, minimum=100, maximum=None) == pytest.approx(expected / 100)


@pytest.mark.parametrize(
    "text",
    ["[your name]", "[[Your name]]", "Dear [name of the [x]],", "{{ x }}", "<insert here>", "a TODO b", "Lorem ipsum"],
)
def test_a_gap_to_fill_is_seen(text):
    assert score("no_placeholder", text) == 0.0


@pytest.mark.parametrize(
    "text", ["[your name", "your name]", "{{ x", "x }} {{", "{{\n}}", "<insert", "[a] [1]", "mastodon"]
)
def test_brackets_that_are_no_gap_are_left_alone(text):
    assert score("no_placeholder", text) == 1.0
