"""Differences in preprocessing between two sides: each kind is named where it is, and nothing where there is none."""

import json
from collections.abc import Callable

import pytest
import torch
from monai.transforms import GaussianSmooth
from torch import Tensor

from monai_deepssim.metrics import (
    SIDE_DIFFERENCE_KINDS,
    compare_sides,
)

ROWS, COLUMNS = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")


def ellipse(row: float, column: float, height: float, width: float) -> Tensor:
    return (((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 < 1).float()


def make_cohort(seed: int, num_images: int = 16) -> Tensor:
    """Heads with a dark ventricle in front, a bright lesion on the left and texture, each a little different."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(num_images):
        jitter = 2 * torch.rand(6, generator=generator) - 1
        head = ellipse(48 + 2 * jitter[0], 48 + 2 * jitter[1], 34 + jitter[2], 26 + jitter[3])
        texture = GaussianSmooth(0.7)(torch.rand(1, 96, 96, generator=generator))[0]
        image = head * (0.35 + 0.2 * texture)
        image = image - 0.3 * ellipse(34 + 2 * jitter[4], 48, 6, 10)
        image = image + 0.4 * ellipse(54, 36 + 2 * jitter[5], 9, 6) + 0.1 * ellipse(70, 60, 5, 8)
        noise = 0.004 * torch.randn(96, 96, generator=generator)
        images.append(GaussianSmooth(0.5)(image[None]) + noise)
    return torch.stack(images).clamp(0, 1)


def zoom(images: Tensor, factor: float) -> Tensor:
    side = round(96 / factor)
    if factor > 1:
        start = (96 - side) // 2
        part = images[:, :, start : start + side, start : start + side]
    else:
        margin = (side - 96) // 2
        part = torch.nn.functional.pad(images, [margin] * 4)
    return torch.nn.functional.interpolate(part, size=(96, 96), mode="bilinear", antialias=True)


def blur(images: Tensor, pixels: float) -> Tensor:
    return torch.stack([GaussianSmooth(pixels)(image) for image in images])


def add_noise(images: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    return (images + deviation * noise).clamp(0, 1)


def add_frame(images: Tensor) -> Tensor:
    changed = images.clone()
    changed[:, :, [2, 93], 2:94] = 1
    changed[:, :, 2:94, [2, 93]] = 1
    return changed


def add_text(images: Tensor) -> Tensor:
    changed = images.clone()
    changed[:, :, 4:9, [4, 6, 9, 12]] = 0.9
    changed[:, :, [4, 8], 9:13] = 0.9
    return changed


def turn(quarters: int) -> Callable[[Tensor], Tensor]:
    return lambda images: torch.rot90(images, quarters, (2, 3))


CHANGES: list[tuple[str, bool, Callable[[Tensor], Tensor]]] = [
    ("pose", True, turn(1)),
    ("pose", True, turn(2)),
    ("pose", True, lambda images: images.transpose(2, 3)),
    ("pose", True, lambda images: images.flip(3)),
    ("pose", False, lambda images: torch.cat([images[::2], torch.rot90(images[1::2], 1, (2, 3))])),
    ("inverted", True, lambda images: 1 - images),
    ("contrast", True, lambda images: ((images - 0.2) / 0.3).clamp(0, 1)),
    ("contrast", True, lambda images: images**0.5),
    ("contrast", True, lambda images: images**2),
    ("contrast", False, lambda images: (images > 0.2).float()),
    ("field_of_view", True, lambda images: zoom(images, 0.75)),
    ("field_of_view", False, lambda images: zoom(images, 0.5)),
    ("field_of_view", True, lambda images: zoom(images, 1.25)),
    ("field_of_view", False, lambda images: zoom(images, 2.5)),
    ("sharpness", True, lambda images: blur(images, 1.5)),
    ("sharpness", False, lambda images: blur(images, 3.0)),
    ("noise", True, lambda images: add_noise(images, 0.05)),
    ("noise", False, lambda images: add_noise(images, 0.15)),
    ("frame", True, add_frame),
    ("text", True, add_text),
    ("background", True, lambda images: images.clamp(min=0.15)),
]


@pytest.mark.parametrize(("kind", "covered", "change"), CHANGES)
def test_a_change_of_the_synthetic_side_is_named(kind: str, covered: bool, change: Callable[[Tensor], Tensor]) -> None:
    comparison = compare_sides(make_cohort(0, 24), change(make_cohort(1, 24)))
    named = {difference.kind: difference for difference in comparison.differences}
    assert kind in named
    assert named[kind].covered == covered
    assert named[kind].description.endswith(".")
    assert named[kind].training_value != named[kind].synthetic_value


@pytest.mark.parametrize("kind", ["inverted", "sharpness", "noise", "frame", "text"])
def test_a_change_of_the_training_side_is_named_too(kind: str) -> None:
    change = next(change for name, _, change in CHANGES if name == kind)
    comparison = compare_sides(change(make_cohort(0)), make_cohort(1))
    assert kind in {difference.kind for difference in comparison.differences}


def test_two_halves_of_one_cohort_name_nothing() -> None:
    cohort = make_cohort(2, num_images=40)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        order = torch.randperm(40, generator=generator)
        assert compare_sides(cohort[order[:20]], cohort[order[20:]]).differences == ()


def test_a_quarter_turn_is_named_with_its_direction() -> None:
    comparison = compare_sides(make_cohort(0), turn(-1)(make_cohort(1)))
    assert "turned by 90 degrees clockwise relative" in comparison.differences[0].description


def test_one_strange_image_is_no_difference() -> None:
    synthetic = make_cohort(1)
    synthetic[0] = 1 - synthetic[0]
    assert compare_sides(make_cohort(0), synthetic).differences == ()


@pytest.mark.parametrize(("num_training", "num_synthetic"), [(1, 1), (1, 16), (4, 4)])
def test_a_few_images_work_and_claim_nothing(num_training: int, num_synthetic: int) -> None:
    comparison = compare_sides(make_cohort(0, num_training), 1 - make_cohort(1, num_synthetic))
    assert comparison.differences == ()
    assert not comparison.is_testable


def test_images_of_nothing_are_compared_without_an_error() -> None:
    assert compare_sides(torch.zeros(8, 1, 96, 96), torch.zeros(8, 1, 96, 96)).differences == ()
    assert compare_sides(make_cohort(0), torch.zeros(8, 1, 96, 96)).num_synthetic == 8


def test_the_means_are_those_of_the_images() -> None:
    training, synthetic = make_cohort(0), make_cohort(1, 7)
    comparison = compare_sides(training, synthetic)
    assert torch.allclose(comparison.training_mean, training.mean(0))
    assert torch.allclose(comparison.synthetic_mean, synthetic.mean(0))


def test_the_differences_go_into_json_in_the_order_of_their_kinds() -> None:
    comparison = compare_sides(make_cohort(0), add_frame(blur(turn(1)(make_cohort(1)), 3.0)))
    summary = json.loads(json.dumps(comparison.as_json()))
    kinds = [difference["kind"] for difference in summary["differences"]]
    assert kinds == sorted(kinds, key=SIDE_DIFFERENCE_KINDS.index)
    assert {"pose", "sharpness", "frame"} <= set(kinds)
    assert [difference.kind for difference in comparison.uncovered] == ["sharpness"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(8, 96, 96), r"shape \(8, 96, 96\), want a tensor \(N, 1, H, W\)"),
        (torch.rand(0, 1, 96, 96), "want a tensor"),
        (torch.rand(8, 1, 16, 96), "want at least 32 x 32"),
        (torch.rand(8, 1, 64, 96), "want one size"),
        (2 * torch.ones(8, 1, 96, 96), r"want finite values in \[0, 1\]"),
        (torch.full((8, 1, 96, 96), torch.nan), "want finite values"),
    ],
)
def test_broken_input_is_explained(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_sides(make_cohort(0), images)


def test_hounsfield_units_beside_pictures_of_other_grey_levels_are_named_for_any_number_of_images() -> None:
    images = make_cohort(0, 4)
    assert compare_sides(images, images, hounsfield_shares=(1.0, 0.0)).differences == ()
    assert compare_sides(images, images**0.3, hounsfield_shares=(1.0, 1.0)).differences == ()
    assert compare_sides(images, images, hounsfield_shares=(1.0, 0.0), has_window=False).uncovered
    comparison = compare_sides(images, images**0.3, hounsfield_shares=(0.1, 1.0))
    (difference,) = comparison.uncovered
    assert difference.kind == "hounsfield"
    assert difference.description.startswith("The synthetic images are in Hounsfield units and the training images")
    assert not comparison.is_testable


def test_of_volumes_what_differs_in_most_of_the_middle_planes_is_named() -> None:
    distances = (torch.stack(torch.meshgrid(*[torch.arange(32.0) - 15.5] * 3, indexing="ij")) ** 2).sum(0).sqrt()
    balls = torch.stack([(distances < radius).float() for radius in torch.linspace(8, 13, 16)])[:, None]
    comparison = compare_sides(balls, 1 - balls)
    assert "inverted" in {difference.kind for difference in comparison.differences}
    assert comparison.training_mean.shape == (1, 32, 32, 32)
    in_one_plane = balls.clone()
    in_one_plane[..., 16] = 1 - in_one_plane[..., 16]
    assert "inverted" not in {difference.kind for difference in compare_sides(balls, in_one_plane).differences}
