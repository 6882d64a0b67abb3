"""Smaller floating-point types."""

import torch

from monai_deepssim.engines import AutocastInferer
from monai_deepssim.networks import DeepSSIMEmbedder


def test_the_network_runs_in_the_smaller_type_and_its_embeddings_stay_close():
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(backbone="convnext_atto").eval()
    types = []
    embedder.fc[3].register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        small = AutocastInferer()(images, embedder)
        exact = AutocastInferer(enabled=False)(images, embedder)
    assert types == [torch.bfloat16, torch.float32]
    assert small.dtype == torch.float32
    assert ((small * exact).sum(1) > 0.99).all()
