"""Compiled functions where their code can be kept, and where it cannot."""

import os
import subprocess
import sys

import pytest

from monai_deepssim.similarity import compile_kernels, kernels_are_compiled


def run(code, **environment):
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("\n")[:-1]


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
from monai_deepssim.similarity import kernels_are_compiled, pairwise_ssim
images = torch.rand(2, 1, 16, 16)
print(kernels_are_compiled(), round(float(pairwise_ssim(images, images)[0, 0]), 3))
"""
    assert run(code) == ["no locator", "False 1.0"]


@pytest.mark.parametrize("size", [(20, 24), (16, 18, 17)])
def test_what_is_compiled_ahead_is_all_that_a_later_process_needs(size):
    compile_kernels(len(size))
    code = f"""
import torch
from numba.core import event
from monai_deepssim.similarity import copy_score, kernels_are_compiled, pairwise_ssim
print(kernels_are_compiled({len(size)}))
with event.install_recorder("numba:compile") as recorder:
    images = torch.rand(2, 1, *{size})
    copy_score(images, images.flip(0))
    pairwise_ssim(images)
print(len(recorder.buffer))
"""
    assert run(code) == ["True", "0"]
    assert kernels_are_compiled(len(size))


def test_the_first_process_that_aligns_lets_a_child_compile(tmp_path):
    code = """
import subprocess
import torch
from monai_deepssim.similarity import aligned_ssim, deform_onto
def run(command, env, **options):
    raise SystemExit(print(command[-1].split("; ")[-1], env["NUMBA_CACHE_DIR"]))
subprocess.run = run
for images in (torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16, 16)):
    for function in (aligned_ssim, deform_onto):
        try:
            function(images, images)
        except SystemExit:
            pass
"""
    expected = [f"compile_kernels({dims}) {tmp_path}" for dims in (2, 2, 3, 3)]
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == expected


@pytest.mark.parametrize(("child", "num_compiled"), [("import kernel; kernel.plus_one(1.0)", 0), ("exit(1)", 1)])
def test_what_a_child_compiled_is_read_and_without_a_child_it_is_compiled_here(tmp_path, child, num_compiled):
    # A process that compiles rounds sums otherwise than one that reads the cache.
    (tmp_path / "kernel.py").write_text(
        """
from monai_deepssim.similarity.kernels.compilation import cached_njit
@cached_njit()
def plus_one(x):
    return x + 1
"""
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from kernel import plus_one
from monai_deepssim.similarity.kernels.compilation import compile_in_child
compile_in_child([plus_one], {child!r})
print(plus_one(1.0), sum(plus_one.stats.cache_misses.values()))
"""
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == [f"2.0 {num_compiled}"]
