"""Pairs through one network."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from monai_deepssim.networks import DeepSSIMEmbedder, PairSimilarity


def test_the_score_is_the_cosine_of_the_two_embeddings():
    embedder = DeepSSIMEmbedder(backbone="convnext_atto").eval()
    first, second = torch.randn(2, 3, 1, 64, 64)
    scores = PairSimilarity(embedder)(torch.cat([first, second], dim=1))
    assert scores.shape == (3, 1)
    torch.testing.assert_close(scores[:, 0], F.cosine_similarity(embedder(first), embedder(second)))


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 3, 64, 64), (2, 64, 64)])
def test_anything_but_pairs_is_an_error(shape):
    with pytest.raises(ValueError, match=r"want pairs \(N, 2, H, W\)"):
        PairSimilarity(torch.nn.Identity())(torch.rand(shape))
