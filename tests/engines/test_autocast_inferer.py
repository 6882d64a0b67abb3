"""Smaller floating-point types."""

import pytest
import torch

from monai_deepssim.engines import AutocastInferer
from monai_deepssim.networks import DeepSSIMEmbedder


@pytest.mark.parametrize("has_instructions", [True, False])
def test_on_a_processor_nothing_is_cast_that_it_would_have_to_emulate(monkeypatch, has_instructions):
    monkeypatch.setattr("monai_deepssim.engines.autocast_inferer.has_bfloat16", lambda: has_instructions)
    cast = AutocastInferer()(torch.rand(3, 4), torch.nn.Linear(4, 2))
    assert cast.dtype == (torch.bfloat16 if has_instructions else torch.float32)


def test_the_network_runs_in_the_smaller_type_and_its_embeddings_stay_close(monkeypatch):
    monkeypatch.setattr("monai_deepssim.engines.autocast_inferer.has_bfloat16", lambda: True)
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
