"""An option, written once: a dataclass field with its default, what it takes and what it means.

The function, the command and its help, the bundle's ids and the tables of the docs follow from these fields.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import Check

__all__ = [
    "option",
    "option_fields",
    "option_names",
    "options_as_json",
    "options_signature",
    "read_options",
    "unknown_option",
]

Options = TypeVar("Options")


def option(default: Any, check: Check, meaning: str, group: str) -> Any:
    """Declare an option as the field of a dataclass.

    Args:
        default: what it is where it is not given; checked like any other value.
        check: what it takes.
        meaning: what the option does, for ``--help`` and the docs.
        group: the heading under which it is listed.

    Example:
        >>> from dataclasses import dataclass
        >>> from monai_deepssim.option_checks import whole
        >>> @dataclass(frozen=True)
        ... class ExampleOptions:
        ...     top_k: int = option(10, whole(1), "Candidates that are compared.", "Search")
        >>> read_options(ExampleOptions, {"top_k": 5})
        ExampleOptions(top_k=5)
    """
    return field(default=default, metadata={"check": check, "meaning": meaning, "group": group})


def option_fields(kind: type) -> list[Any]:
    """List the fields of a dataclass that are options, in their order."""
    return [entry for entry in fields(kind) if "check" in entry.metadata]


def option_names(kind: type) -> list[str]:
    """Name the options of a dataclass, in their order."""
    return [entry.name for entry in option_fields(kind)]


def options_signature(kind: type, further: Sequence[inspect.Parameter] = ()) -> inspect.Signature:
    """Make the signature of a function that takes these options by name."""
    own = [
        inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=entry.default)
        for entry in option_fields(kind)
    ]
    return inspect.Signature([*own, *further])


def read_options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Check the values of options.

    Args:
        kind: their dataclass.
        values: what arrived, by name; what is missing has its default.

    Returns:
        The options.

    Raises:
        UnusableInputError: naming the option, what arrived and what is wanted.
    """
    arrived = {entry.name: values.get(entry.name, entry.default) for entry in option_fields(kind)}
    # Arrays and tensors are lists of numbers here.
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in arrived.items()}
    return kind(
        **{entry.name: entry.metadata["check"].read(entry.name, plain[entry.name]) for entry in option_fields(kind)}
    )


def options_as_json(options: Any) -> dict[str, Any]:
    """Make plain values of options, by name: paths and devices are texts, tuples lists.

    Example:
        >>> from dataclasses import dataclass
        >>> from pathlib import Path
        >>> from monai_deepssim.option_checks import path
        >>> @dataclass(frozen=True)
        ... class ExampleOptions:
        ...     output_dir: Path = option(Path("audit"), path("folder"), "Folder of the results.", "Output")
        >>> options_as_json(ExampleOptions())
        {'output_dir': 'audit'}
    """
    return {entry.name: _plain(getattr(options, entry.name)) for entry in option_fields(type(options))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def unknown_option(name: str, options: Sequence[str]) -> UnusableInputError:
    """The error for an option that does not exist, with the nearest one that does."""
    nearest = [match for text in (name, name.split("#")[-1]) for match in difflib.get_close_matches(text, options, n=1)]
    remedy = f"Did you mean --{nearest[0]}?" if nearest else f"The options are: {', '.join(options)}."
    return UnusableInputError(f"--{name}: there is no such option. {remedy}")
