"""DeepSSIMMetric against a cosine by hand, in MONAI's reductions and in MONAI's evaluator."""

import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from torch.nn.functional import cosine_similarity

from monai_deepssim.metrics import DeepSSIMMetric, compute_deepssim
from monai_deepssim.similarity import standardize

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
REDUCTIONS = {
    "none": lambda scores: scores,
    "mean": torch.mean,
    "sum": torch.sum,
    "mean_batch": torch.mean,  # there is one channel
    "sum_batch": torch.sum,
    "mean_channel": lambda scores: scores[:, 0],
    "sum_channel": lambda scores: scores[:, 0],
}


class TinyEmbedder(torch.nn.Module):
    """Has what breaks in train mode: batch norm, dropout, and a part that is frozen in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=4), torch.nn.BatchNorm2d(4))
        self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.LazyLinear(8))
        self.batch_sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(images))
        return self.head(self.features(images))


@pytest.fixture
def embedder() -> TinyEmbedder:
    torch.manual_seed(0)
    network = TinyEmbedder().eval()
    network(torch.rand(2, 1, 32, 24))
    network.batch_sizes.clear()
    return network


def make_images(num: int, seed: int) -> torch.Tensor:
    return torch.rand(num, 1, 32, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("device", DEVICES)
def test_a_score_is_the_cosine_of_the_embeddings_of_the_standardised_images(embedder, device) -> None:
    y_pred, y = make_images(5, seed=1), make_images(5, seed=2)
    with torch.no_grad():
        expected = cosine_similarity(embedder(standardize(y_pred)), embedder(standardize(y)))[:, None]
    scores = compute_deepssim(embedder.to(device), y_pred.to(device), y.to(device))
    assert scores.shape == (5, 1)
    assert scores.device.type == device
    torch.testing.assert_close(scores.cpu(), expected, atol=1e-5, rtol=0)
    assert expected.std() > 1e-3


def test_contrast_and_brightness_of_a_whole_image_do_not_matter(embedder) -> None:
    images = make_images(3, seed=1)
    torch.testing.assert_close(compute_deepssim(embedder, images, 0.3 * images + 0.2), torch.ones(3, 1))


@pytest.mark.parametrize("get_not_nans", [False, True])
@pytest.mark.parametrize(("reduction", "expected"), REDUCTIONS.items())
def test_every_reduction_of_monai_works_over_all_batches(embedder, reduction, expected, get_not_nans) -> None:
    metric = DeepSSIMMetric(embedder, reduction, get_not_nans)
    batches = [(make_images(n, seed=n), make_images(n, seed=n + 10)) for n in (4, 1, 3)]
    scores = torch.cat([metric(y_pred=y_pred, y=y) for y_pred, y in batches])
    for aggregated in (metric.aggregate(), metric.aggregate(reduction)):
        value = aggregated[0] if get_not_nans else aggregated
        torch.testing.assert_close(value.squeeze(), expected(scores).squeeze())


def test_an_image_with_a_nan_is_left_out_and_not_counted(embedder) -> None:
    metric = DeepSSIMMetric(embedder, get_not_nans=True)
    y_pred, y = make_images(4, seed=1), make_images(4, seed=2)
    y_pred[2, 0, 5, 5] = float("nan")
    scores = metric(y_pred, y)
    assert scores.isnan().squeeze().tolist() == [False, False, True, False]
    mean, not_nans = metric.aggregate()
    torch.testing.assert_close(mean.squeeze(), scores[[0, 1, 3]].mean())
    assert not_nans.item() == 3


def test_the_buffer_grows_until_it_is_reset(embedder) -> None:
    metric = DeepSSIMMetric(embedder)
    assert metric.get_buffer() is None
    first = metric(make_images(2, seed=1), make_images(2, seed=2))
    second = metric(make_images(3, seed=3), make_images(3, seed=4))
    assert torch.equal(metric.get_buffer(), torch.cat([first, second]))
    metric.reset()
    assert metric.get_buffer() is None
    with pytest.raises(ValueError, match="aggregate"):
        metric.aggregate()


def test_lists_are_embedded_in_one_batch_and_give_what_tensors_give(embedder) -> None:
    y_pred, y = make_images(6, seed=1), make_images(6, seed=2)
    expected = compute_deepssim(embedder, y_pred, y)
    embedder.batch_sizes.clear()
    scores = DeepSSIMMetric(embedder)([MetaTensor(image) for image in y_pred], list(y))
    assert embedder.batch_sizes == [12]
    torch.testing.assert_close(scores, expected)
    assert type(scores) is torch.Tensor


def test_each_module_is_left_in_its_mode_and_nothing_has_a_gradient(embedder) -> None:
    embedder.train()
    embedder.features.eval()
    modes = [module.training for module in embedder.modules()]
    running_mean = embedder.features[1].running_mean.clone()
    images = make_images(2, seed=1).requires_grad_()
    scores = compute_deepssim(embedder, images, images)
    assert [module.training for module in embedder.modules()] == modes
    assert torch.equal(embedder.features[1].running_mean, running_mean)
    assert not scores.requires_grad
    torch.testing.assert_close(scores, torch.ones(2, 1))  # with dropout on they would differ


def test_the_mode_is_restored_after_an_error(embedder) -> None:
    embedder.train()
    with pytest.raises(RuntimeError):
        compute_deepssim(embedder, torch.rand(2, 1, 9, 9), torch.rand(2, 1, 9, 9))
    assert all(module.training for module in embedder.modules())


def test_the_evaluator_of_monai_reports_the_mean_score(embedder) -> None:
    images, partners = make_images(7, seed=1), make_images(7, seed=2)
    loader = DataLoader([{"image": a, "label": b} for a, b in zip(images, partners, strict=True)], batch_size=3)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=torch.nn.Identity(),  # stands for a generator that gives images
        key_val_metric={
            "deepssim": IgniteMetricHandler(DeepSSIMMetric(embedder), output_transform=from_engine(["pred", "label"]))
        },
    )
    evaluator.run()
    expected = compute_deepssim(embedder, images, partners)
    assert evaluator.state.metrics["deepssim"] == pytest.approx(expected.mean().item(), abs=1e-6)
    torch.testing.assert_close(evaluator.state.metric_details["deepssim"], expected)


def test_wrong_input_is_explained(embedder) -> None:
    metric = DeepSSIMMetric(embedder)
    image = make_images(2, seed=1)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 32, 24\) and y \(2, 1, 24, 32\), wanted the same"):
        metric(image, image.mT)
    with pytest.raises(ValueError, match=r"lists of \[2, 1\] items"):
        metric(list(image), list(image[:1]))
    with pytest.raises(ValueError, match=r"image\[None\]"):
        metric(image[0], image[0])
    with pytest.raises(ValueError, match=r"wanted the same shape .*ResizeWithPadOrCrop"):
        metric([image[0], image[0].mT], list(image))
    for images in (image, list(image)):
        with pytest.raises(ValueError, match="must be PyTorch Tensor"):
            metric(images)
    with pytest.raises(TypeError, match=r"y is .*, wanted a tensor"):
        compute_deepssim(embedder, image, [1])
    with pytest.raises(ValueError, match=r"returned \(4, 1, 32, 24\) for 4 images, wanted \(4, D\)"):
        compute_deepssim(torch.nn.Identity(), image, image)
