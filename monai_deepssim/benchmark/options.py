"""The options of a benchmark: plain values of a config, checked one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_deepssim.audit.option_checks import image_size, names, share, whole, wrong, yes_or_no
from monai_deepssim.audit.overrides import text_of_value
from monai_deepssim.benchmark.detectors import DetectorSource
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.transforms import SUPPORTED_PERTURBATIONS

__all__ = ["BenchmarkOptions", "read_options"]

# A name is a folder of cells too.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PHANTOM_GALLERY, _OWN_GALLERY = 1000, 600


@dataclass(frozen=True)
class BenchmarkOptions:
    """Checked options; :class:`~monai_deepssim.benchmark.DetectorBenchmark` says what each one means."""

    detectors: tuple[DetectorSource, ...]
    left_out: dict[str, str]
    two_class: frozenset[str]
    perturbations: tuple[str, ...]
    pairs_csv: Path | None
    images_dir: Path | None
    images: Path | None
    group_column: str | None
    patient_id_pattern: str | None
    num_copies: int
    num_strangers: int
    tuning_fraction: float
    num_pairs: int
    gallery_size: int
    test_seed: int
    tuning_seed: int
    image_size: tuple[int, int]
    num_resamples: int
    batch_size: int
    output_dir: Path
    overwrite: bool


def read_options(
    values: Mapping[str, Any], typed: Mapping[str, str], config: Mapping[str, Any] | None
) -> BenchmarkOptions:
    """Check the values of a config.

    Args:
        values: an option's value as it arrived, by name.
        typed: an option's text as it was typed, by name, where it was typed.
        config: the merged config of the workflow, in which the option that names a detector's file is found.

    Returns:
        The options.

    Raises:
        UnusableInputError: naming the option that cannot be used, what arrived and what is wanted.
    """

    def text(name: str) -> str | None:
        value = text_of_value(name, values[name], typed)
        if value is not None and not value.strip():
            raise UnusableInputError(f"--{name}: is empty. Give a value, or leave the option out.")
        return value

    def path(name: str) -> Path | None:
        value = text(name)
        return None if value is None else Path(value).expanduser()

    pairs_csv, images_dir = path("pairs_csv"), path("images_dir")
    if (pairs_csv is None) != (images_dir is None):
        wanted = "images_dir" if images_dir is None else "pairs_csv"
        raise UnusableInputError(
            f"--{wanted}: was not given. Pairs of your own are a CSV and the folder of its images: give both, or "
            "neither for phantom pairs."
        )
    images, group_column, patient_id_pattern = path("images"), text("group_column"), text("patient_id_pattern")
    _check_images(images, pairs_csv, group_column, patient_id_pattern)
    gallery_size = values["gallery_size"]
    if gallery_size is None:
        gallery_size = _PHANTOM_GALLERY if images is None else _OWN_GALLERY
    detectors, left_out = _detectors(values["detectors"], values["only"], config)
    options = BenchmarkOptions(
        detectors=detectors,
        left_out=left_out,
        two_class=frozenset(names("two_class", values["two_class"], list(values["detectors"]))),
        perturbations=tuple(names("perturbations", values["perturbations"], list(SUPPORTED_PERTURBATIONS)))
        or SUPPORTED_PERTURBATIONS,
        pairs_csv=pairs_csv,
        images_dir=images_dir,
        images=images,
        group_column=group_column,
        patient_id_pattern=patient_id_pattern,
        num_copies=whole("num_copies", values["num_copies"], 1),
        num_strangers=whole("num_strangers", values["num_strangers"], 1),
        tuning_fraction=share("tuning_fraction", values["tuning_fraction"]),
        num_pairs=whole("num_pairs", values["num_pairs"], 6),
        gallery_size=whole("gallery_size", gallery_size, 1),
        test_seed=whole("test_seed", values["test_seed"], 0),
        tuning_seed=whole("tuning_seed", values["tuning_seed"], 0),
        image_size=image_size("image_size", values["image_size"], 64),
        num_resamples=whole("num_resamples", values["num_resamples"], 1),
        batch_size=whole("batch_size", values["batch_size"], 1),
        output_dir=path("output_dir") or Path("detector_benchmark"),
        overwrite=yes_or_no("overwrite", values["overwrite"]),
    )
    if pairs_csv is None and images is None and options.gallery_size < options.num_pairs:
        raise wrong("gallery_size", options.gallery_size, f"at least num_pairs, {options.num_pairs}")
    if options.test_seed == options.tuning_seed:
        raise UnusableInputError(
            f"--tuning_seed: is {options.tuning_seed}, and so is --test_seed. Thresholds are chosen on images that the "
            "test does not have: give another seed."
        )
    return options


def _check_images(
    images: Path | None, pairs_csv: Path | None, group_column: str | None, patient_id_pattern: str | None
) -> None:
    if images is not None and pairs_csv is not None:
        raise UnusableInputError(
            "--images: was given together with --pairs_csv. Give labelled pairs, or images of your own of which the "
            "benchmark makes copies."
        )
    for name, value in (("group_column", group_column), ("patient_id_pattern", patient_id_pattern)):
        if value is not None and images is None:
            raise UnusableInputError(f"--{name}: is about images of your own. Give --images too.")
    if group_column is not None and patient_id_pattern is not None:
        raise UnusableInputError(
            "--group_column: was given together with --patient_id_pattern. Both say which images belong together: "
            "give one of them."
        )


def _detectors(
    found: Any, only: Any, config: Mapping[str, Any] | None
) -> tuple[tuple[DetectorSource, ...], dict[str, str]]:
    if not isinstance(found, Mapping) or not found:
        raise wrong("detectors", found, "detectors by name, each a _target_ with its arguments")
    for name in found:
        if not _NAME.fullmatch(str(name)):
            raise wrong("detectors", name, "names of letters, digits, _, - and .")
    chosen = names("only", only, list(found)) or list(found)
    sources, left_out = [], {}
    for name in found:
        source = DetectorSource(str(name), found[name])
        missing = source.missing_file()
        if name not in chosen:
            left_out[str(name)] = "not named by --only"
        elif missing is not None:
            left_out[str(name)] = f"no weights: give {_option_of(config, str(name), missing)}"
        else:
            sources.append(source)
    if not sources:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UnusableInputError(f"--detectors: none is left to run ({reasons}).")
    return tuple(sources), left_out


def _option_of(config: Mapping[str, Any] | None, name: str, argument: str) -> str:
    """The override that gives a detector's file: in the bundle's config an id of its own."""
    value: Any = (config or {}).get("detectors", {})
    for key in [name, *argument.split("#")]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return f"--{value[1:]}" if isinstance(value, str) and value.startswith("@") else f"--detectors#{name}#{argument}"
