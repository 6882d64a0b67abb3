"""The SSIM of unrelated slices is one number, wherever it is told."""

import re
from pathlib import Path

import torch

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import pairwise_ssim, standardize

ROOT = Path(__file__).resolve().parents[1]
PLACES = [
    "docs/design_decisions.md",
    "docs/training.md",
    "docs/measured.md",
    "monai_deepssim/transforms/graded_variants.py",
    "monai_deepssim/metrics/ssim_matching.py",
]


def test_the_ssim_of_unrelated_slices_is_that_of_phantom_subjects_and_the_same_in_all_places():
    cohort = PhantomBrainDataset(30, seed=9101, levels=["basal_ganglia"], progress=False)
    ssim = pairwise_ssim(standardize(torch.stack([item["image"].as_tensor() for item in cohort])))
    rows, columns = torch.triu_indices(30, 30, offset=1)
    measured = torch.quantile((ssim + ssim.T)[rows, columns] / 2, torch.tensor([0.5, 0.01, 0.99]))
    told = {}
    for place in PLACES:
        text = re.sub(r"\s+", " ", (ROOT / place).read_text(encoding="utf-8"))
        told[place] = [
            float(number)
            for number in re.search(r"(0\.\d+) in the median,? \(?(0\.\d+) to (0\.\d+) in 98 %", text).groups()
        ]
    assert len({tuple(numbers) for numbers in told.values()}) == 1, told
    # A tenth of the pairs of the command in these texts.
    torch.testing.assert_close(measured, torch.tensor(told[PLACES[0]]), atol=0.02, rtol=0)
