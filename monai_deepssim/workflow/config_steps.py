"""The steps of a bundle's config: overrides checked before the first, an end in words and with a status after the last.

MONAI takes any override (a mistyped one changes nothing), passes ``--amp false`` as a text, which counts as true, and
wraps what goes wrong in errors of its own. A config names its steps ``steps``, and its ``run`` is ``$run_steps()``.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.reference_resolver import ReferenceResolver
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.utils import set_determinism

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import private_umask
from monai_deepssim.folder_lock import locked_folder
from monai_deepssim.option_checks import unusable_option
from monai_deepssim.workflow.bundles import find_bundle
from monai_deepssim.workflow.exit_status import errors_in_words
from monai_deepssim.workflow.overrides import check_overrides, running_workflow

__all__ = ["as_literal", "perform_steps", "run_config", "run_steps"]


def run_config(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Run configs of one of this package's bundles, as ``python -m monai.bundle run`` does, with errors for Python.

    Args:
        bundle: its name.
        configs: names of its configs, without suffix, the later ones winning.
        overrides: values by id, which win over all configs.

    Raises:
        UnusableInputError: naming the override that cannot be used, or what a step said that cannot use its input.
    """
    folder = find_bundle(bundle)
    files = [str(folder / "configs" / f"{config}.json") for config in configs]
    with _nothing_left_switched():
        workflow = ConfigWorkflow(files, workflow_type=None, **{"bundle_root": str(folder), **overrides})
        workflow.initialize()
        perform_steps(workflow)
        workflow.finalize()
        del workflow
    gc.collect()  # engines and their handlers refer to each other


def as_literal(value: Any) -> Any:
    """Write a value so that MONAI takes it as it is, whatever a text begins with and holds.

    Args:
        value: a text or a path; nothing, a truth value or a number, which stays; or a list or mapping of these.

    Example:
        >>> for value in ("$print('#1')", [1, "@a"], {"_target_": "print"}):
        ...     ConfigParser({"folder": as_literal(value)}).get_parsed_content("folder")
        "$print('#1')"
        [1, '@a']
        {'_target_': 'print'}
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, os.PathLike)):
        return f"${_escaped(os.fspath(value))}"
    return f"$__import__('ast').literal_eval({_escaped(repr(value))})"


def _escaped(text: str) -> str:
    return "".join(f"\\x{ord(letter):02x}" if letter in "#@%:" else letter for letter in ascii(text))


def run_steps() -> None:
    """Perform the steps of the config whose ``run`` this is.

    Raises:
        SystemExit: with status 2 for an override or an input that cannot be used, and 130 when interrupted.
    """
    workflow = running_workflow()
    assert workflow is not None, "only the config of a bundle calls this"
    with errors_in_words():
        perform_steps(workflow)


def perform_steps(workflow: ConfigWorkflow) -> None:
    """Check the overrides of a MONAI workflow, and perform the ``steps`` of its config one after the other.

    What is checked against are the configs that lie beside its first one, together, as one file of settings may serve
    several of them: an id that none of them has and nothing reads is refused, and where all of them have a truth value,
    one is wanted. The folder ``output_dir`` is locked meanwhile, and what is written there is its owner's alone.

    Args:
        workflow: initialized.

    Raises:
        UnusableInputError: naming the override that cannot be used, or what a step said that cannot use its input.
    """
    parser = workflow.parser
    shipped = _read_configs(Path(workflow.config_root_path))
    config = parser.get()
    check_overrides({**config, **_grouped(config)}, {name for one in shipped for name in _names(one)})
    _read_truth_values(parser, shipped)
    with _output_folder(parser), private_umask(), _unwrapped():
        for position, step in enumerate(parser["steps"]):
            # What a step refers to is made first, as MONAI's handlers have log handlers of their own.
            for reference in ReferenceResolver.match_refs_pattern(step):
                parser.get_parsed_content(reference)
            with _told_once():
                parser.get_parsed_content(f"steps#{position}")


def _output_folder(parser: ConfigParser) -> AbstractContextManager[None]:
    """The folder that the steps write to, locked where the config names one."""
    if "output_dir" not in parser.get():
        return contextlib.nullcontext()
    return locked_folder(Path(parser.get_parsed_content("output_dir")))


def _read_configs(folder: Path) -> list[dict[str, Any]]:
    """The configs of a bundle, among whatever else lies in their folder."""
    configs = []
    for file in sorted(folder.iterdir()):
        if file.suffix[1:] in ConfigParser.suffixes and file.stem != "metadata":
            with contextlib.suppress(Exception):  # of files that are none, in another program's JSON or YAML
                configs.append(dict(ConfigParser.load_config_file(str(file))))
    return configs


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    """The ids that a config gives: of its first level, and of what MONAI groups, such as ``train#trainer``."""
    for name in [*config, *_grouped(config)]:
        first, *rest = name.split("#")
        yield first
        yield "#".join([first, *rest[:1]])


def _grouped(config: Mapping[str, Any]) -> dict[str, Any]:
    """What lies in groups of components, by id."""
    return {
        f"{group}#{name}": value
        for group, values in config.items()
        if isinstance(values, Mapping) and "_target_" not in values and group != ConfigParser.meta_key
        if any(isinstance(value, Mapping) and "_target_" in value for value in values.values())
        for name, value in values.items()
    }


def _read_truth_values(parser: ConfigParser, shipped: Sequence[Mapping[str, Any]]) -> None:
    """Read texts at ids whose values in the shipped configs are truth values: MONAI passes ``false`` as a text."""
    values: dict[str, set[type]] = {}
    for config in shipped:
        for name, value in _leaves(config):
            values.setdefault(name, set()).add(type(value))
    for name, types in values.items():
        text = parser.get(name)
        if bool not in types or not isinstance(text, str) or text.startswith(("$", "@", "%")):
            continue
        if text.lower() in ("true", "false"):
            parser[name] = text.lower() == "true"
        elif types == {bool}:
            raise unusable_option(name, text, "true or false")


def _leaves(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(config, (Mapping, list)):
        yield name, config
        return
    for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
        yield from _leaves(value, f"{name}#{key}" if name else str(key))


@contextmanager
def _nothing_left_switched() -> Iterator[None]:
    """A bundle seeds everything, switches off MONAI's metadata, sets up the log and adds to the path of imports."""
    tracked, path, disabled = get_track_meta(), list(sys.path), logging.root.manager.disable
    handlers, level = list(logging.root.handlers), logging.root.level
    # MONAI's engines have loggers of their own, which tell of every epoch whatever the file says.
    logging.disable(max(disabled, logging.INFO))
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        set_track_meta(tracked)
        set_determinism(None)
        sys.path[:] = path


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise what a step said that cannot use its input out of the errors that MONAI puts around it."""
    try:
        yield
    except RuntimeError as error:
        cause = _root_cause(error)
        if not isinstance(cause, UnusableInputError):
            raise
        raise UnusableInputError(str(cause)) from error


@contextmanager
def _told_once() -> Iterator[None]:
    """Log nothing of an error that ends in words: ignite and MONAI would, with all frames, and then raise it again."""

    def is_news(record: logging.LogRecord) -> bool:
        return not isinstance(_root_cause(sys.exc_info()[1]), (UnusableInputError, KeyboardInterrupt))

    named = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    handlers = {handler for logger in (logging.root, *named) for handler in logger.handlers}
    for handler in handlers:
        handler.addFilter(is_news)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_news)


def _root_cause(error: BaseException | None) -> BaseException | None:
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error
