"""What an audit's detector finds of copies under changes that `Perturbation` does not have.

    python benchmarks/further_changes.py --images images_choosing.csv --group_column look_alike_group

Copies and images of other groups are drawn as by `bundles/detector_benchmark`, at 224 x 224 pixels; with the audit's
own weights and thresholds, and by local features alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import cv2
import numpy as np
import torch
from own_images import image_parser, read_queries
from PIL import Image, ImageDraw
from torch import Tensor

from monai_deepssim.benchmark.cells import score_cell
from monai_deepssim.benchmark.queries import QuerySet
from monai_deepssim.metrics import AlignedDetector, DeepSSIMDetector, LocalFeaturesDetector
from monai_deepssim.transforms import Perturbation
from monai_deepssim.workflow import find_bundle

SIDE, BATCH_SIZE = 224, 50
SEVERAL = [
    "rotation_any",
    "gamma_0.5",
    "gamma_2",
    "crop_10_percent",
    "border_20_percent",
    "text",
    "blur",
    "noise_0.02",
    "bias_field",
    "jpeg_30",
    "flip_horizontal",
    "window_20_80",
    "inverted",
    "warp_1_percent",
    "anisotropic_zoom_10_percent",
    "sharpen",
    "saturation",
    "raised_background",
    "shift_5_percent",
    "half_resolution",
]
Change = Callable[[np.ndarray, np.ndarray, np.random.RandomState], np.ndarray]


def to_bytes(image: np.ndarray) -> np.ndarray:
    return (image.clip(0, 1) * 255).astype(np.uint8)


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def perturb(name: str, image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    transform = Perturbation(name)
    transform.set_random_state(int(random.randint(2**31)))
    return transform(torch.from_numpy(image)[None].float()).numpy()[0]


def perspective(image, partner, random):
    corners = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], dtype=np.float32)
    moved = corners + random.uniform(-0.12 * SIDE, 0.12 * SIDE, (4, 2)).astype(np.float32)
    return cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, moved), (SIDE, SIDE))


def shear(image, partner, random):
    share = random.choice([-1, 1]) * 0.2
    return cv2.warpAffine(image, np.array([[1, share, -share * SIDE / 2], [0, 1, 0]]), (SIDE, SIDE))


def barrel(image, partner, random):
    strength, half = random.choice([-1, 1]) * 0.25, SIDE / 2
    rows, columns = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) - half) / half
    factor = 1 + strength * (rows**2 + columns**2)
    columns, rows = ((place * factor * half + half).astype(np.float32) for place in (columns, rows))
    return cv2.remap(image, columns, rows, cv2.INTER_LINEAR)


def elastic_gamma(image, partner, random):
    return perturb("warp_1_percent", image, random) ** random.choice([0.6, 1.7])


def jpeg_10(image, partner, random):
    file = io.BytesIO()
    Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)).save(file, "JPEG", quality=10)
    return np.asarray(Image.open(file), np.float32) / 255


def speckle(image, partner, random):
    return image * (1 + 0.3 * random.standard_normal(image.shape))


def motion_blur(image, partner, random):
    kernel, angle = np.zeros((15, 15), np.float32), random.uniform(0, np.pi)
    for step in np.linspace(-5.5, 5.5, 60):
        kernel[round(7 + step * np.sin(angle)), round(7 + step * np.cos(angle))] = 1
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def ghost(image, partner, random):
    return image + 0.35 * np.roll(image, SIDE // 3, 0) + 0.2 * np.roll(image, -SIDE // 3, 0)


def ringing(image, partner, random):
    spectrum, kept = np.fft.fftshift(np.fft.fft2(image)), np.zeros((SIDE, SIDE))
    width = int(0.2 * SIDE)
    kept[SIDE // 2 - width : SIDE // 2 + width, SIDE // 2 - width : SIDE // 2 + width] = 1
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum * kept)))


def kspace_motion(image, partner, random):
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    for row in range(SIDE):
        if abs(row - SIDE / 2) > 8 and random.rand() < 0.35:
            spectrum[row] *= np.exp(2j * np.pi * row / SIDE * random.uniform(-6, 6))
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def clahe(image, partner, random):
    return cv2.createCLAHE(6, (8, 8)).apply(to_bytes(image)) / 255


def levels_6(image, partner, random):
    return np.floor(image.clip(0, 0.999) * 6) / 5


def super_resolution(image, partner, random):
    large = cv2.resize(shrink(image, 80), (SIDE, SIDE), interpolation=cv2.INTER_LANCZOS4)
    return large + 1.2 * (large - cv2.GaussianBlur(large, (0, 0), 2))


def resolution_64(image, partner, random):
    return cv2.resize(shrink(image, 64), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def tissue_permuted(image, partner, random):
    levels = np.concatenate([[0], np.quantile(image[image > 0.08], [0, 0.25, 0.5, 0.75, 1])])
    for place in range(1, len(levels)):
        levels[place] = max(levels[place], levels[place - 1] + 1e-3)
    return np.interp(image, levels, np.concatenate([[0], random.permutation([0.25, 0.45, 0.65, 0.85, 1.0])]))


def inverted_inside(image, partner, random):
    return (1 - image) * (cv2.GaussianBlur(image, (0, 0), 1.5) > 0.08)


def solarise(image, partner, random):
    return np.where(image > 0.5 * image.max(), image.max() - image, image) * 1.8


def side_by_side(image, partner, random):
    canvas, small, half = np.zeros((SIDE, SIDE), np.float32), shrink(image, SIDE // 2), SIDE // 2
    canvas[half // 2 : half // 2 + half, :half] = small
    canvas[half // 2 : half // 2 + half, half:] = small[:, ::-1]
    return canvas


def side_by_side_other(image, partner, random):
    canvas, half = np.zeros((SIDE, SIDE), np.float32), SIDE // 2
    pair = [shrink(image, half), shrink(partner, half)]
    first, second = pair if random.rand() < 0.5 else pair[::-1]
    canvas[half // 2 : half // 2 + half, :half], canvas[half // 2 : half // 2 + half, half:] = first, second
    return canvas


def canvas_mri(image, partner, random):
    canvas, side = partner.clip(0, 1), int(0.55 * SIDE)
    row, column = random.randint(0, SIDE - side + 1, 2)
    canvas[row : row + side, column : column + side] = shrink(image, side)
    return canvas


def canvas_photo(image, partner, random):
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    clouds = cv2.resize(random.rand(14, 14), (SIDE, SIDE))
    canvas = (0.4 + 0.3 * np.sin(7 * columns + 5 * rows * rows) + 0.15 * clouds).astype(np.float32)
    side = int(0.55 * SIDE)
    row, column = random.randint(0, SIDE - side + 1, 2)
    canvas[row : row + side, column : column + side] = shrink(image, side)
    return canvas


def several(count: int) -> Change:
    def change(image, partner, random):
        for name in random.choice(SEVERAL, count, replace=False):
            image = perturb(name, image, random).clip(0, 1)
        return image

    return change


def skull_stripped(image, partner, random):
    head = (cv2.GaussianBlur(image, (0, 0), 2) > 0.08).astype(np.uint8)
    return image * cv2.erode(head, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25)), borderValue=0)


def small_piece(image, partner, random):
    canvas = partner.copy()
    row, column = random.randint(40, 110, 2)
    canvas[row : row + 64, column : column + 64] = image[row : row + 64, column : column + 64]
    return canvas


def photo(image, partner, random):
    image = perspective(cv2.GaussianBlur(image, (0, 0), 1), partner, random)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    angle = random.uniform(0, np.pi)
    moire = 1 + 0.06 * np.sin(2.1 * (columns * np.cos(angle) + rows * np.sin(angle)))
    return (image * 0.8 + 0.1) * (1 - 0.4 * columns / SIDE) * moire + 0.02 * random.standard_normal(image.shape)


def screenshot(image, partner, random):
    canvas, side = np.full((SIDE, SIDE), 0.94, np.float32), 150
    row, column = random.randint(20, SIDE - side - 5), random.randint(5, SIDE - side - 5)
    canvas[row : row + side, column : column + side] = shrink(image, side)
    canvas[:14], canvas[16:18] = 0.3, 0.6
    picture = Image.fromarray(to_bytes(canvas))
    ImageDraw.Draw(picture).text((6, 2), "Viewer - IM 12", fill=230)
    ImageDraw.Draw(picture).text((6, SIDE - 12), "W 400 L 40", fill=30)
    return np.asarray(picture, np.float32) / 255


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (
        perspective,
        shear,
        barrel,
        elastic_gamma,
        jpeg_10,
        speckle,
        motion_blur,
        ghost,
        ringing,
        kspace_motion,
        clahe,
        levels_6,
        super_resolution,
        resolution_64,
        tissue_permuted,
        inverted_inside,
        solarise,
        side_by_side,
        side_by_side_other,
        canvas_mri,
        canvas_photo,
        skull_stripped,
        small_piece,
        photo,
        screenshot,
    )
} | {"three": several(3), "four": several(4)}


def change_all(queries: QuerySet, name: str) -> Tensor:
    changed = []
    for row, (image, partner) in enumerate(zip(queries.synthetic, queries.partners, strict=True)):
        seed = int.from_bytes(hashlib.sha256(f"{name}/{row}".encode()).digest()[:4], "big")
        arrays = (np.ascontiguousarray(pixels[0].numpy()) for pixels in (image, partner))
        pixels = CHANGES[name](*arrays, np.random.RandomState(seed))
        changed.append(torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).clamp(0, 1)[None])
    return torch.stack(changed)


def main() -> None:
    parser = image_parser(__doc__, copies=20, strangers=20)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    arguments = parser.parse_args()
    queries = read_queries(arguments, (SIDE, SIDE)).under("none")
    weights = find_bundle("deepssim_brain_mri") / "models" / "model.pt"
    detectors = [AlignedDetector(DeepSSIMDetector(weights)), LocalFeaturesDetector()]
    for detector in detectors:
        detector.fit(queries.gallery.split(BATCH_SIZE))
    print(
        f"{queries.counts['copies']} copies, {queries.counts['strangers']} images of other groups, gallery of "
        f"{len(queries.gallery)}\n\n| change | proposed | kept | scored | source called | others called | "
        "local features alone: source called | others called |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for name in arguments.changes:
        images = change_all(queries, name)
        cells = [score_cell(detector, queries, images, BATCH_SIZE) for detector in detectors]
        is_copy, stages = queries.is_copy, cells[0]
        shares = [flags[is_copy].mean() for flags in (stages.is_proposed, stages.is_kept, stages.ranks == 1)]
        for detector, cell in zip(detectors, cells, strict=True):
            is_called = (cell.source_scores[is_copy], cell.nearest_scores[~is_copy])
            shares += [(scores > detector.threshold).mean() for scores in is_called]
        print(f"| `{name}` | " + " | ".join(f"{share:.2f}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
