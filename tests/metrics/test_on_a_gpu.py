"""On a GPU scores are those of the CPU."""

import numpy as np
import pytest
import torch
from torch import nn

from monai_deepssim.metrics import (
    ContrastiveCopyDetector,
    DeepSSIMDetector,
    DeepSSIMMetric,
    LocalFeaturesDetector,
    MemorizationMetric,
    MSEDetector,
    NCCDetector,
    PHashDetector,
    ReconstructionSSIMMetric,
    SSIMDetector,
    SSIMMatchingMetric,
    TorchScriptDetector,
    compare_sides,
    compute_auth_pct,
    compute_ct_score,
    compute_fid,
    compute_fld_gap,
    compute_linear_mmd,
    compute_memorization_index,
    compute_mifid,
    compute_reconstruction_ssim,
    compute_retrieval_rank,
    compute_ssim_matching_errors,
    compute_ssim_matching_table,
)
from monai_deepssim.similarity import standardize

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def pooled_pixels():
    return nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten())


DETECTORS = {
    "deepssim": lambda device: DeepSSIMDetector(pooled_pixels(), threshold=0.99, device=device),
    "copy_detector": lambda device: ContrastiveCopyDetector(pooled_pixels(), threshold=0.99, device=device),
    "torchscript": lambda device: TorchScriptDetector(pooled_pixels(), resize=96, threshold=0.99, device=device),
    "memorization": lambda device: MemorizationMetric(pooled_pixels(), verify=True, device=device),
    "local_features": lambda device: LocalFeaturesDetector(device=device),
    "ssim": lambda device: SSIMDetector(threshold=0.99, device=device),
    "ncc": lambda device: NCCDetector(threshold=0.99, device=device),
    "mse": lambda device: MSEDetector(threshold=-1e-4, device=device),
    "phash": lambda device: PHashDetector(threshold=0.97, device=device),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector(phantoms, name):
    synthetic = torch.cat([phantoms[2:4].roll(1, 3), phantoms[8:]])
    results = []
    for device in ("cpu", "cuda"):
        detector = DETECTORS[name](device).fit([phantoms[:4].to(device), phantoms[4:8].to(device)])
        results.append(detector(synthetic.to(device)).cpu())
        detector.aggregate()
    torch.testing.assert_close(results[1][:, 0], results[0][:, 0], atol=1e-3, rtol=0)
    assert torch.equal(results[1][:, 1], results[0][:, 1])


SET_SCORES = {
    "fid": lambda synthetic, training, holdout: compute_fid(synthetic, training),
    "mifid": lambda synthetic, training, holdout: compute_mifid(synthetic, training),
    "linear_mmd": lambda synthetic, training, holdout: compute_linear_mmd(synthetic, training),
    "auth_pct": lambda synthetic, training, holdout: compute_auth_pct(synthetic, training),
    "ct_score": compute_ct_score,
    "fld_gap": compute_fld_gap,
}


@pytest.mark.parametrize("name", SET_SCORES)
def test_each_score_of_sets(name):
    sets = torch.randn(3, 200, 4, generator=torch.Generator().manual_seed(0)).unbind()
    expected = SET_SCORES[name](*sets)
    torch.testing.assert_close(SET_SCORES[name](*(rows.cuda() for rows in sets)).cpu(), expected, atol=1e-4, rtol=1e-4)


def test_the_memorization_index():
    random = torch.Generator().manual_seed(0)
    train = {layer: torch.randn(100, 8, generator=random) for layer in ("block3", "block7")}
    query = {layer: rows[:5] + 0.1 for layer, rows in train.items()}
    expected = compute_memorization_index(query, train)
    sides = ({layer: rows.cuda() for layer, rows in side.items()} for side in (query, train))
    found = compute_memorization_index(*sides)
    torch.testing.assert_close(found.oni.cpu(), expected.oni, atol=1e-3, rtol=0)
    assert torch.equal(found.nearest.cpu(), expected.nearest)


def test_reconstructions_and_their_metric(phantoms):
    blurred = nn.functional.avg_pool2d(phantoms, 3, 1, 1)
    expected = compute_reconstruction_ssim(blurred, phantoms)
    found = compute_reconstruction_ssim(blurred.cuda(), phantoms.cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)
    metric = ReconstructionSSIMMetric()
    metric(blurred.cuda(), phantoms.cuda())
    assert metric.aggregate().item() == pytest.approx(float(expected.mean()), abs=1e-4)


def test_deepssim_and_how_well_it_matches(phantoms):
    embedder, images = pooled_pixels(), standardize(phantoms)
    embeddings = embedder(images)
    errors = torch.stack(compute_ssim_matching_errors(embeddings, images))
    on_gpu = torch.stack(compute_ssim_matching_errors(embeddings.cuda(), images.cuda()))
    torch.testing.assert_close(on_gpu, errors, atol=1e-4, rtol=0)
    tables = [
        compute_ssim_matching_table(embeddings.to(device), images.to(device), edges=(0.0, 1.0))
        for device in ("cpu", "cuda")
    ]
    assert tables[1][0]["mae"] == pytest.approx(tables[0][0]["mae"], abs=1e-4)
    metric = SSIMMatchingMetric("mae")
    metric(embeddings.cuda(), images.cuda())
    assert float(metric.aggregate()) == pytest.approx(
        float(compute_ssim_matching_errors(embeddings, images)[1]), abs=1e-4
    )
    cosine = DeepSSIMMetric(embedder)
    cosine(phantoms.cuda(), phantoms.flip(3).cuda())
    expected = DeepSSIMMetric(embedder)
    expected(phantoms, phantoms.flip(3))
    assert cosine.aggregate().item() == pytest.approx(expected.aggregate().item(), abs=1e-4)


def test_ranks_of_sources():
    training = torch.randn(500, 32, generator=torch.Generator().manual_seed(1))
    queries, sources = training[:40] + 0.5, torch.arange(40)
    expected = compute_retrieval_rank(queries, training, sources)
    assert torch.equal(compute_retrieval_rank(queries.cuda(), training.cuda(), sources.cuda()).cpu(), expected)
    assert torch.equal(compute_retrieval_rank(queries, training, sources, device="cuda").cpu(), expected)


def test_sides_are_compared(phantoms):
    kinds = [
        [difference.kind for difference in compare_sides(phantoms.to(device), 1 - phantoms.to(device)).differences]
        for device in ("cpu", "cuda")
    ]
    assert kinds[0] == kinds[1] == np.unique(kinds[0]).tolist()
    assert "inverted" in kinds[0]
