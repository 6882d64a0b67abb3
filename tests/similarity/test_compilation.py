"""Compiled functions where their code can be kept, and where it cannot."""

import subprocess
import sys


def test_without_a_folder_for_numbas_cache_the_package_works_all_the_same():
    code = """
from numba.core import caching
for kind in (caching.CacheImpl, caching.CodeLibraryCacheImpl):
    kind._locator_classes = []
from numba import njit
try:
    njit(cache=True)(lambda x: x)
except RuntimeError:
    print("no locator")
import torch
from monai_deepssim.similarity import pairwise_ssim
images = torch.rand(2, 1, 16, 16)
print(round(float(pairwise_ssim(images, images)[0, 0]), 3))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.split("\n")[:2] == ["no locator", "1.0"], ended.stderr
