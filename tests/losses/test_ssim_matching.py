"""The SSIM matching loss."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from skimage.metrics import structural_similarity

from monai_deepssim.losses import SSIMMatchingLoss
from monai_deepssim.similarity import standardize


def symmetric_ssim(x, y):
    x, y = x[0].double().numpy(), y[0].double().numpy()
    one = structural_similarity(x, y, data_range=x.max() - x.min())
    return (one + structural_similarity(y, x, data_range=y.max() - y.min())) / 2


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_it_is_the_weighted_mean_over_all_unordered_pairs(phantoms, weight):
    images = standardize(torch.cat([phantoms[:4], phantoms[:1]]))  # the last pair is a copy, with SSIM 1
    embeddings = torch.randn(5, 16)
    total = weights = 0.0
    for i, j in combinations(range(5), 2):
        ssim = symmetric_ssim(images[i], images[j])
        factor = weight if ssim >= 0.5 else 1.0
        total += factor * (F.cosine_similarity(embeddings[i], embeddings[j], dim=0).item() - ssim) ** 2
        weights += factor
    loss = SSIMMatchingLoss(high_ssim=0.5, high_ssim_weight=weight)(embeddings, images)
    assert loss.item() == pytest.approx(total / weights, abs=1e-5)


def test_the_gradient_moves_cosines_towards_ssim(phantoms):
    images = standardize(phantoms[:4])
    embeddings = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    loss_function = SSIMMatchingLoss()
    for _ in range(200):
        optimizer.zero_grad()
        loss = loss_function(embeddings, images)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4


def test_half_precision_embeddings_of_mixed_precision_training_are_taken(phantoms):
    images = standardize(phantoms[:3])
    embeddings = torch.randn(3, 8)
    exact = SSIMMatchingLoss()(embeddings, images)
    assert SSIMMatchingLoss()(embeddings.bfloat16(), images).item() == pytest.approx(exact.item(), rel=0.05)


@pytest.mark.parametrize(
    ("embeddings", "images"), [((1, 8), (1, 1, 32, 32)), ((3, 8), (2, 1, 32, 32)), ((8,), (8, 1, 9, 9))]
)
def test_a_batch_without_pairs_is_an_error(embeddings, images):
    with pytest.raises(ValueError, match="no pairs"):
        SSIMMatchingLoss()(torch.rand(embeddings), torch.rand(images))


def test_a_weight_of_zero_is_an_error():
    with pytest.raises(ValueError, match="positive"):
        SSIMMatchingLoss(high_ssim_weight=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_loss_and_gradient_are_those_of_the_cpu(phantoms):
    images, losses, gradients = standardize(phantoms), [], []
    for device in ("cpu", "cuda"):
        embeddings = torch.randn(12, 16, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
        loss = SSIMMatchingLoss(high_ssim=0.3, high_ssim_weight=4.0)(embeddings, images.to(device))
        loss.backward()
        losses.append(loss.detach().cpu())
        gradients.append(embeddings.grad.cpu())
    torch.testing.assert_close(losses[1], losses[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=0)
