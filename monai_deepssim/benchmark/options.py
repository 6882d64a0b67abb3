"""The options of a benchmark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.image_option_checks import image_sides
from monai_deepssim.option_checks import (
    anything,
    one_of,
    path,
    several_of,
    share,
    text,
    torch_device,
    unusable_option,
    whole,
    yes_or_no,
)
from monai_deepssim.options import option, option_names

if TYPE_CHECKING:
    import torch

    from monai_deepssim.benchmark.detectors import DetectorSource

__all__ = ["BenchmarkCommandOptions", "BenchmarkOptions"]

# A name is a folder of cells too.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PHANTOM_GALLERY, _OWN_GALLERY = 1000, 600
_DETECTORS, _IMAGES, _MEASURING, _OUTPUT = "Detectors", "Images", "Measuring", "Output"


def _perturbation_names() -> Iterable[str]:
    from monai_deepssim.transforms import SUPPORTED_PERTURBATIONS

    return SUPPORTED_PERTURBATIONS


def _phantom_organs() -> Iterable[str]:
    from monai_deepssim.data import PHANTOM_ORGANS

    return PHANTOM_ORGANS


@dataclass(frozen=True)
class BenchmarkOptions:
    """The options of a benchmark."""

    detectors: Mapping[str, Any] = option(
        None,
        anything("names with a _target_"),
        'Detectors by name, each a _target_ with its arguments and "_mode_": "callable". One whose embedder is '
        "null is left out.",
        _DETECTORS,
    )
    only: Any = option(None, anything("names"), "Names of the detectors to run; by default all.", _DETECTORS)
    two_class: Any = option(
        None, anything("names"), "Detectors that know no similar images: theirs is one threshold.", _DETECTORS
    )
    perturbations: tuple[str, ...] = option(
        None, several_of(_perturbation_names), "Changes of the synthetic images; by default all.", _MEASURING
    )
    pairs_csv: Path | None = option(
        None, path("CSV"), "Labelled pairs in the published format; by default phantom pairs are made.", _IMAGES
    )
    images_dir: Path | None = option(None, path("folder"), "Folder of the images of pairs_csv.", _IMAGES)
    images: Path | None = option(
        None, path("folder or CSV"), "Images of your own, of which copies and strangers are made.", _IMAGES
    )
    group_column: str | None = option(
        None, text, "Column of the CSV whose images belong together; by default patient_id.", _IMAGES
    )
    patient_id_pattern: str | None = option(
        None, text, "Regular expression whose group finds the patient in an image's path.", _IMAGES
    )
    phantom: str | None = option(
        None,
        one_of(_phantom_organs, or_none=True),
        "Organ of the phantoms that stand in for images of your own; by default labelled pairs of brains are made.",
        _IMAGES,
    )
    num_copies: int = option(60, whole(1), "Images of your own that are changed and searched for.", _MEASURING)
    num_strangers: int = option(40, whole(1), "Images of other groups that are changed and searched for.", _MEASURING)
    tuning_fraction: float = option(
        0.3, share(0.3), "Share of the patients of pairs_csv whose pairs are for the thresholds alone.", _MEASURING
    )
    num_pairs: int = option(
        300, whole(6), "Phantom pairs for the test, and again for the thresholds; a third of each class.", _MEASURING
    )
    gallery_size: int = option(
        None,
        whole(1, or_none=True),
        "Real images among which the source has to be found; by default 1000 of phantom pairs, else 600.",
        _MEASURING,
    )
    test_seed: int = option(9402, whole(0), "Seed of the test, and of what the perturbations draw.", _MEASURING)
    tuning_seed: int = option(
        9401, whole(0), "Seed of the phantoms for the thresholds, or of the split of patients.", _MEASURING
    )
    image_size: tuple[int, int] = option((136, 112), image_sides(64), "Rows and columns of all images.", _IMAGES)
    num_resamples: int = option(1000, whole(1), "Resamplings of the bootstrap.", _MEASURING)
    batch_size: int = option(50, whole(1), "Images per step of the networks.", _MEASURING)
    output_dir: Path = option(Path("detector_benchmark"), path("folder"), "Folder of the results.", _OUTPUT)
    overwrite: bool = option(
        False, yes_or_no, "Whether what an earlier run in the folder scored is scored anew.", _OUTPUT
    )

    #: The detectors that can be run, and why each other one is left out.
    sources: tuple[DetectorSource, ...] = field(init=False)
    left_out: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._check_images()
        if self.gallery_size is None:
            object.__setattr__(self, "gallery_size", _OWN_GALLERY if self.has_groups else _PHANTOM_GALLERY)
        if self.output_dir is None:
            object.__setattr__(self, "output_dir", type(self).output_dir)
        if not isinstance(self.detectors, Mapping) or not self.detectors:
            raise unusable_option("detectors", self.detectors, "detectors by name, each a _target_ with its arguments")
        for name in self.detectors:
            if not _NAME.fullmatch(str(name)):
                raise unusable_option("detectors", name, "names of letters, digits, _, - and .")
        known = several_of(list(self.detectors))
        for name in ("only", "two_class"):
            object.__setattr__(self, name, known.read(name, getattr(self, name)))
        sources, left_out = _choose_detectors(self.detectors, self.only)
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "left_out", left_out)
        if not self.perturbations:
            object.__setattr__(self, "perturbations", tuple(_perturbation_names()))
        if self.pairs_csv is None and not self.has_groups and self.gallery_size < self.num_pairs:
            raise unusable_option("gallery_size", self.gallery_size, f"at least num_pairs, {self.num_pairs}")
        if self.test_seed == self.tuning_seed:
            raise UnusableInputError(
                f"--tuning_seed: is {self.tuning_seed}, and so is --test_seed. Thresholds are chosen on images that "
                "the test does not have: give another seed."
            )

    @property
    def has_groups(self) -> bool:
        """Whether copies and strangers are made of images in groups, and not read or made as labelled pairs."""
        return self.images is not None or self.phantom is not None

    def _check_images(self) -> None:
        if (self.pairs_csv is None) != (self.images_dir is None):
            missing = "images_dir" if self.images_dir is None else "pairs_csv"
            raise UnusableInputError(
                f"--{missing}: was not given. Pairs of your own are a CSV and the folder of its images: give both, or "
                "neither for phantom pairs."
            )
        if self.images is not None and self.pairs_csv is not None:
            raise UnusableInputError(
                "--images: was given together with --pairs_csv. Give labelled pairs, or images of your own of which "
                "the benchmark makes copies."
            )
        if self.phantom is not None and (self.images is not None or self.pairs_csv is not None):
            other = "images" if self.images is not None else "pairs_csv"
            raise UnusableInputError(
                f"--phantom: was given together with --{other}. Give phantoms or images, not both."
            )
        for name in ("group_column", "patient_id_pattern"):
            if getattr(self, name) is not None and self.images is None:
                raise UnusableInputError(f"--{name}: is about images of your own. Give --images too.")
        if self.group_column is not None and self.patient_id_pattern is not None:
            raise UnusableInputError(
                "--group_column: was given together with --patient_id_pattern. Both say which images belong together: "
                "give one of them."
            )


@dataclass(frozen=True)
class BenchmarkCommandOptions(BenchmarkOptions):
    """The options of the command: also what the detectors of the bundle's config refer to."""

    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", _DETECTORS)
    checkpoint: Path | None = option(
        None,
        path("file"),
        "DeepSSIM embedder of deepssim, deepssim_aligned and memorization_index; by default the shipped weights.",
        _DETECTORS,
    )
    allow_torchscript: bool = option(
        False,
        yes_or_no,
        "Whether that checkpoint may be TorchScript, which can run code of its own; only from a source that you trust.",
        _DETECTORS,
    )
    copy_detector_checkpoint: Path | None = option(
        None, path("file"), "Weights of copy_detector; by default the shipped weights.", _DETECTORS
    )
    mri_core_checkpoint: Path | None = option(None, path("file"), "Weights of mri_core.", _DETECTORS)
    torchscript_file: Path | None = option(None, path("file"), "Descriptor of torchscript.", _DETECTORS)
    open_clip_weights: Path | None = option(None, path("file"), "Weights of open_clip.", _DETECTORS)
    open_clip_model: str = option("ViT-B-32", text, "Architecture of open_clip.", _DETECTORS)


def _choose_detectors(
    detectors: Mapping[str, Any], only: Sequence[str]
) -> tuple[tuple[DetectorSource, ...], dict[str, str]]:
    from monai_deepssim.benchmark.detectors import DetectorSource

    sources, left_out = [], {}
    for name, component in detectors.items():
        source = DetectorSource(str(name), component)
        missing = source.missing_file()
        if only and name not in only:
            left_out[str(name)] = "not named by --only"
        elif missing is not None:
            left_out[str(name)] = f"no weights: give {_option_of(str(name), missing)}"
        else:
            sources.append(source)
    if not sources:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UnusableInputError(f"--detectors: none is left to run ({reasons}).")
    return tuple(sources), left_out


def _option_of(detector: str, argument: str) -> str:
    """The option that gives a detector's file: one of its own, or a part of ``detectors``."""
    own = [name for name in option_names(BenchmarkCommandOptions) if name.startswith(f"{detector}_")]
    return f"--{own[0]}" if own else f"--detectors#{detector}#{argument}"
