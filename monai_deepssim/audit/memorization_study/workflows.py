"""Bundles run from Python: MONAI's workflow of a config and overrides, errors in words, nothing left switched."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.utils import set_determinism

from monai_deepssim.audit.bundles import find_bundle
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
    files = _files(bundle, config, settings)
    with _nothing_left_switched(), _messages_unwrapped():
        workflow = ConfigWorkflow(
            [str(file) for file in files],
            meta_file=str(files[0].with_name("metadata.json")),
            # Not the bundle's own, which tells of every epoch: a study is dozens of trainings.
            logging_file=str(find_bundle("memorization_study") / "configs" / "logging.conf"),
            workflow_type=None,
            bundle_root=str(files[0].parents[1]),
            **overrides,
        )
        workflow.initialize()
        workflow.run()
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
    parser.read_config([str(file) for file in _files(bundle, config, settings)])
    parser.update(dict(overrides))
    return parser


def _files(bundle: str, config: str, settings: Sequence[Path]) -> list[Path]:
    return [find_bundle(bundle) / "configs" / f"{config}.json", *settings]


@contextmanager
def _nothing_left_switched() -> Iterator[None]:
    """A bundle seeds everything, switches off MONAI's metadata and adds to the path of imports."""
    tracked, path = get_track_meta(), list(sys.path)
    try:
        yield
    finally:
        set_track_meta(tracked)
        set_determinism(None)
        sys.path[:] = path


@contextmanager
def _messages_unwrapped() -> Iterator[None]:
    """MONAI wraps what is raised inside of a config in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UnusableInputError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise UnusableInputError(str(cause)) from error
