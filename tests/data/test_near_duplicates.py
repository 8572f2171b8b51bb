"""Near-duplicate search: what many rows share says nothing, and what two rows share beyond it does."""

import random
from collections import Counter
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data import similar_sets
from alignflow.data.near_duplicates import near_duplicates, shingles
from alignflow.data.records import assistant, user
from alignflow.data.row_texts import row_text, without_system

LONG = " ".join(f"rule{number}" for number in range(300))


def question(number):
    return f"how many legs have {number} spiders and {number * 7} cows in all?"


def kept_of(rows, threshold=0.9):
    texts = [row_text(row) for row in rows]
    bare = [without_system(row) or text for row, text in zip(rows, texts, strict=True)]
    return near_duplicates(texts, threshold, bare).count(False)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 40, 400])
def test_a_system_prompt_of_all_rows_makes_no_two_of_them_alike(count):
    rows = [
        {"messages": [{"role": "system", "content": LONG}, *user(question(n)), *assistant(f"{n} times so many")]}
        for n in range(count)
    ]
    assert kept_of(rows) == count


@pytest.mark.parametrize("systems", [1, 2, 5, 20, 60])
def test_a_few_system_prompts_make_no_two_rows_alike(systems):
    rows = [
        {"prompt": [{"role": "system", "content": f"{LONG} {n % systems}"}, *user(question(n))]} for n in range(120)
    ]
    assert kept_of(rows) == 120


@pytest.mark.parametrize(("count", "share"), [(20, 1.0), (40, 0.6), (400, 1.0), (400, 0.6)])
def test_a_template_of_most_rows_makes_no_two_of_them_alike(count, share):
    """In a template in the user's turn, as Alpaca's; the other rows have none."""
    rows = [
        {
            "messages": [
                *user(f"{LONG} {question(n)} {LONG[::-1]}" if n < share * count else question(n)),
                *assistant(f"{n} times"),
            ]
        }
        for n in range(count)
    ]
    assert kept_of(rows) == count


def test_rows_that_are_nearly_the_same_are_found_under_a_shared_system_prompt():
    rng = random.Random(0)
    texts = [" ".join(rng.choices([f"w{word}" for word in range(500)], k=60)) for _ in range(30)]
    rows = [
        {"messages": [{"role": "system", "content": LONG}, *user(text), *assistant("yes")]}
        for text in [*texts, texts[3] + " more", "x " + texts[7]]
    ]
    assert kept_of(rows) == 30


def test_the_same_text_under_two_templates_is_not_the_same_row():
    texts = [f"{word} " * 3 for word in ("sun", "moon", "star", "sea")]
    rows = [
        {"messages": [*user(f"{order} this sentence: {text}"), *assistant("done")]}
        for order in ("translate to french", "count the words of")
        for text in texts
    ]
    assert kept_of(rows) == 8


words = st.lists(st.sampled_from([f"w{number}" for number in range(12)]), min_size=1, max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=15), st.floats(0.5, 0.95), st.randoms())
def test_whether_any_two_rows_are_alike_does_not_depend_on_their_order(texts, threshold, rng):
    flags = near_duplicates(texts, threshold)
    order = list(range(len(texts)))
    rng.shuffle(order)
    shuffled = near_duplicates([texts[index] for index in order], threshold)
    assert not flags[0] and not shuffled[0]
    assert any(flags) == any(shuffled)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=15), st.floats(0.5, 0.95))
def test_a_text_that_is_equal_to_an_earlier_one_is_always_found(texts, threshold):
    flags = near_duplicates(texts, threshold)
    assert all(flag or text not in texts[:index] for index, (text, flag) in enumerate(zip(texts, flags, strict=True)))


@pytest.mark.parametrize(("rows", "again"), [(100, 10), (100, 40), (300, 120), (4, 3)])
def test_a_text_that_is_there_again_and_again_is_found_however_often(rows, again):
    draw = random.Random(0)
    words = [f"w{number}" for number in range(3000)]
    long = " ".join(draw.choices(words, k=120))
    texts = [f"{long} number {number}" for number in range(again)] + [
        " ".join(draw.choices(words, k=60)) for _ in range(rows - again)
    ]
    assert sum(near_duplicates(texts, 0.8)) == again - 1


PRIME = (1 << 61) - 1


