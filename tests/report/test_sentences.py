"""Sentences of the report and the terminal that follow from numbers."""

import pytest

from monai_deepssim.report.sentences import error_rate_sentence


@pytest.mark.parametrize(
    ("fewest", "words"), [(18, "none of 4 images could be called, however close"), (3, "at least 3 have to be close")]
)
def test_no_more_images_are_wanted_than_there_are(fewest, words):
    discoveries = {"fdr": 0.05, "num_discoveries": 0, "fewest_discoverable": fewest, "num_null_patients": 8}
    summary = {"discoveries": discoveries, "num_synthetic": 4, "holdout_dir": None, "selection": None}
    text = error_rate_sentence({**summary, "num_close": 0, "num_copies": 0, "num_parts": 0})
    assert words in text
    assert "18" not in text
