"""The images of a side as the comparison on the pixels takes them: read from their files when they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.data import ImageDataset, load_slice
from monai_deepssim.engines import FeatureStore
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import ComparedImages
from monai_deepssim.progress import warn
from monai_deepssim.search import LocalFeatureSearch
from monai_deepssim.similarity import LocalFeatures, extract_local_features, fit_local_features

__all__ = ["SideImages"]

_MANY_IMAGES = 7000


class SideImages(ComparedImages):
    """The usable images of a side by row, and their local features, which are extracted from the files at full size.

    Args:
        side: the side.
        image_size: rows and columns that images are brought to, where keypoints are placed; or the three sides of
            volumes, which have no local features.
        device: where images are compared.
    """

    def __init__(self, side: EmbeddedSide, image_size: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.has_features = len(image_size) == 2
        super().__init__(self._load, self._find_features if self.has_features else None, device=device)
        self.side = side
        self.image_size = tuple(image_size)
        self._dataset = ImageDataset(side.usable_items, image_size=self.image_size)

    def index_features(self, store: FeatureStore) -> LocalFeatureSearch:
        """Make a search among the local features of all of these images.

        Takes 46 kB of memory for each image, and 13 kB above 2 million keypoints, beside the 40 kB of its features.

        Args:
            store: where features are kept.

        Raises:
            UnusableInputError: when a file that was readable before no longer is.
        """
        features = store.find(self._find_features, f"local features of {self.side.side.name} images")
        self.features = features.__getitem__
        search = LocalFeatureSearch().fit(features)
        if not search.index.use_faiss and len(features) > _MANY_IMAGES:
            warn(
                f"FAISS is not installed: the index of local features takes {len(features) * 46 // 1000:,} MB. With it "
                "(pip install faiss-cpu) it would take a third, and less time for each image."
            )
        return search

    def _load(self, row: int) -> Tensor:
        item = self._dataset[row]
        if item["problem"]:
            raise self._unreadable(row, item["problem"])
        return torch.as_tensor(item["image"])

    def _find_features(self, row: int) -> LocalFeatures:
        try:
            image = load_slice(self.side.usable_items[row])
        except UnusableInputError as error:
            raise self._unreadable(row, error) from error
        self.keep(row, torch.as_tensor(self._dataset.fit(image)))
        rows, columns = self.image_size
        return fit_local_features(extract_local_features(image), (image.shape[1], image.shape[2]), (rows, columns))

    def _unreadable(self, row: int, problem: object) -> UnusableInputError:
        return UnusableInputError(
            f"{self.side.usable_items[row]['path']}: was readable when it was embedded but no longer is "
            f"({problem}). Leave the {self.side.side.name} images alone while they are audited, and start again."
        )
