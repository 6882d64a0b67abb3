"""An embedder as a network over pairs, so that MONAI's trainers can train it on them."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["PairSimilarity"]


class PairSimilarity(nn.Module):
    """Cosine of the embeddings of two images that come as the two channels of one.

    Args:
        embedder: maps standardised images ``(N, 1, H, W)`` to embeddings ``(N, D)``.

    Example:
        >>> import torch
        >>> similarity = PairSimilarity(nn.Flatten())
        >>> image = torch.randn(2, 1, 8, 8)
        >>> similarity(torch.cat([image, image], dim=1)).round(decimals=4).tolist()
        [[1.0], [1.0]]
    """

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, x: Tensor) -> Tensor:
        """Score pairs.

        Args:
            x: ``(N, 2, H, W)``, each channel a standardised image.

        Returns:
            ``(N, 1)`` cosines in [-1, 1].

        Raises:
            ValueError: when there are not two channels.
        """
        if x.ndim != 4 or x.shape[1] != 2:
            raise ValueError(f"got a tensor of shape {tuple(x.shape)}, want pairs (N, 2, H, W)")
        # Two passes: in a training, batch statistics are those of the one side and then of the other, as published.
        return F.cosine_similarity(self.embedder(x[:, :1]), self.embedder(x[:, 1:]))[:, None]
