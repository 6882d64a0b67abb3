"""Features of layers whitened by the training features: brought to unit covariance, turned as little as possible."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.covariance import ledoit_wolf
from torch import Tensor

__all__ = ["Covariance", "FeatureWhitening", "ZCAWhitening"]

Covariance = Literal["auto", "empirical", "ledoit_wolf"]

_MIN_TRAINING = 4  # two in each half of the Memorization Index' null: a nearest and a second nearest

# Of the largest eigenvalue; what lies below is rounding, or a direction in which the features do not vary.
_SMALLEST_EIGENVALUE = 1e-8


class ZCAWhitening:
    r"""Whitens features by the mean and covariance of the training features.

    .. math:: \hat f = \Sigma^{-1/2} (f - \mu)

    with the symmetric square root, in double precision. Eigenvalues of the covariance below 1e-8 of the largest are
    raised to that, so that the whitening does not depend on the unit of the features.

    Args:
        features: training features ``(M, C)``, M of 2 or more.
        shrink: estimate the covariance as Ledoit and Wolf do, between the empirical one and a multiple of the
            identity, for when there are few features for their number of channels. With as many channels as features,
            the empirical covariance whitens *any* training features to the corners of a regular simplex, all equally
            far from each other, and a query's part outside of their span drowns the rest.

    References:
        Kessy, Lewin and Strimmer, Optimal Whitening and Decorrelation, The American Statistician 72 (2018).
        Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of
        Multivariate Analysis 88 (2004).

    Example:
        >>> features = torch.randn(100, 3) @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.1]])
        >>> whitened = ZCAWhitening(features).transform(features)
        >>> torch.allclose(whitened.T.cov(), torch.eye(3).double())
        True
    """

    def __init__(self, features: Tensor, shrink: bool = False) -> None:
        features = features.double()
        self.mean = features.mean(0)
        if shrink:
            covariance = torch.from_numpy(ledoit_wolf(features.cpu().numpy())[0]).to(features.device)
        else:
            covariance = torch.atleast_2d(features.T.cov())
        values, vectors = torch.linalg.eigh(covariance)
        largest = values[-1].clamp(min=0)
        # Features that are all the same have no direction to tell them by: they whiten to zeros.
        scales = torch.zeros_like(values) if largest == 0 else values.clamp(min=_SMALLEST_EIGENVALUE * largest) ** -0.5
        self.matrix = (vectors * scales) @ vectors.T

    def transform(self, features: Tensor) -> Tensor:
        """Whiten features.

        Args:
            features: ``(N, C)``.

        Returns:
            ``(N, C)``, float64.
        """
        return (features.double() - self.mean) @ self.matrix


class FeatureWhitening:
    """Whitens the features of several layers and brings them to length 1.

    Args:
        train: features of the training images, ``(M, C)`` by layer, M of 4 or more.
        covariance: ``"empirical"``, ``"ledoit_wolf"`` (see :class:`ZCAWhitening`) or ``"auto"``, which is
            Ledoit and Wolf's for layers with fewer than two training images per channel, with a warning.

    Raises:
        ValueError: when features are not ``(M, C)`` and finite, M differs between layers or is below 4.

    Warns:
        UserWarning: when there are few training images for a layer's channels.

    Example:
        >>> whitening = FeatureWhitening({"layer": torch.randn(50, 3)})
        >>> whitening.transform({"layer": torch.randn(2, 3)})["layer"].norm(dim=1).round(decimals=6).tolist()
        [1.0, 1.0]
    """

    def __init__(self, train: Mapping[str, Tensor], covariance: Covariance = "auto") -> None:
        if covariance not in ("auto", "empirical", "ledoit_wolf"):
            raise ValueError(f"got covariance={covariance!r}, want 'auto', 'empirical' or 'ledoit_wolf'")
        train = _check_features(train, "training")
        if not train:
            raise ValueError("got no layers, want training features (M, C) of one or more")
        number = len(next(iter(train.values())))
        if number < _MIN_TRAINING:
            raise ValueError(f"got {number} training images, want at least {_MIN_TRAINING}, and better hundreds")
        short = [layer for layer, features in train.items() if number < 2 * features.shape[1]]
        shrunk = {"auto": short, "empirical": [], "ledoit_wolf": list(train)}[covariance]
        if short and covariance != "ledoit_wolf":
            _warn_of_few(number, {layer: train[layer].shape[1] for layer in short}, covariance)
        self.layers = {layer: ZCAWhitening(features, layer in shrunk) for layer, features in train.items()}

    def transform(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whiten features.

        Args:
            features: ``(N, C)`` by layer, of the layers that were fitted.

        Returns:
            ``(N, C)`` by layer, in the order of the fit, float64; rows of length 1, or of zeros where a feature is the
            mean of the training features, which has no direction.

        Raises:
            ValueError: when the layers or shapes are others.
        """
        features = _check_features(features, "query")
        fitted = {layer: len(whitening.mean) for layer, whitening in self.layers.items()}
        got = {layer: values.shape[1] for layer, values in features.items()}
        if got != fitted:
            raise ValueError(f"got layers with channels {got}, want those of the training features, {fitted}")
        return {
            layer: F.normalize(whitening.transform(features[layer]), dim=1) for layer, whitening in self.layers.items()
        }


def _warn_of_few(number: int, channels: Mapping[str, int], covariance: Covariance) -> None:
    listed = ", ".join(f"{layer} ({width})" for layer, width in channels.items())
    if covariance == "auto":
        consequence = "Their covariance is shrunk (Ledoit-Wolf), which the published index does not do."
    else:
        consequence = "The empirical covariance tells little there, and nothing when there are no more than channels."
    warnings.warn(
        f"{number} training images are few for the channels of layers {listed}: the Memorization Index wants at least "
        f"two for each channel. {consequence}",
        stacklevel=4,
    )


def _check_features(features: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    checked = {layer: torch.as_tensor(values) for layer, values in features.items()}
    for layer, values in checked.items():
        if values.ndim != 2 or values.shape[1] == 0:
            raise ValueError(f"{name} features of layer {layer} have shape {tuple(values.shape)}, want (N, C)")
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} features of layer {layer} hold numbers that are not finite")
    numbers = {layer: len(values) for layer, values in checked.items()}
    if len(set(numbers.values())) > 1:
        raise ValueError(f"the layers differ in their number of {name} images: {numbers}")
    return checked
