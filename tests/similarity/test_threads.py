"""Work on several threads: what other libraries do meanwhile."""

import cv2
import pytest
import torch

from monai_deepssim.similarity import map_in_threads


@pytest.fixture
def two_threads():
    before, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(of_opencv)


def test_opencv_has_one_thread_in_each_of_ours_and_its_own_again_afterwards(two_threads):
    assert map_in_threads(lambda _: cv2.getNumThreads(), 4) == [1] * 4
    assert cv2.getNumThreads() == 2


def test_opencv_has_its_own_threads_again_after_an_error(two_threads):
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda number: 1 / number, 4)
    assert cv2.getNumThreads() == 2
