"""Bundles run from Python with further settings from files."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import is_quiet
from monai_deepssim.workflow import config_steps
from monai_deepssim.workflow.bundles import find_bundle

__all__ = ["parse_config", "run_config"]


def run_config(bundle: str, config: str, settings: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    """Run a config of one of this package's bundles, as ``python -m monai.bundle run`` does.

    Args:
        bundle: its name.
        config: name of the config, without suffix.
        settings: further config files, the later ones winning.
        overrides: values by id, which win over all files.

    Raises:
        UnusableInputError: what the workflow ended with, where it says what is wrong with the input.
    """
    # The progress bars of MONAI's engines and data sets know no quiet; what goes wrong is raised.
    with contextlib.redirect_stderr(io.StringIO()) if is_quiet() else contextlib.nullcontext():
        config_steps.run_config(bundle, [config], {**_read(settings), **overrides})


def parse_config(bundle: str, config: str, settings: Sequence[Path], overrides: Mapping[str, Any]) -> ConfigParser:
    """Read a config in the same way, to take values or build parts from it.

    Args:
        bundle: its name.
        config: name of the config, without suffix.
        settings: further config files, the later ones winning.
        overrides: values by id, which win over all files.

    Returns:
        MONAI's parser.

    Example:
        >>> small = find_bundle("brain_mri_ldm") / "configs" / "small.json"
        >>> parse_config("brain_mri_ldm", "train_diffusion", [small], {"seed": 3})["diffusion_batch_size"]
        16
    """
    parser = ConfigParser()
    parser.read_config(str(find_bundle(bundle) / "configs" / f"{config}.json"))
    parser.update({**_read(settings), **overrides})
    return parser


def _read(settings: Sequence[Path]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for file in settings:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UnusableInputError(f"{file}: is not JSON ({error}). Correct it.") from error
        if not isinstance(found, dict):
            raise UnusableInputError(f"{file}: holds {type(found).__name__}, wanted settings by id. Correct it.")
        merged |= found
    return merged
