"""What an intensity map that is fitted to a pair would add to aligned SSIM, to copies and to images of other groups.

    python benchmarks/intensity_map.py --images images.csv --group_column look_alike_group

Each image is compared with one training image: a copy with its source, another one with what the audit's
detector finds nearest. The map is the monotone one, rising or falling, that least squares find from the training
image, once it is aligned, to the image (isotonic regression).
"""

from __future__ import annotations

import numpy as np
import torch
from own_images import TEST_SEED, image_parser, read_queries
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from monai_deepssim.benchmark.queries import perturb
from monai_deepssim.metrics import AlignedDetector, DeepSSIMDetector
from monai_deepssim.similarity import aligned_ssim, pairwise_ssim, standardize
from monai_deepssim.workflow import find_bundle

PERTURBATIONS = ("none", "mix", "gamma_0.5", "window_20_80", "saturation", "inverted", "bias_field", "half_replaced")
SIZE, BATCH_SIZE = (136, 112), 16


def fit_map(x: Tensor, y: Tensor) -> Tensor:
    """The training image y ``(1, H, W)`` with the intensities that make it most like x."""
    target, source = x.flatten().numpy(), y.flatten().numpy()
    mapped = IsotonicRegression(increasing="auto").fit(source, target).predict(source)
    return torch.from_numpy(mapped.astype(np.float32)).view_as(y)


def main() -> None:
    arguments = image_parser(__doc__, copies=40, strangers=40).parse_args()
    queries = read_queries(arguments, SIZE)
    weights = find_bundle("deepssim_brain_mri") / "models" / "model.pt"
    detector = AlignedDetector(DeepSSIMDetector(weights)).fit(queries.gallery.split(BATCH_SIZE))
    is_copy = queries.is_copy
    print(
        "| change | copies, median: as it is | with a map | others, highest: as it is | with a map | AUC: as it is "
        "| with a map |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name in PERTURBATIONS:
        images = perturb(queries.under(name), name, TEST_SEED)
        nearest = detector.search(detector.represent_all(images.split(BATCH_SIZE)), 1)[1][:, 0].tolist()
        rows = [int(rows[0]) if len(rows) else near for rows, near in zip(queries.sources, nearest, strict=True)]
        training = queries.gallery[rows]
        aligned = aligned_ssim(images, training, deformation_cost=None)
        moved = torch.stack([change.apply(y) for change, y in zip(aligned.alignments, training, strict=True)])
        mapped = torch.stack([fit_map(x, y) for x, y in zip(images, moved, strict=True)])
        ssim = pairwise_ssim(standardize(images), standardize(mapped)).diagonal().numpy()
        plain = aligned.ssim.numpy()
        numbers = [statistic(values[mask]) for mask, statistic in ((is_copy, np.median), (~is_copy, np.max))
                   for values in (plain, ssim)]  # fmt: skip
        numbers += [roc_auc_score(is_copy, values) for values in (plain, ssim)]
        print(f"| `{name}` | " + " | ".join(f"{number:.3f}" for number in numbers) + " |", flush=True)


if __name__ == "__main__":
    main()
