"""Where an audit keeps local features and verified pairs, so that none is found or aligned twice."""

from __future__ import annotations

from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.engines import FeatureStore, VerificationStore, image_keys
from monai_deepssim.report import MATCHES_COLUMNS, package_versions

__all__ = ["FEATURES_FOLDER", "VERIFIED_FOLDER", "feature_store", "verification_store"]

#: Where verified pairs are, inside of the output folder: one folder per side.
VERIFIED_FOLDER = "verified"
#: Likewise the local features of the training images.
FEATURES_FOLDER = "local_features"


def feature_store(side: EmbeddedSide, options: SearchOptions) -> FeatureStore:
    """Where an audit keeps the local features of a side."""
    folder = options.output_dir / FEATURES_FOLDER / side.side.name
    return FeatureStore(folder, image_keys(side.usable_items), options.image_size)


def verification_store(side: EmbeddedSide, training: EmbeddedSide, options: SearchOptions) -> VerificationStore:
    """Where an audit keeps the pairs of a side with the training images."""
    return VerificationStore(
        options.output_dir / VERIFIED_FOLDER / side.side.name,
        image_keys(side.usable_items),
        image_keys(training.usable_items),
        options.image_size,
        options.deformation_cost,
        {"monai-deepssim": package_versions()["monai-deepssim"], "columns": list(MATCHES_COLUMNS)},
    )
