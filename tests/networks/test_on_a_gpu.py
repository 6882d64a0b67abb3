"""On a GPU embeddings are those of the CPU."""

from functools import partial

import pytest
import torch

from monai_deepssim import deepssim, load_embedder
from monai_deepssim.engines import AutocastInferer
from monai_deepssim.networks import DeepSSIMEmbedder, prepare_for_inference
from monai_deepssim.similarity import standardize

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def cosines(network, images):
    with torch.inference_mode():
        embeddings = network(images).float()
    return (embeddings @ embeddings.T).cpu()


@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_the_shipped_embedder_as_it_is_and_prepared(phantoms, in_bfloat16):
    images = standardize(torch.cat([phantoms, phantoms.roll(3, 2).flip(3)]))
    expected = cosines(load_embedder(device="cpu"), images)
    for network in (load_embedder(), prepare_for_inference(load_embedder(device="cuda"))):
        assert next(network.parameters()).is_cuda
        found = cosines(partial(AutocastInferer(enabled=in_bfloat16), network=network), images.cuda())
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("size", [None, (128, 128)])
def test_a_network_of_the_published_kind(phantoms, size):
    torch.manual_seed(0)
    network = DeepSSIMEmbedder(backbone="convnext_atto", canonical_size=size).eval()
    images = standardize(phantoms)
    expected = cosines(network, images)
    torch.testing.assert_close(
        cosines(prepare_for_inference(network.cuda()), images.cuda()), expected, atol=5e-3, rtol=0
    )


def test_volumes():
    torch.manual_seed(0)
    network = DeepSSIMEmbedder(backbone="resnet10_3d", spatial_dims=3, canonical_size=(48, 48, 48)).eval()
    volumes = torch.nn.functional.interpolate(torch.rand(3, 1, 8, 8, 8), (48, 48, 48), mode="trilinear")
    expected = cosines(network, standardize(volumes))
    torch.testing.assert_close(cosines(network.cuda(), standardize(volumes).cuda()), expected, atol=5e-3, rtol=0)


def test_deepssim_of_images_that_are_there(phantoms):
    expected = deepssim(phantoms, phantoms.flip(3), embedder=load_embedder(device="cpu"))
    torch.testing.assert_close(deepssim(phantoms.cuda(), phantoms.flip(3).cuda()).cpu(), expected, atol=5e-3, rtol=0)
