"""What an audit's detector finds among many training images, and in small and large images.

    python benchmarks/scale.py --images images.csv --group_column look_alike_group --sides 64 128 512
    python benchmarks/scale.py --images images.csv --group_column look_alike_group --sides 160 --phantoms 9620

Copies and images of other groups are drawn as by `bundles/detector_benchmark`; the images are brought to each side, in
pixels, before they are changed, and phantoms fill the training set up. With the audit's own weights and threshold.
"""

from __future__ import annotations

import time

import torch
from own_images import TEST_SEED, image_parser, read_queries
from tqdm import tqdm

from monai_deepssim.benchmark.queries import perturb
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import AlignedDetector, DeepSSIMDetector
from monai_deepssim.transforms import FitImageSize
from monai_deepssim.workflow import find_bundle

PERTURBATIONS = ("none", "mix", "rotation_any", "zoom_0.7", "blur_2_noise", "inverted", "half_replaced")
BATCH_SIZE, GALLERY_SEED = 16, 9501


def main() -> None:
    parser = image_parser(__doc__, copies=60, strangers=80)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--perturbations", nargs="+", default=PERTURBATIONS)
    arguments = parser.parse_args()
    print(
        "| side | training images | change | called | others called | ms per image |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for side in arguments.sides:
        queries = read_queries(arguments, (side, side))
        gallery = queries.gallery
        if arguments.phantoms:
            fit = FitImageSize((side, side))
            cohort = PhantomBrainDataset(arguments.phantoms, seed=GALLERY_SEED)
            phantoms = [fit(cohort[row]["image"]).as_tensor() for row in tqdm(range(len(cohort)), desc="phantoms")]
            gallery = torch.cat([gallery, torch.stack(phantoms)])
        weights = find_bundle("deepssim_brain_mri") / "models" / "model.pt"
        detector = AlignedDetector(DeepSSIMDetector(weights)).fit(gallery.split(BATCH_SIZE))
        for name in arguments.perturbations:
            images = perturb(queries.under(name), name, TEST_SEED)
            start = time.perf_counter()
            scores = detector.search(detector.represent_all(images.split(BATCH_SIZE)), 1)[0][:, 0].numpy()
            milliseconds = 1000 * (time.perf_counter() - start) / len(images)
            is_called, is_copy = scores > detector.threshold, queries.is_copy
            print(
                f"| {side} | {len(gallery)} | `{name}` | {is_called[is_copy].mean():.3f} | "
                f"{is_called[~is_copy].mean():.3f} | {milliseconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
