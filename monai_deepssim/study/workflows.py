"""Bundles run from Python: MONAI's workflow of a config and overrides, errors in words, nothing left switched."""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.utils import set_determinism

from monai_deepssim.audit.bundles import find_bundle
from monai_deepssim.audit.config_steps import perform_steps
from monai_deepssim.errors import UnusableInputError

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
    folder = find_bundle(bundle)
    with _nothing_left_switched():
        workflow = ConfigWorkflow(
            str(folder / "configs" / f"{config}.json"),
            logging_file=str(find_bundle("memorization_study") / "configs" / "logging.conf"),
            workflow_type=None,
            # As overrides, for MONAI warns of config files that lie in several folders.
            **{"bundle_root": str(folder), **_read(settings), **overrides},
        )
        workflow.initialize()
        perform_steps(workflow)
        workflow.finalize()
        del workflow
    gc.collect()  # engines and their handlers refer to each other


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
        except ValueError as error:
            raise UnusableInputError(f"{file}: is no JSON ({error}). Correct it.") from error
        if not isinstance(found, dict):
            raise UnusableInputError(f"{file}: holds {type(found).__name__}, wanted settings by id. Correct it.")
        merged |= found
    return merged


@contextmanager
def _nothing_left_switched() -> Iterator[None]:
    """A bundle seeds everything, switches off MONAI's metadata and adds to the path of imports."""
    tracked, path, disabled = get_track_meta(), list(sys.path), logging.root.manager.disable
    # MONAI's engines have loggers of their own, which tell of every epoch whatever the file says.
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)
        set_track_meta(tracked)
        set_determinism(None)
        sys.path[:] = path
