"""Single bytes of a finished store change, in every kind of file: each change is found and healed, or is used by nothing."""

import shutil

from byte_flips import Truth, draw, in_process
from system_support import REPOSITORY, TINY

from alignflow.data.configs.loading import load_recipe

FLIPS = 66


def test_every_changed_byte_is_found_and_healed_or_used_by_nothing(finished, tmp_path):
    shutil.copytree(finished.store, tmp_path / "truth")
    truth = Truth(load_recipe(REPOSITORY / TINY), tmp_path / "truth")
    flips = list(draw(truth.store.root, FLIPS, seed=7))
    assert len({flip.kind for flip in flips}) >= 9, "of every kind of file some"
    in_process(truth, flips, tmp_path)
    assert not [flip for flip in flips if flip.wrong]
