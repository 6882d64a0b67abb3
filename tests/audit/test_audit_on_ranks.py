"""Several ranks find what one process finds, to the byte."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audit_files import IMAGE_SIZE, write_png
from rank_threads import on_ranks

from monai_deepssim.audit.clean_up.deduplication_steps import perform_deduplication
from monai_deepssim.audit.clean_up.filter_steps import perform_filter
from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions, FilterOptions
from monai_deepssim.audit.steps import perform_audit
from monai_deepssim.engines import ShardedSearch
from monai_deepssim.metrics import NCCDetector
from monai_deepssim.options import read_options
from monai_deepssim.ranks import Ranks


def audit_on(size: int, folders: Path, name: str, kind=AuditOptions, perform=perform_audit, **options):
    """Audit on so many ranks, and return what the tables hold."""
    values = {
        "training_dir": folders / "training",
        "output_dir": folders / name,
        "image_size": IMAGE_SIZE,
        "device": "cpu",
        "patient_id_pattern": r"(sub-\d)",
        "top_k": 4,
        **({} if kind is DeduplicationOptions else {"synthetic_dir": folders / "synthetic", "controls": None}),
        **options,
    }
    checked = read_options(kind, values)

    def run(ranks: Ranks) -> None:
        perform(checked, write=ranks.is_first)

    ended = on_ranks(size, run)
    assert ended == [None] * size
    return {path.name: path.read_bytes() for path in sorted((folders / name).glob("*.csv"))}


def test_two_ranks_write_the_files_of_one(folders, checkpoint, axial) -> None:
    write_png(folders / "holdout" / "new-57.png", axial(57))
    # Batches of four: each rank embeds some.
    options = {"checkpoint": checkpoint, "controls": 1, "holdout_dir": folders / "holdout", "batch_size": 4}
    alone = audit_on(1, folders, "alone", **options)
    assert {"matches.csv", "controls.csv", "holdout.csv"} <= set(alone)
    assert audit_on(2, folders, "ranks", **options) == alone
    # All of it again, with nothing to do, and with one image to embed among those that are.
    assert audit_on(2, folders, "ranks", **options) == alone
    write_png(folders / "training" / "added.png", axial(58))
    assert audit_on(2, folders, "ranks", **options) == audit_on(1, folders, "grown", **options)


def test_three_ranks_with_uneven_shares_or_none_take_part(folders) -> None:
    for path in sorted((folders / "training").iterdir())[2:]:
        path.unlink()
    alone = audit_on(1, folders, "alone", detector="ncc")
    assert audit_on(3, folders, "ranks", detector="ncc") == alone


def test_a_detector_that_cannot_search_parts_looks_up_parts_of_the_images() -> None:
    random = np.random.default_rng(0)
    embeddings, queries = [random.random((7, 6), np.float32), random.random((5, 6), np.float32)], torch.rand(4, 6)

    class Whole(NCCDetector):
        def search(self, representations, num_neighbors=1):
            assert len(self.training_representations) == 12
            return super().search(representations, num_neighbors)

    for kind in (NCCDetector, Whole):
        expected = kind().fit_representations(embeddings).search(queries, 3)
        for found in on_ranks(3, lambda _, kind=kind: ShardedSearch(kind()).fit(embeddings).search(queries, 3)):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "perform"), [(FilterOptions, perform_filter), (DeduplicationOptions, perform_deduplication)]
)
def test_two_ranks_clean_a_set_as_one_does(folders, axial, kind, perform) -> None:
    for side in ("training", "synthetic"):
        write_png(folders / side / "again.png", axial(60)[:, ::-1])
    cleaning = {"kind": kind, "perform": perform, "detector": "ncc"}
    alone = audit_on(1, folders, "alone", **cleaning)
    assert "manifest.csv" in alone
    assert audit_on(2, folders, "ranks", **cleaning) == alone
