"""Pairs in order of promise: what cannot be the highest of its image, nor above the score asked for, is given up."""

import numpy as np
import pytest
import torch
from pandas import DataFrame
from pandas.testing import assert_frame_equal

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import ComparedImages, tabulate_candidates, verify_candidates
from monai_deepssim.metrics.rounds import compare_in_rounds
from monai_deepssim.transforms import Perturbation


def test_a_pair_has_to_reach_the_highest_of_its_query_or_the_score_from_which_all_are_wanted() -> None:
    scores = {(0, 3): 0.5, (0, 4): 0.7, (0, 5): 0.6, (0, 6): 0.65, (1, 3): 0.95, (1, 4): 0.9}
    pairs = DataFrame(list(scores), columns=["query", "training"])
    asked = []

    def compare(part: DataFrame) -> DataFrame:
        asked.append([tuple(row) for row in part.fillna(-1).itertuples(index=False)])
        return part.assign(score=[scores[row.query, row.training] for row in part.itertuples()])

    compared = compare_in_rounds(pairs, compare, least=0.86)
    assert asked == [[(0, 3, -1), (1, 3, -1)], [(0, 4, 0.5), (0, 5, 0.5), (1, 4, 0.86)], [(0, 6, 0.7)]]
    assert len(compared) == len(pairs)
    asked.clear()
    compare_in_rounds(pairs, compare, least=None)
    assert [len(part) for part in asked] == [6]
    asked.clear()
    compare_in_rounds(pairs, compare, least=np.inf)
    assert asked[1] == [(0, 4, 0.5), (0, 5, 0.5), (1, 4, 0.95)]


@pytest.fixture(scope="module")
def sides() -> tuple[ComparedImages, ComparedImages]:
    phantoms = torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(12, seed=5, progress=False)])
    copies = [torch.as_tensor(Perturbation("rotation_10").set_random_state(1)(phantoms[row])) for row in (3, 7)]
    queries = torch.stack([*copies, (phantoms[2] + phantoms[9]) / 2, phantoms[11].flip(2)])
    return ComparedImages(queries.__getitem__), ComparedImages(phantoms[:11].__getitem__)


def test_what_is_given_up_is_neither_the_highest_of_its_image_nor_a_copy(sides) -> None:
    candidates = tabulate_candidates(np.tile(np.arange(11), (4, 1)), np.zeros((4, 11)))
    everything = verify_candidates(candidates, *sides, keep=11)
    some = verify_candidates(candidates, *sides, keep=11, least=0.8)

    assert len(some) < len(everything) == 44
    highest = [pairs.drop_duplicates("query").reset_index(drop=True) for pairs in (everything, some)]
    assert_frame_equal(*highest)
    copies = [pairs[pairs["score"] > 0.8].reset_index(drop=True) for pairs in (everything, some)]
    assert len(copies[0]) >= 2
    assert_frame_equal(*copies)


def test_pairs_that_are_known_are_not_compared_again_and_change_nothing(sides) -> None:
    candidates = tabulate_candidates(np.tile(np.arange(11), (4, 1)), np.zeros((4, 11)))
    written: list[DataFrame] = []
    whole = verify_candidates(candidates, *sides, keep=11, least=np.inf, write=written.append)
    again: list[DataFrame] = []
    known = written[0]
    continued = verify_candidates(candidates, *sides, keep=11, least=np.inf, known=known, write=again.append)

    assert_frame_equal(continued, whole)
    pairs = [set(map(tuple, table[["query", "training"]].to_numpy())) for table in (known, *again)]
    assert not pairs[0].intersection(*pairs[1:])
