"""What stands for a tokenizer's code changes with every file of it, and with no other."""

import sys

import pytest
from transformers import PreTrainedTokenizerFast

from alignflow.data.tokenizer_code import code_of

FILES = {
    "base.py": "from transformers import PreTrainedTokenizerFast\nfrom .words import WORDS\nclass Base(PreTrainedTokenizerFast):\n    pass\n",
    "words.py": "WORDS = ['a']\n",
    "own.py": "import json\nfrom . import marks\nfrom .base import Base\nclass Own(Base):\n    pass\n",
    "marks.py": "MARK = '<'\n",
    "model.py": "SIZE = 1\n",
    "__init__.py": "",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A class of a package of the user's own, whose files may be written anew."""
    folder = tmp_path / "tokenizer_of_mine"
    folder.mkdir()
    for name, source in FILES.items():
        (folder / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    from tokenizer_of_mine import model, own

    assert model.SIZE == 1
    yield folder, own.Own
    for name in set(sys.modules) - before:
        if name.startswith("tokenizer_of_mine"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "counts"),
    [("own.py", True), ("base.py", True), ("words.py", True), ("marks.py", True), ("model.py", False)],
)
def test_the_files_of_a_class_its_bases_and_what_they_import_count(own, file, counts):
    folder, made = own
    before = code_of(made)
    assert code_of(made) == before and str(folder) not in before
    (folder / file).write_text(FILES[file] + "# changed\n")
    assert (code_of(made) != before) == counts


def test_two_modules_of_one_folder_without_a_package_belong_together(tmp_path, monkeypatch):
    (tmp_path / "words_of_mine.py").write_text("WORDS = ['a']\n")
    (tmp_path / "class_of_mine.py").write_text(
        "try:\n    from .words_of_mine import WORDS\nexcept ImportError:\n    from words_of_mine import WORDS\nclass Own:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import class_of_mine

    before = code_of(class_of_mine.Own)
    (tmp_path / "words_of_mine.py").write_text("WORDS = ['b']\n")
    assert code_of(class_of_mine.Own) != before
    del sys.modules["class_of_mine"], sys.modules["words_of_mine"]


def test_a_class_of_transformers_is_its_name_alone():
    assert (
        code_of(PreTrainedTokenizerFast)
        == f"{PreTrainedTokenizerFast.__module__}.{PreTrainedTokenizerFast.__qualname__}"
    )
