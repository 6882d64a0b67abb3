"""How long an audit will take is estimated from a few of its own images, and said before it starts."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from monai_deepssim.audit import estimate
from monai_deepssim.audit.detector import load_detector
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.sources import Side
from monai_deepssim.data import PhantomBrainDataset, list_in_memory
from monai_deepssim.options import read_options
from monai_deepssim.progress import Stages, quiet
from monai_deepssim.ranks import Ranks, as_rank


@pytest.fixture(scope="module")
def sides():
    phantoms = PhantomBrainDataset(10, seed=43, progress=False)
    images = torch.stack([item["image"].as_tensor() for item in phantoms])
    return [
        Side(name, Path(name), list_in_memory(images, name), [], in_memory=True) for name in ("training", "synthetic")
    ]


@pytest.fixture(scope="module")
def options():
    return read_options(AuditOptions, {"device": "cpu"})


def test_ten_times_the_images_take_ten_times_as_long(sides, options, monkeypatch):
    monkeypatch.setattr(estimate, "_SMALL_SET", 1)
    monkeypatch.setattr(estimate.time, "perf_counter", count().__next__)  # every measurement takes a second
    detector = load_detector(options)
    small, _ = estimate.estimate_seconds(sides, detector, options)
    large, _ = estimate.estimate_seconds([replace(side, items=side.items * 10) for side in sides], detector, options)
    assert large == pytest.approx(10 * small)
    # 20 images are embedded in eighths of a second, the synthetic ones and their features are looked up, and ten pairs
    # of each synthetic image and of each training image are compared, of which 56 take a second.
    assert small == pytest.approx(20 / 8 + 30 / 8 + (100 + 100) / 56)
    assert estimate.estimate_seconds(sides, detector, replace(options, verify=False))[0] == pytest.approx(20 / 8)


def test_four_ranks_share_what_one_would_do(sides, options, monkeypatch):
    monkeypatch.setattr(estimate, "_SMALL_SET", 1)
    monkeypatch.setattr(estimate.time, "perf_counter", count().__next__)
    detector = load_detector(options)
    alone = estimate.estimate_seconds(sides, detector, options, 560)
    with as_rank(Ranks(rank=0, size=4)):
        shared = estimate.estimate_seconds(sides, detector, options, 560)
    assert shared == pytest.approx([seconds / 4 for seconds in alone])


def test_what_the_controls_take_is_estimated_and_said_for_itself(sides, options, monkeypatch, capsys):
    monkeypatch.setattr(estimate.time, "perf_counter", count().__next__)
    detector = load_detector(options)
    seconds, of_controls = estimate.estimate_seconds(sides, detector, options, 560)
    # Like a synthetic image, each is embedded and looked up with its features; three pairs of it are compared.
    assert of_controls == pytest.approx(560 * (1 / 8 + 2 / 8 + 3 / 56))
    assert seconds - of_controls == pytest.approx(20 / 8 + 30 / 8 + (100 + 100) / 56)
    estimate.say_estimate(sides, detector, options, Stages({}), 560)
    assert capsys.readouterr().out == (
        "10 training and 10 synthetic images: about 4 minutes, of which about 4 minutes for 560 controls (copies of "
        "training images that show how many would be found; --controls none leaves them out)\n"
    )


def test_it_is_said_before_the_audit_and_an_upper_bound_where_something_is_done(
    sides, options, tmp_path, monkeypatch, capsys
):
    options = replace(options, output_dir=tmp_path)
    for seconds in (100, 20):
        monkeypatch.setattr(estimate, "estimate_seconds", lambda *_, seconds=seconds: (seconds, 0))
        estimate.say_estimate(sides, None, options, Stages({}))
        (tmp_path / "embeddings").mkdir(exist_ok=True)
        estimate.say_estimate(sides, None, options, Stages({}))
    images = "10 training and 10 synthetic images: "
    said = ["about 2 minutes", "at most about 2 minutes", "less than a minute", "less than a minute"]
    assert capsys.readouterr().out.splitlines() == [images + words for words in said]


def test_nothing_is_measured_that_nobody_will_read(sides, options, monkeypatch):
    monkeypatch.setattr(estimate, "estimate_seconds", None)
    with quiet():
        estimate.say_estimate(sides, None, options, Stages({}))


def test_compiling_is_a_stage_where_it_has_to_be_done(sides, options, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(estimate, "compile_kernels", lambda: calls.append(1))
    detector = load_detector(options)
    estimate.say_estimate(sides, detector, options, Stages({"compiling": "Compile"}))
    assert "[1/1] Compile" in capsys.readouterr().out
    estimate.say_estimate(sides, detector, options, Stages({"listing": "List"}))
    assert len(calls) == 1
