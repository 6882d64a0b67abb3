"""SSIM of originals and reconstructions."""

import pytest
import torch
from skimage.metrics import structural_similarity

from monai_deepssim.metrics import ReconstructionSSIMMetric, compute_reconstruction_ssim
from monai_deepssim.similarity import standardize


@pytest.fixture
def pairs(phantoms):
    originals = phantoms[:3, :, ::2, ::2]
    noise = torch.randn(originals.shape, generator=torch.Generator().manual_seed(0))
    return originals, originals + 0.1 * noise


def test_each_value_is_scikit_images_ssim_of_the_standardised_pair(pairs):
    originals, reconstructions = pairs
    x, y = (standardize(images)[:, 0].double().numpy() for images in pairs)
    expected = [structural_similarity(a, b, data_range=a.max() - a.min()) for a, b in zip(x, y, strict=True)]
    values = compute_reconstruction_ssim(reconstructions, originals)
    assert values.shape == (3, 1)
    torch.testing.assert_close(values[:, 0], torch.tensor(expected).float(), atol=1e-4, rtol=0)


def test_the_metric_averages_over_batches_and_takes_decollated_images(pairs):
    originals, reconstructions = pairs
    metric = ReconstructionSSIMMetric()
    metric(reconstructions[:2], originals[:2])
    metric([reconstructions[2]], [originals[2]])
    expected = compute_reconstruction_ssim(reconstructions, originals).mean()
    torch.testing.assert_close(metric.aggregate().squeeze(), expected)


def test_different_shapes_are_an_error(pairs):
    with pytest.raises(ValueError, match="want one shape"):
        compute_reconstruction_ssim(pairs[0][:2], pairs[1])
