"""How many copies are found where training images are in Hounsfield units and synthetic images are windowed pictures.

    python benchmarks/windows.py
    python benchmarks/windows.py --only abdomen --options none auto --format dicom

Phantoms of computed tomography, every one another body: air, fat, muscle, organs, vessels, lungs, bones, metal in some,
and the table. 24 are the training images, in Hounsfield units; 16 of these and 16 others are the synthetic images, and
24 more are held out, 12 in Hounsfield units and 12 as pictures: 8-bit PNGs of one window. A copy counts as found where
it is judged a duplicate of its own training image.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from monai_deepssim import find_copies

SIDE = 160
NUM_TRAINING, NUM_COPIES, NUM_STRANGERS, NUM_HELD_OUT = 24, 16, 16, 24
#: Region, center, width. Those that a viewer offers, which are tried by name, and others that nobody has in a list.
WINDOWS = {
    "soft tissue": ("abdomen", 40, 400),
    "liver": ("abdomen", 60, 160),
    "brain": ("head", 40, 80),
    "lung": ("chest", -600, 1500),
    "bone": ("chest", 300, 1500),
    "mediastinum": ("chest", 50, 350),
    "coronary": ("chest", 200, 1000),
    "wide head": ("head", 55, 210),
    "unusual abdomen": ("abdomen", 95, 650),
    "unusual chest": ("chest", -330, 1180),
    "0 to 100": ("head", 50, 100),
    "-1000 to 1000": ("chest", 0, 2000),
    "whole range": ("abdomen", None, None),
}


def smooth_noise(random: np.random.Generator, scale: float) -> np.ndarray:
    """A smooth random field of deviation 1."""
    field = ndimage.gaussian_filter(random.standard_normal((SIDE, SIDE)), scale)
    return field / field.std()


def blob(random: np.random.Generator, row: float, column: float, height: float, width: float) -> np.ndarray:
    """A distorted ellipse, in shares of the image's side: bool."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5
    angle = random.uniform(-0.4, 0.4)
    down, across = rows - row, columns - column
    turned = (np.cos(angle) * down + np.sin(angle) * across, np.cos(angle) * across - np.sin(angle) * down)
    distance = np.hypot(turned[0] / height, turned[1] / width)
    return distance < 1 + 0.07 * smooth_noise(random, SIDE / 14)


def make_body(region: str, seed: int) -> np.ndarray:
    """One axial slice in Hounsfield units: float64, air at -1000."""
    random = np.random.default_rng([seed, sum(map(ord, region))])
    around = lambda value, share: value * random.uniform(1 - share, 1 + share)  # noqa: E731
    image = np.full((SIDE, SIDE), -1000.0)
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5
    curve = rows - 0.41 + 0.5 * columns**2
    image[np.abs(curve) < 0.008] = random.uniform(-250, 100)
    if region == "head":
        fill_head(image, random, around)
    else:
        fill_trunk(image, random, around, region)
    if random.random() < 0.25:
        image[blob(random, *random.uniform(-0.15, 0.15, 2), 0.015, 0.02)] = random.uniform(2500, 9000)
    blurred = ndimage.gaussian_filter(image, 0.6)
    texture = ndimage.gaussian_filter(random.standard_normal(image.shape), 0.8)
    return blurred + around(24, 0.4) * texture / texture.std()


