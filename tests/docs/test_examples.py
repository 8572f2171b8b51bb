"""Python on the pages of the docs runs as it stands."""

import re

import pytest

PAGES = ["docs/methods.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_example_learns_its_pairs(page, repository, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (repository / page).read_text(), flags=re.S)
    exec(compile(code, page, "exec"), {})
    loss, accuracy = map(float, capsys.readouterr().out.split())
    assert loss < 0.1 and accuracy == 1.0
