"""The training images that share local features with an image: the second search of an audit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from monai_deepssim.audit.sources import Side
from monai_deepssim.data import load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import progress_bar, warn
from monai_deepssim.search import LocalFeatureSearch
from monai_deepssim.similarity import (
    LocalFeatures,
    LocalMatch,
    extract_local_features,
    fit_local_features,
    map_in_threads,
)

__all__ = ["LocalCandidates"]

_MANY_IMAGES = 200


class LocalCandidates:
    """Finds training images by local features, which are extracted from the files at their own size.

    Takes 40 kB of memory for each training image, and 75 kB for the index (half of that above 2 million keypoints).

    Args:
        training: the training side.
        indices: ``(M,)``, positions in ``training.items`` of the images that may be found.
        image_size: rows and columns that images are brought to; keypoints are placed there.

    Raises:
        UnusableInputError: when a file that was readable before no longer is.
    """

    def __init__(self, training: Side, indices: np.ndarray, image_size: Sequence[int]) -> None:
        self.indices = indices
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self._rows = {int(index): row for row, index in enumerate(indices)}
        self._training = training
        with progress_bar(total=len(indices), desc="local features of training images") as bar:

            def extract(row: int) -> LocalFeatures:
                features = self._extract(training, int(indices[row]))
                bar.update()
                return features

            self._features = map_in_threads(extract, len(indices))
        self._search = LocalFeatureSearch().fit(self._features)
        if not self._search.index.use_faiss and len(indices) > _MANY_IMAGES:
            warn("FAISS is not installed, so local features are searched one by one: pip install faiss-cpu is faster.")

    def query(
        self,
        side: Side,
        index: int,
        exclude: Collection[int] = (),
        rest: Callable[[int, LocalMatch], LocalFeatures | None] | None = None,
    ) -> list[tuple[int, LocalMatch]]:
        """Find the training images that share most local features with an image.

        Args:
            side: the image's side.
            index: its position in ``side.items``.
            exclude: positions in the training side's items that are no candidates.
            rest: returns the features of what a training image, given by its position, does not explain of the image;
                by default only one source is looked for.

        Returns:
            Positions in the training side's items, each with its match, most inliers first.

        Raises:
            UnusableInputError: when its file no longer is readable.
        """
        known = side is self._training and index in self._rows
        features = self._features[self._rows[index]] if known else self._extract(side, index)
        rows = [self._rows[other] for other in exclude if other in self._rows]

        def rest_of_row(row: int, match: LocalMatch) -> LocalFeatures | None:
            return None if rest is None else rest(int(self.indices[row]), match)

        return [(int(self.indices[row]), match) for row, match in self._search.query(features, rows, rest_of_row)]

    def _extract(self, side: Side, index: int) -> LocalFeatures:
        try:
            image = load_slice(side.items[index])
        except UnusableInputError as error:
            raise UnusableInputError(
                f"{side.items[index]['path']}: was readable when it was embedded and is not any more ({error}). Leave "
                f"the {side.name} images alone while they are audited, and start again."
            ) from error
        return fit_local_features(extract_local_features(image), (image.shape[1], image.shape[2]), self.image_size)
