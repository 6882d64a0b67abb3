"""What MONAI's ``run`` does to overrides, undone: names that mean nothing, and values that parsing has changed.

MONAI accepts any override and parses its value: ``--sythetic_dir x`` is ignored without a word, a folder named ``1e5``
arrives as the number 100000.0, ``out,1`` as a tuple, ``data#1`` as ``data``. An audit that ran on the wrong folder, or
on the demo because a name was wrong, would let a release pipeline pass.

One mistake is out of reach: an id of several parts that leads nowhere (``--audits#top_k 5``) is refused by MONAI's
parser when it merges overrides, before anything of this package is imported. It ends with MONAI's traceback and status
1, so that no pipeline passes on it either.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fire.parser import DefaultParseValue, SeparateFlagArgs
from monai.bundle import ConfigWorkflow
from monai.bundle.reference_resolver import ReferenceResolver

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.options import unknown_option

__all__ = [
    "as_typed",
    "check_overrides",
    "command_line_texts",
    "refuse_evaluated",
    "refuse_none",
    "running_config",
    "running_workflow",
]

# What MONAI evaluates begins with one of these: an expression, a reference, a macro.
_EVALUATED = ("$", "@", "%")

# What Python Fire takes for a flag: a negative number is none.
_FLAG = re.compile(r"--|-[a-zA-Z]")

# The ids that MONAI itself reads or writes, whatever the bundle: they are no options of ours, and no mistakes.
_MONAI_IDS = {"_meta_", "imports", "bundle_root", "run", "initialize", "finalize", "save_execute_config"}


def running_workflow() -> ConfigWorkflow | None:
    """Find the MONAI workflow that is calling us.

    A config's expressions have no way to name the config that holds them, so this looks for the workflow on the call
    stack. There, unlike in ``sys.argv``, overrides of every origin are found: the command line in all its spellings,
    ``--args_file``, further config files, and Python.

    Returns:
        The workflow, or ``None`` when no bundle is being run.

    Example:
        >>> running_workflow() is None
        True
    """
    frame = sys._getframe()
    while frame is not None:
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            return workflow
        frame = frame.f_back  # type: ignore[assignment]
    return None


def running_config() -> dict[str, Any] | None:
    """The merged config of :func:`running_workflow`, overrides included; ``None`` when no bundle is being run."""
    workflow = running_workflow()
    return None if workflow is None else dict(workflow.parser.get())


def check_overrides(config: Mapping[str, Any], options: Iterable[str]) -> None:
    """Refuse a config with an id that nothing reads: it is a mistyped override.

    Args:
        config: the merged config of the workflow.
        options: the names that the audit takes.

    Raises:
        UnusableInputError: naming the id, and the nearest valid one.

    Example:
        >>> config = {"training_dir": "a", "sythetic_dir": "b", "audit": {"training_dir": "@training_dir"}}
        >>> check_overrides(config, ["training_dir", "synthetic_dir"])
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: --sythetic_dir: there is no such option. Did you mean --synthetic_dir?
    """
    options = list(options)
    read = {id_ for text in _texts(config) for reference in _references(text) for id_ in _and_parents(reference)}
    for name, value in config.items():
        # What is made of other ids (MONAI's network_def, dataset, ...) is there for other programs to read.
        derived = any(_references(text) for text in _texts(value))
        if name in options or name in read or name in _MONAI_IDS or derived:
            continue
        raise unknown_option(name, options)


def command_line_texts(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Read the overrides of a ``monai.bundle run`` command line as they were typed.

    Args:
        arguments: the command line after the program's name; of this process by default.

    Returns:
        Text by name, for ``--name text`` and ``--name=text``, the last one winning, as in Python Fire. A name without
        a value is left out.

    Example:
        >>> command_line_texts(["run", "--training_dir", "1e5", "--synthetic-dir=out,1", "--overwrite"])
        {'training_dir': '1e5', 'synthetic_dir': 'out,1'}
    """
    found: dict[str, str] = {}
    arguments, _ = SeparateFlagArgs(list(sys.argv[1:] if arguments is None else arguments))
    for position, argument in enumerate(arguments):
        if not _FLAG.match(argument):
            continue
        name, has_value, text = argument.lstrip("-").partition("=")
        name = ReferenceResolver.normalize_id(name.replace("-", "_")).split("::")[-1]
        following = arguments[position + 1] if position + 1 < len(arguments) else "--"
        if has_value:
            found[name] = text
        elif not _FLAG.match(following):
            found[name] = following
    return found


def as_typed(values: Mapping[str, Any], typed: Mapping[str, str], option_fields: Sequence[Any]) -> dict[str, Any]:
    """Give options that are texts (a folder, a file, a pattern) as the user typed them.

    Args:
        values: what arrived after parsing, by name.
        typed: what was typed (:func:`command_line_texts`), by name.
        option_fields: fields of the options.

    Returns:
        The values; a text that parsing changed is as it was.

    Example:
        >>> from monai_deepssim.audit.options import AuditOptions
        >>> from monai_deepssim.options import option_fields
        >>> as_typed({"training_dir": 100000.0}, {"training_dir": "1e5"}, option_fields(AuditOptions))
        {'training_dir': '1e5'}
    """
    result = dict(values)
    for entry in option_fields:
        typed_text = typed.get(entry.name)
        if typed_text is None or not entry.metadata["check"].is_text:
            continue
        if _parses_to(typed_text, values.get(entry.name)):
            result[entry.name] = _unquoted(typed_text)
    return result


def refuse_evaluated(typed: Mapping[str, str], option_fields: Sequence[Any]) -> None:
    """Refuse a typed name that MONAI evaluates, for a name is a name.

    Args:
        typed: what was typed (:func:`command_line_texts`), by name.
        option_fields: fields of the options.

    Raises:
        UnusableInputError: naming the option.
    """
    for entry in option_fields:
        name = _unquoted(typed.get(entry.name, ""))
        if entry.metadata["check"].is_text and name.startswith(_EVALUATED):
            raise UnusableInputError(
                f"--{entry.name}: is {name!r}, and MONAI evaluates what begins with $, @ or %. Write ./{name}, or use "
                "the command monai-deepssim, which takes names literally."
            )


def refuse_none(typed: Mapping[str, str], options: Iterable[str]) -> None:
    """Refuse ``--option None``, which MONAI drops: a pipeline whose variable was empty would audit something else."""
    for name in options:
        if name in typed and DefaultParseValue(typed[name]) is None:
            raise UnusableInputError(f"--{name}: None is not a value. Give a value, or leave the option out.")


def _parses_to(text: str, value: Any) -> bool:
    """Whether MONAI's command line makes this value of this text."""
    parsed = DefaultParseValue(text)
    if isinstance(parsed, str):
        parsed = ReferenceResolver.normalize_id(parsed)
    return type(parsed) is type(value) and parsed == value


def _unquoted(text: str) -> str:
    """The text without quotes that were typed for the parser, as in ``'"1e5"'``."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return str(ast.literal_eval(text))
        except (SyntaxError, ValueError):
            return text
    return text


def _texts(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _texts(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _texts(value)


def _and_parents(reference: str) -> list[str]:
    """An id and those of the groups that hold it: ``train``, ``train#images`` of ``train::images``."""
    parts = reference.split("::")
    return ["#".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _references(text: str) -> list[str]:
    return list(ReferenceResolver.match_refs_pattern(text))
