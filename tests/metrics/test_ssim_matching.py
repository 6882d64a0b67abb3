"""SSIM matching errors against scikit-image, over all pairs, in MONAI's evaluator."""

from itertools import combinations

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from skimage.metrics import structural_similarity

from monai_deepssim.metrics import SSIMMatchingMetric, compute_ssim_matching_errors, compute_ssim_matching_table
from monai_deepssim.similarity import standardize


@pytest.fixture
def embeddings() -> torch.Tensor:
    return torch.randn(9, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images() -> torch.Tensor:
    """Nine images, each but the first a mix of the one before and noise, and the last two equal: SSIM up to 1."""
    generator = torch.Generator().manual_seed(1)
    chain = [torch.rand(1, 20, 24, generator=generator)]
    for weight in torch.linspace(0.3, 0.95, 7):
        chain.append(weight * chain[-1] + (1 - weight) * torch.rand(1, 20, 24, generator=generator))
    return standardize(torch.stack([*chain, chain[-1]]))


def reference_pairs(embeddings: torch.Tensor, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    cosines, ssims = [], []
    for i, j in combinations(range(len(images)), 2):
        a, b = images[i, 0].double().numpy(), images[j, 0].double().numpy()
        both = [structural_similarity(x, y, data_range=x.max() - x.min()) for x, y in ((a, b), (b, a))]
        ssims.append(np.mean(both))
        cosines.append(torch.cosine_similarity(embeddings[i], embeddings[j], dim=0).item())
    return np.array(cosines), np.array(ssims)


@pytest.mark.parametrize("block_size", [1, 2, 4, 256])
def test_errors_equal_those_of_scikit_image_over_all_pairs(embeddings, images, block_size) -> None:
    cosines, ssims = reference_pairs(embeddings, images)
    mse, mae = compute_ssim_matching_errors(embeddings, images, block_size=block_size)
    assert mse.item() == pytest.approx(np.square(cosines - ssims).mean(), abs=1e-4)
    assert mae.item() == pytest.approx(np.abs(cosines - ssims).mean(), abs=1e-4)


@pytest.mark.parametrize("block_size", [2, 256])
def test_the_table_holds_each_pair_in_its_tenth(embeddings, images, block_size) -> None:
    cosines, ssims = reference_pairs(embeddings, images)
    edges = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    table = compute_ssim_matching_table(embeddings, images, edges=edges, block_size=block_size)
    # The equal pair has an SSIM of 1, up to rounding: it belongs in the last bin.
    tenth = np.minimum(np.digitize(ssims, edges) - 1, len(edges) - 2)
    assert sum(row["num_pairs"] for row in table) == (tenth >= 0).sum() > 20
    for number, row in enumerate(table):
        errors = (cosines - ssims)[tenth == number]
        assert (row["ssim_from"], row["ssim_to"]) == edges[number : number + 2]
        assert row["num_pairs"] == len(errors)
        if len(errors):
            assert row["mse"] == pytest.approx(np.square(errors).mean(), abs=1e-4)
            assert row["mae"] == pytest.approx(np.abs(errors).mean(), abs=1e-4)
        else:
            assert row["mse"] is None
            assert row["mae"] is None


def test_the_default_table_goes_in_tenths_from_0_4_to_1(embeddings, images) -> None:
    table = compute_ssim_matching_table(embeddings, images)
    assert [(row["ssim_from"], row["ssim_to"]) for row in table] == [
        (0.4, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0),
    ]  # fmt: skip
    assert table[-1]["num_pairs"] >= 1


def test_the_metric_compares_images_across_batches_in_any_form(embeddings, images) -> None:
    expected_mse, expected_mae = compute_ssim_matching_errors(embeddings, images)
    metric = SSIMMatchingMetric(block_size=4)
    metric(y_pred=embeddings[:4], y=images[:4])
    metric(y_pred=list(embeddings[4:8]), y=list(images[4:8]))
    metric(y_pred=list(embeddings[8:]), y=list(images[8:]))
    torch.testing.assert_close(metric.aggregate(), expected_mse)
    torch.testing.assert_close(metric.aggregate("mae"), expected_mae)
    buffers = metric.get_buffer()
    assert torch.equal(buffers[0], embeddings)
    assert torch.equal(buffers[1], images)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        metric.aggregate()


def test_the_evaluator_of_monai_keeps_the_lowest_error_as_its_best(images) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20 * 24, 5))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader([{"image": image, "label": image} for image in images], batch_size=4),
        network=network,
        key_val_metric={
            "mse": IgniteMetricHandler(
                SSIMMatchingMetric("mse"), output_transform=from_engine(["pred", "label"]), save_details=False
            )
        },
        additional_metrics={
            "mae": IgniteMetricHandler(SSIMMatchingMetric("mae"), output_transform=from_engine(["pred", "label"]))
        },
        metric_cmp_fn=lambda current, best: current < best,
    )
    errors = []
    for epoch in range(3):
        with torch.no_grad():
            network[1].bias.fill_(float(epoch))
            expected = compute_ssim_matching_errors(network(images), images)
        evaluator.run(global_epoch=epoch + 1)
        assert evaluator.state.metrics["mse"] == pytest.approx(expected[0].item(), abs=1e-5)
        assert evaluator.state.metrics["mae"] == pytest.approx(expected[1].item(), abs=1e-5)
        errors.append(evaluator.state.metrics["mse"])
    assert len(set(errors)) == 3
    assert evaluator.state.best_metric == min(errors)
    assert evaluator.state.best_metric_epoch == 1 + int(np.argmin(errors))


def test_wrong_input_is_explained(embeddings, images) -> None:
    with pytest.raises(ValueError, match=r"embeddings \(8, 5\) and images \(9, 1, 20, 24\)"):
        compute_ssim_matching_errors(embeddings[:8], images)
    with pytest.raises(ValueError, match="want two or more"):
        compute_ssim_matching_errors(embeddings[:1], images[:1])
    with pytest.raises(ValueError, match="want two or more in ascending order"):
        compute_ssim_matching_table(embeddings, images, edges=(1.0, 0.5))
    with pytest.raises(ValueError, match=r"metric_name='rmse', want"):
        SSIMMatchingMetric("rmse")
    metric = SSIMMatchingMetric()
    with pytest.raises(ValueError, match="y is missing"):
        metric(embeddings)
    with pytest.raises(ValueError, match=r"lists of \[9, 8\] items"):
        metric(list(embeddings), list(images[:8]))
    metric(embeddings, images)
    with pytest.raises(ValueError, match=r"images of shape \(1, 24, 20\) after images of shape \(1, 20, 24\)"):
        metric(embeddings, images.mT)
    with pytest.raises(ValueError, match=r"embeddings of shape \(3,\) after embeddings of shape \(5,\)"):
        metric(embeddings[:, :3], images)
