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


def test_what_is_compiled_ahead_is_all_that_a_later_process_needs():
    for spatial_dims in (2, 3):
        compile_kernels(spatial_dims)
    code = """
import numpy as np
import torch
from numba.core import event
from monai_deepssim.search.descriptor_cells import CellLists
from monai_deepssim.similarity import copy_score, kernels_are_compiled, pairwise_ssim
rows = np.ones((1, 128), np.uint8)
centres = rows / np.float32(128**0.5)
for size in ((20, 24), (16, 18, 17)):
    print(kernels_are_compiled(len(size)))
    with event.install_recorder("numba:compile") as recorder:
        images = torch.rand(2, 1, *size)
        copy_score(images, images.flip(0))
        pairwise_ssim(images)
        CellLists(centres, np.array([0]), [(np.array([7]), rows)]).search(rows, 1, 1)
    print(len(recorder.buffer))
"""
    assert run(code) == ["True", "0"] * 2
    assert kernels_are_compiled(2)
    assert kernels_are_compiled(3)


def test_the_first_process_that_aligns_lets_children_compile_each_kernel_once(tmp_path):
    code = """
import os
import subprocess
from threading import Lock
import torch
from monai_deepssim.similarity.kernels import ensure_compiled, first_calls
names, lock = [], Lock()
for name in ("align_pair", "deform_pair", "scan_cells", "fill_ssim", "window_means", "sum_least_squares",
             "volume_ssim", "warp_volume", "deform_volume"):
    setattr(first_calls, f"_{name}", lambda name=name: names.append(name))
os.cpu_count = lambda: 2
children = []
def run(command, env, **options):
    assert env["NUMBA_CACHE_DIR"]
    children.append(command)
    with lock:
        exec(command[-1].split("room; ")[-1], {})
subprocess.run = run
for dims in (2, 3):
    ensure_compiled(dims)
    print(len(children), *sorted(names))
    names.clear()
    children.clear()
"""
    expected = [
        "2 align_pair deform_pair fill_ssim scan_cells window_means",
        "2 deform_volume fill_ssim sum_least_squares volume_ssim warp_volume window_means",
    ]
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == expected


@pytest.mark.parametrize(("name", "num_compiled"), [("window_means", 0), ("of_no_kernel", 1)])
def test_what_a_child_compiled_is_read_and_without_a_child_it_is_compiled_here(tmp_path, name, num_compiled):
    # A process that compiles rounds sums otherwise than one that reads the cache.
    code = f"""
import numpy as np
from monai_deepssim.similarity.kernels import compilation, window_means
window_means.py_func.__name__ = {name!r}
compilation.compile_in_children([window_means])
images, out = np.ones((1, 1, 7, 7)), np.empty((1, 1, 1, 1), np.float32)
window_means(images, 1, 7, out, out.copy())
print(float(out[0, 0, 0, 0]), sum(window_means.stats.cache_misses.values()))
"""
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == [f"1.0 {num_compiled}"]
