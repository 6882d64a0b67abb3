"""The steps of a bundle's config: overrides checked before the first, an end in words and with a status after the last.

MONAI takes any override (a mistyped one changes nothing), passes ``--amp false`` as a text, which counts as true, and
wraps what goes wrong in errors of its own. A config names its steps ``steps``, and its ``run`` is ``$run_steps()``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.reference_resolver import ReferenceResolver

from monai_deepssim.audit.exit_status import errors_in_words
from monai_deepssim.audit.overrides import check_overrides, running_workflow
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.options import unusable_option

__all__ = ["perform_steps", "run_steps"]


def run_steps() -> None:
    """Perform the steps of the config whose ``run`` this is.

    Raises:
        SystemExit: with status 2 for an override or an input that cannot be used, and 130 when interrupted.
    """
    workflow = running_workflow()
    assert workflow is not None, "only the config of a bundle calls this"
    with errors_in_words(Path(workflow.config_root_path).resolve().parent.name):
        perform_steps(workflow)


def perform_steps(workflow: ConfigWorkflow) -> None:
    """Check the overrides of a MONAI workflow, and perform the ``steps`` of its config one after the other.

    What is checked against are the configs that lie beside its first one, together, as one file of settings may serve
    several of them: an id that none of them has and nothing reads is refused, and where all of them have a truth value,
    one is wanted.

    Args:
        workflow: initialized.

    Raises:
        UnusableInputError: naming the override that cannot be used, or what a step said that cannot use its input.
    """
    parser = workflow.parser
    files = sorted(Path(workflow.config_root_path).glob("*.json"))
    shipped = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.name != "metadata.json"]
    config = parser.get()
    check_overrides({**config, **_grouped(config)}, {name for one in shipped for name in _names(one)})
    _read_truth_values(parser, shipped)
    with _unwrapped():
        for position, step in enumerate(parser["steps"]):
            # What a step refers to is made first, as MONAI's handlers have log handlers of their own.
            for reference in ReferenceResolver.match_refs_pattern(step):
                parser.get_parsed_content(reference)
            with _told_once():
                parser.get_parsed_content(f"steps#{position}")


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


def _read_truth_values(parser: ConfigParser, shipped: list[Mapping[str, Any]]) -> None:
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
