"""Images of any size brought to one."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_deepssim.transforms.fit_image_size import FitImageSize, FitImageSized


@pytest.mark.parametrize(
    "size", [(136, 112), (272, 224), (64, 64), (512, 30), (1, 500), (137, 112), (135, 111), (7, 3)]
)
def test_every_size_is_brought_to_the_target_with_its_aspect_kept(size):
    image = torch.stack([torch.ones(size), torch.zeros(size), torch.zeros(size)])  # the median of the border is 0
    fitted = FitImageSize((136, 112))(image)
    assert fitted.shape == (3, 136, 112)
    assert fitted.dtype == torch.float32
    rows, columns = (fitted[0] > 0.9).any(1).sum().item(), (fitted[0] > 0.9).any(0).sum().item()
    scale = min(136 / size[0], 112 / size[1])
    assert abs(rows - size[0] * scale) <= 1.5
    assert abs(columns - size[1] * scale) <= 1.5


def test_the_right_size_is_an_exact_no_op():
    image = torch.rand(1, 136, 112, dtype=torch.float64)
    assert FitImageSize((136, 112))(image) is image


def test_the_image_is_centred_on_the_median_of_its_border():
    image = torch.full((1, 8, 4), 3.0)
    image[0, 2:6, 1:3] = torch.tensor([[0.0, 5.0]])
    fitted = FitImageSize((8, 8))(image)
    assert torch.equal(fitted[0, :, 2:6], image[0])
    assert (fitted[0, :, :2] == 3).all()
    assert (fitted[0, :, 6:] == 3).all()


def test_a_line_around_the_image_is_not_its_background():
    image = torch.full((1, 100, 100), 0.1)
    image[:, 1:-1, 1:-1] = 0
    image[:, 30:70, 30:70] = 1
    assert FitImageSize((136, 112))(image)[0, 0].max() == 0


def test_an_inverted_image_is_fitted_as_the_inverted_image():
    image = torch.zeros(1, 96, 96)
    image[:, 20:70, 30:80] = torch.rand(50, 50)
    torch.testing.assert_close(FitImageSize((136, 112))(1 - image), 1 - FitImageSize((136, 112))(image))


def test_making_an_image_smaller_does_not_alias():
    stripes = torch.zeros(1, 256, 256)
    stripes[:, ::2] = 1  # finer than the target can show: must become grey
    fitted = FitImageSize((100, 100))(stripes)[0, 4:-4, 4:-4]
    assert (fitted - 0.5).abs().max() < 0.05


def test_an_image_that_fills_its_frame_does_not_darken_at_the_edges():
    bright = torch.ones(1, 512, 512)
    bright[0, 256, 256] = 0
    fitted = FitImageSize((64, 64))(bright)[0]
    assert fitted[0].min() == fitted[:, -1].min() == 1


def test_meta_tensors_keep_their_metadata_and_their_affine_follows():
    image = MetaTensor(
        torch.rand(1, 272, 200), affine=torch.diag(torch.tensor([0.7, 0.7, 5.0, 1.0])), meta={"who": "P1"}
    )
    fitted = FitImageSize((136, 112))(image)
    assert isinstance(fitted, MetaTensor)
    assert fitted.meta["who"] == "P1"
    assert torch.allclose(fitted.pixdim[:2].double(), torch.tensor([1.4, 1.4]).double(), atol=1e-5)
    # The centre of the image stays where it was in the patient.
    centre = torch.tensor([271 / 2, 199 / 2, 0, 1], dtype=torch.float64)
    fitted_centre = torch.tensor([135 / 2, 111 / 2, 0, 1], dtype=torch.float64)
    assert torch.allclose(fitted.affine.double() @ fitted_centre, image.affine.double() @ centre, atol=1e-4)


def test_the_dictionary_version_does_the_same_and_leaves_the_rest():
    image = np.random.default_rng(0).random((1, 50, 60), dtype=np.float32)
    data = {"image": image, "path": "a.png"}
    fitted = FitImageSized("image", (136, 112))(data)
    assert torch.equal(fitted["image"], FitImageSize((136, 112))(image))
    assert not isinstance(fitted["image"], MetaTensor)
    assert fitted["path"] == "a.png"
    assert data["image"] is image


@pytest.mark.parametrize("shape", [(136, 112), (1, 1, 136, 112), (1, 0, 5)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        FitImageSize((136, 112))(torch.zeros(shape))
