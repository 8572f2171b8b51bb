"""Files of a checkpoint: which tensors stand in which, and the card."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.checkpoints import card_text, licences_of, plan_shards


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 100))
def test_every_tensor_stands_once_in_order_and_no_file_is_over_the_limit_unless_one_tensor_is(sizes, limit):
    named = {f"t{number:02}": size for number, size in enumerate(sizes)}
    files = plan_shards(named, limit)
    assert [name for names in files.values() for name in names] == list(named)
    for names in files.values():
        assert len(names) == 1 or sum(named[name] for name in names) <= limit
    assert len(files) > 1 or sum(sizes) <= limit or len(sizes) == 1


def test_a_text_of_a_recipe_becomes_no_html_link_or_image_of_the_card():
    text = card_text({"Model": "Made by alignflow.", "recipe": "<script>x</script> ![a](b)\nnew `line`"})
    (line,) = [line for line in text.splitlines() if line.startswith("- recipe: ")]
    assert "<script>" not in text and "![a](b)" not in text and "new" in line and text.startswith("# Model\n")


@pytest.mark.parametrize("inputs", [(), (None,)])
def test_without_records_the_licence_is_unknown(inputs):
    assert licences_of(*inputs) == "unknown"