def fill_head(image: np.ndarray, random: np.random.Generator, around) -> None:
    """Scalp, skull, brain with grey and white matter, ventricles, and a bleeding in some."""
    height, width = around(0.36, 0.08), around(0.29, 0.08)
    for shrink, value in ((1, -80.0), (0.93, around(1000, 0.3)), (0.83, 8.0), (0.79, around(34, 0.1))):
        seed = random.bit_generator.state
        image[blob(random, 0, 0, height * shrink, width * shrink)] = value
        random.bit_generator.state = seed
    random.random(4)
    brain = image == image[SIDE // 2, SIDE // 2]
    image[brain & (smooth_noise(random, SIDE / 22) > 0.3)] = around(26, 0.1)
    for side in (-1, 1):
        image[
            blob(random, around(-0.03, 1), side * around(0.05, 0.4), around(0.09, 0.4), around(0.025, 0.4)) & brain
        ] = 6
    if random.random() < 0.4:
        image[blob(random, *random.uniform(-0.15, 0.15, 2), around(0.04, 0.4), around(0.04, 0.4)) & brain] = 68


def fill_trunk(image: np.ndarray, random: np.random.Generator, around, region: str) -> None:
    """Fat, muscle, organs or lungs with vessels, spine and ribs."""
    height, width = around(0.3, 0.12), around(0.41, 0.08)
    body = blob(random, 0, 0, height, width)
    image[body] = -105
    inner = body & blob(random, 0, 0, height * around(0.85, 0.06), width * around(0.88, 0.06))
    image[inner] = around(52, 0.15)
    cavity = inner & blob(random, around(-0.03, 0.5), 0, height * around(0.68, 0.08), width * around(0.72, 0.08))
    if region == "chest":
        for side in (-1, 1):
            lung = blob(random, around(-0.02, 1), side * around(0.17, 0.15), around(0.19, 0.15), around(0.11, 0.15))
            lung &= inner
            image[lung] = around(-840, 0.06)
            image[lung & (smooth_noise(random, 1.6) > 1.7)] = 30
        image[inner & blob(random, around(-0.06, 0.3), around(0.03, 0.8), around(0.09, 0.2), around(0.08, 0.2))] = (
            around(130, 0.5)
        )
    else:
        image[cavity] = -95
        for _ in range(random.integers(7, 12)):
            row, column = random.uniform(-0.15, 0.12), random.uniform(-0.25, 0.25)
            organ = cavity & blob(random, row, column, random.uniform(0.03, 0.12), random.uniform(0.03, 0.12))
            image[organ] = random.choice([15, 45, 60, 85, 110, 160, 220])
            if random.random() < 0.3:
                image[ndimage.binary_erosion(organ, iterations=4)] = random.choice([-900, 10, 240])
    image[inner & blob(random, around(0.17, 0.1), 0, around(0.055, 0.2), around(0.07, 0.2))] = around(420, 0.4)
    image[inner & blob(random, around(0.17, 0.1), 0, around(0.035, 0.2), around(0.045, 0.2))] = around(180, 0.4)
    for angle in np.linspace(0.3, 2 * np.pi - 0.3, random.integers(8, 12)) + random.uniform(-0.15, 0.15):
        rib = blob(random, 0.78 * height * np.cos(angle), 0.8 * width * np.sin(angle), 0.014, 0.03)
        image[inner & rib] = around(650, 0.4)


def write_hounsfield(path: Path, image: np.ndarray, file_format: str) -> None:
    """Write a slice in Hounsfield units: int16."""
    stored = np.clip(np.round(image), -1024, 32000).astype(np.int16)
    if file_format == "nifti":
        ras = np.ascontiguousarray(stored[::-1, ::-1].T[:, :, None])
        nib.save(nib.Nifti1Image(ras, np.eye(4)), path.with_suffix(".nii.gz"))
        return
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelSpacing = [1, 1]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.PixelData = (stored.astype(np.int32) + 1024).astype("<u2").tobytes()
    pydicom.dcmwrite(path.with_suffix(".dcm"), dataset, enforce_file_format=True)


def write_picture(path: Path, image: np.ndarray, center: float | None, width: float | None) -> None:
    """Write a slice as an 8-bit picture of a window, or of its own range."""
    image = np.round(image)
    low, high = image.min(), image.max()
    if center is not None and width is not None:
        low, high = center - width / 2, center + width / 2
    Image.fromarray(np.round(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)).save(path)


def write_sides(folder: Path, region: str, center: float | None, width: float | None, file_format: str) -> None:
    """Write the three sides, the HU ones in a format; a copy has the name of its training image."""
    for name in ("training", "synthetic", "holdout"):
        (folder / name).mkdir()
    for number in range(NUM_TRAINING):
        write_hounsfield(folder / "training" / f"p{number:03d}", make_body(region, number), file_format)
    for number in [*range(NUM_COPIES), *range(100, 100 + NUM_STRANGERS)]:
        write_picture(folder / "synthetic" / f"p{number:03d}.png", make_body(region, number), center, width)
    for number in range(200, 200 + NUM_HELD_OUT):
        image, path = make_body(region, number), folder / "holdout" / f"p{number:03d}"
        if number % 2:
            write_hounsfield(path, image, file_format)
        else:
            write_picture(path.with_suffix(".png"), image, center, width)


def measure(region: str, center: float | None, width: float | None, option: str, file_format: str) -> dict:
    """Audit one set with one value of the option `window`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sides(folder, region, center, width, file_format)
        result = find_copies(
            folder / "training",
            folder / "synthetic",
            holdout=folder / "holdout",
            patient_ids=r"(p\d+)",
            controls=None,
            **({} if option == "off" else {"window": option}),
        )
    matches = result.matches
    stem = lambda path: path.split(".")[0]  # noqa: E731
    own = matches["synthetic_path"].map(stem) == matches["training_path"].map(stem)
    is_copy = matches["synthetic_path"].map(stem).str[1:].astype(int) < NUM_COPIES
    called = matches["label"] == "duplicate"
    return {
        "found": int((called & own & is_copy).sum()),
        "lowest_copy": float(matches.loc[is_copy, "score"].min()),
        "false_calls": int((called & ~is_copy).sum()),
        "held_out_calls": 0 if result.false_alarms is None else result.false_alarms.count,
        "highest_held_out": float(result.held_out["score"].max()),
        "chosen": next((item.get("window", "") for item in result.training.side.items), ""),
        "uncovered": [one.kind for one in result.sides_differ.uncovered],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(WINDOWS), help="names of windows")
    parser.add_argument("--options", nargs="*", default=["none", "auto"], help="values of the option window")
    parser.add_argument("--format", choices=["nifti", "dicom"], default="nifti")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    rows = []
    print("| pictures | window | option | taken | copies found | lowest | false | held-out | highest | not covered |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in arguments.only:
        region, center, width = WINDOWS[name]
        for option in arguments.options:
            row = measure(region, center, width, option, arguments.format)
            rows.append({"pictures": name, "center": center, "width": width, "option": option, **row})
            window = "each slice's own range" if center is None else f"{center}, {width}"
            print(
                f"| {name} | {window} | {option} | {row['chosen'] or '-'} | {row['found']} of {NUM_COPIES} | "
                f"{row['lowest_copy']:.2f} | {row['false_calls']} of {NUM_STRANGERS} | {row['held_out_calls']} of "
                f"{NUM_HELD_OUT} | {row['highest_held_out']:.2f} | {', '.join(row['uncovered']) or '-'} |",
                flush=True,
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