def shingles_of(text):
    words = text.lower().split()
    return {crc32(" ".join(words[start : start + 3]).encode()) for start in range(max(1, len(words) - 2))}


def one_by_one(texts, threshold, bare):
    """The rule in plain Python: every pair of rows in order."""
    draw = np.random.default_rng(0)
    factors, offsets = (draw.integers(low, 1 << 31, 64, dtype=np.uint64).tolist() for low in (1, 0))
    whole, own = [shingles_of(text) for text in texts], [shingles_of(text) for text in bare]
    counts = Counter(shingle for members in own for shingle in members)
    common = {shingle for shingle, count in counts.items() if len(texts) >= 20 and count > len(texts) / 2}
    own = [members - common or members for members in own]
    signatures = [
        [
            min((shingle * factor + offset) % PRIME for shingle in members)
            for factor, offset in zip(factors, offsets, strict=True)
        ]
        for members in own
    ]
    bands = [[tuple(signature[start : start + 4]) for start in range(0, 64, 4)] for signature in signatures]
    found, kept = [], []
    for row in range(len(texts)):
        alike = [other for other in kept if any(one == two for one, two in zip(bands[row], bands[other], strict=True))]
        found.append(
            any(
                min(len(sets[row] & sets[other]) / len(sets[row] | sets[other]) for sets in (own, whole)) >= threshold
                for other in alike
            )
        )
        kept += [] if found[-1] else [row]
    return found


blocks = st.sampled_from(["the same begin of all", "a rule for you and me", "", "été  Σ\u00a0x"])


@pytest.mark.parametrize("few", [similar_sets.FEW, 0])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(blocks, words, words), min_size=1, max_size=45), st.floats(0.3, 0.95))
def test_the_rows_that_are_found_are_those_of_a_comparison_one_by_one(few, parts, threshold):
    """Where rows that share a band are all compared, and where they are looked up by their rarest shingles."""
    texts, bare = ([" ".join(part[start:]) for part in parts] for start in (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar_sets, "FEW", few)
        assert near_duplicates(texts, threshold, bare) == one_by_one(texts, threshold, bare)


def templated(rows, own, templates=4):
    """Rows of a few templates of 60 words, each with so many words of its own; every tenth is nearly equal to an earlier one."""
    draw = random.Random(1)
    words = [f"w{number}" for number in range(5000)]
    texts = []
    begins = [" ".join(draw.choices(words, k=60)) for _ in range(templates)]
    for row in range(rows):
        new = f"{begins[row % templates]} {' '.join(draw.choices(words, k=own))}"
        texts.append(f"{draw.choice(texts)} more" if row % 10 == 9 else new)
    return texts


@pytest.mark.parametrize("threshold", [0.6, 0.75, 0.9])
def test_rows_of_a_few_templates_that_are_found_are_those_of_a_comparison_one_by_one(threshold):
    for own in (5, 15):
        texts = templated(160, own)
        assert near_duplicates(texts, threshold) == one_by_one(texts, threshold, texts)


@pytest.mark.parametrize("own", [9, 12, 20])
def test_rows_of_a_few_templates_are_compared_with_few_others(own, monkeypatch):
    """They share bands with most rows of their template; looked up, and compared, are those alone that may be similar."""
    looked_up, compared = [], []
    of, similarities = similar_sets._Rarest.of, similar_sets._similarities
    monkeypatch.setattr(similar_sets._Rarest, "of", lambda self, row: looked_up.append(of(self, row)) or looked_up[-1])
    monkeypatch.setattr(
        similar_sets,
        "_similarities",
        lambda row, others, sets: compared.append(others) or similarities(row, others, sets),
    )
    for rows in (500, 2000):
        looked_up.clear()
        compared.clear()
        assert rows / 12 < sum(near_duplicates(templated(rows, own), 0.8)) < rows / 4
        assert len(looked_up) > rows / 4, "the rows share bands with many others"
        assert sum(map(len, looked_up)) < rows
        assert rows / 12 < sum(map(len, compared)) < 2 * rows


def test_the_shingles_of_many_texts_are_those_of_each():
    texts = ["", "a", "a b", "a b c", "a b c d a b c d", "ünï çödé wörds here", "one two three"]
    flat, counts = shingles(texts)
    assert [sorted(shingles_of(text)) for text in texts] == [
        part.tolist() for part in np.split(flat, np.cumsum(counts)[:-1])
    ]
