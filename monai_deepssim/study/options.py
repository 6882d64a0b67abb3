"""The options of a study: plain values of a config, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from monai_deepssim.audit.option_checks import device, image_size, one_of, whole, wrong, yes_or_no
from monai_deepssim.audit.overrides import text_of_value
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import DUPLICATION_RANGES
from monai_deepssim.study.grid import FACTORS, Setting, full_product, one_at_a_time

__all__ = ["MIN_SAMPLES", "StudyOptions", "read_options"]

#: FID of 15 features needs more images than that.
MIN_SAMPLES = 16


@dataclass(frozen=True)
class StudyOptions:
    """Checked options; :class:`~monai_deepssim.study.MemorizationStudy` says what each one means."""

    base: Setting
    cells: tuple[Setting, ...]
    equal: str
    num_seeds: int
    num_samples: int
    dataset_dir: Path | None
    patient_id_pattern: str | None
    slices: Any
    slice_axis: int
    phantom: dict[str, Any]
    num_holdout: int
    image_size: tuple[int, int]
    generator_settings: tuple[Path, ...]
    autoencoder_checkpoint: Path | None
    checkpoint: Path
    deepssim_image_size: tuple[int, int]
    top_k: int
    copy_detector_settings: tuple[Path, ...]
    copy_detector_checkpoint: Path | None
    seed: int
    device: torch.device
    report_images: bool
    estimate_only: bool
    output_dir: Path

    @property
    def largest(self) -> int:
        """Images of the largest training set."""
        return max(cell.training_images for cell in self.cells)


def read_options(values: Mapping[str, Any], typed: Mapping[str, str]) -> StudyOptions:
    """Check the values of a config.

    Args:
        values: an option's value as it arrived, by name.
        typed: an option's text as it was typed, by name, where it was typed.

    Returns:
        The options.

    Raises:
        UnusableInputError: naming the option that cannot be used, what arrived and what is wanted.
    """

    def text(name: str) -> str | None:
        found = text_of_value(name, values[name], typed)
        if found is not None and not found.strip():
            raise UnusableInputError(f"--{name}: is empty. Give a value, or leave the option out.")
        return found

    def path(name: str, *, must_exist: bool = False) -> Path | None:
        found = text(name)
        if found is None:
            return None
        named = Path(found).expanduser()
        if must_exist and not named.is_file():
            raise UnusableInputError(f"--{name}: {named} is no file. Give the path of a checkpoint.")
        return named

    base = _setting("base", values["base"])
    levels = _levels(values["factors"])
    design = one_of("design", values["design"], ("one_factor", "product"))
    checkpoint = path("checkpoint", must_exist=True)
    if checkpoint is None:
        raise wrong("checkpoint", None, "the weights of a DeepSSIM embedder")
    return StudyOptions(
        base=base,
        cells=tuple((one_at_a_time if design == "one_factor" else full_product)(base, levels)),
        equal=one_of("equal", values["equal"], ("steps", "epochs")),
        num_seeds=whole("num_seeds", values["num_seeds"], 1),
        num_samples=whole("num_samples", values["num_samples"], MIN_SAMPLES),
        dataset_dir=path("dataset_dir"),
        patient_id_pattern=text("patient_id_pattern"),
        slices=values["slices"],
        slice_axis=whole("slice_axis", values["slice_axis"], 0),
        phantom=_mapping("phantom", values["phantom"]),
        num_holdout=whole("num_holdout", values["num_holdout"], 2 * MIN_SAMPLES),
        image_size=image_size("image_size", values["image_size"], 32),
        generator_settings=_files("generator_settings", values["generator_settings"]),
        autoencoder_checkpoint=path("autoencoder_checkpoint", must_exist=True),
        checkpoint=checkpoint,
        deepssim_image_size=image_size("deepssim_image_size", values["deepssim_image_size"], 32),
        top_k=whole("top_k", values["top_k"], 1),
        copy_detector_settings=_files("copy_detector_settings", values["copy_detector_settings"]),
        copy_detector_checkpoint=path("copy_detector_checkpoint", must_exist=True),
        seed=whole("seed", values["seed"], 0),
        device=device("device", text("device")),
        report_images=yes_or_no("report_images", values["report_images"]),
        estimate_only=yes_or_no("estimate_only", values["estimate_only"]),
        output_dir=path("output_dir") or Path("memorization_study"),
    )


def _mapping(option: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise wrong(option, value, "names with their values, such as \"{'seed': 7}\"")
    return {str(name): entry for name, entry in value.items()}


def _setting(option: str, value: Any) -> Setting:
    given = _mapping(option, value)
    wanted = [field.name for field in fields(Setting)]
    if sorted(given) != sorted(wanted):
        raise wrong(option, value, f"a value for each of {', '.join(wanted)}; --{option}#width 48 changes one alone")
    return Setting(**{name: _level(f"{option}#{name}", name, given[name]) for name in wanted})


def _levels(value: Any) -> dict[str, list[Any]]:
    given = _mapping("factors", value)
    for name in given:
        if name not in FACTORS:
            raise UnusableInputError(f"--factors: {name!r} is unknown. The factors are: {', '.join(FACTORS)}.")
    levels = {}
    for name in FACTORS:
        found = given.get(name, [])
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise wrong(f"factors#{name}", found, "a list of values")
        levels[name] = [_level(f"factors#{name}", name, level) for level in found]
    return {name: found for name, found in levels.items() if found}


def _level(option: str, name: str, value: Any) -> Any:
    if name == "repetitions":
        return one_of(option, value, list(DUPLICATION_RANGES))
    return yes_or_no(option, value) if name == "augmentation" else whole(option, value, 1)


def _files(option: str, value: Any) -> tuple[Path, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise wrong(option, value, "the path of a JSON file, or a list of them")
    files = tuple(Path(name).expanduser() for name in given)
    for file in files:
        if not file.is_file():
            raise UnusableInputError(f"--{option}: {file} is no file. Give the path of a JSON file with settings.")
    return files
