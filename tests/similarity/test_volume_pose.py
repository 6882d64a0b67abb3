"""Volumes brought to one pose by their moments."""

import math

import pytest
import torch

from monai_deepssim.similarity import canonicalize_volumes, measure_volume_pose


def ellipsoid(centre=(0, 0, 0), radii=(9.0, 13.0, 7.0), angle=0.0, size=(40, 40, 40)):
    """An ellipsoid with a bright ball in it, turned in the plane of the first two axes, ``(1, 1, *size)``."""
    axes = [torch.arange(side) - (side - 1) / 2 - shift for side, shift in zip(size, centre, strict=True)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    x, y = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    inside = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2
    ball = (x - 3) ** 2 + (y - 4) ** 2 + (z - 1) ** 2 < 9
    return (torch.sigmoid((1 - inside) * 8) * (0.6 + 0.4 * ball))[None, None]


def test_the_centre_the_axes_and_the_spread_are_those_of_the_ellipsoid():
    pose = measure_volume_pose(ellipsoid((3, -2, 1), angle=0.2))
    torch.testing.assert_close(pose.centre, torch.tensor([[3.0, -2.0, 1.0]]), atol=0.1, rtol=0)
    # An ellipsoid's variance along an axis is a fifth of the radius squared; smoothing and filling add a little.
    assert 1 < pose.spread.item() / ((9 * 13 * 7) ** (1 / 3) / math.sqrt(5)) < 1.2
    larger = measure_volume_pose(ellipsoid(radii=(10.8, 15.6, 8.4)))
    assert larger.spread.item() / pose.spread.item() == pytest.approx(1.2, abs=0.05)
    turned = torch.tensor([[math.cos(0.2), -math.sin(0.2), 0], [math.sin(0.2), math.cos(0.2), 0], [0, 0, 1]])
    torch.testing.assert_close(pose.axes[0], turned, atol=0.03, rtol=0)


def test_a_volume_in_pose_does_not_depend_on_where_it_lay_how_it_was_turned_or_how_large_it_was():
    reference = canonicalize_volumes(ellipsoid(), (24, 24, 24)).flatten()

    def correlation(volume):
        return torch.corrcoef(torch.stack([canonicalize_volumes(volume, (24, 24, 24)).flatten(), reference]))[0, 1]

    for other in (
        ellipsoid((4, -3, 2)),
        ellipsoid(angle=0.17),
        ellipsoid(radii=(10.0, 14.4, 7.8)),
        ellipsoid(size=(48, 40, 36)),
    ):
        assert correlation(other) > 0.985
    assert correlation(ellipsoid().flip(2)) < 0.98


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_mirrored_volume_has_the_mirrored_pose(axis, turn):
    volume = ellipsoid((2, 1, -3), angle=0.3)
    posed = canonicalize_volumes(volume, (24, 20, 24), turn=turn)
    mirrored = canonicalize_volumes(volume.flip(axis), (24, 20, 24), turn=turn)
    torch.testing.assert_close(mirrored.flip(axis), posed, atol=1e-3, rtol=0)


def test_a_volume_of_nothing_but_background_stays_finite():
    pose = measure_volume_pose(torch.full((1, 1, 20, 20, 20), 0.3))
    assert pose.centre.abs().max() < 0.1
    assert pose.spread.item() == pytest.approx(20 / math.sqrt(12), rel=0.05)
    assert not canonicalize_volumes(torch.full((1, 1, 20, 20, 20), 0.3), (8, 8, 8)).any()


def test_images_are_refused():
    with pytest.raises(ValueError, match=r"want \(N, 1, X, Y, Z\)"):
        measure_volume_pose(torch.rand(2, 1, 32, 32))
