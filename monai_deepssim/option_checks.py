"""What options take: each check reads what arrived, or says what is wanted."""

from __future__ import annotations

import difflib
import errno
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "Check",
    "Names",
    "anything",
    "is_list",
    "named_values",
    "number",
    "one_of",
    "path",
    "paths",
    "read_names",
    "several_of",
    "share",
    "text",
    "torch_device",
    "unusable_option",
    "whole",
    "yes_or_no",
]

#: Names, or a function that knows them once they are asked for.
Names = Iterable[str] | Callable[[], Iterable[str]]

_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Check:
    """What an option takes.

    Attributes:
        read: returns the value of an option, given its name and what arrived, or raises ``UnusableInputError``.
        kind: what it takes, in the words of ``--help``.
        is_text: whether it is a name, which is taken as it was typed.
    """

    read: Callable[[str, Any], Any]
    kind: str
    is_text: bool = False


def unusable_option(name: str, value: Any, wanted: str) -> UnusableInputError:
    """The error for an option that cannot be used.

    Example:
        >>> unusable_option("seed", -1, "a whole number of at least 0")
        UnusableInputError('--seed: is -1, wanted a whole number of at least 0.')
    """
    try:
        shown = repr(value)
    except (RecursionError, ValueError):  # Python writes no integer of 5,000 digits
        shown = f"a {type(value).__name__} that cannot be shown"
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    return UnusableInputError(f"--{name}: is {shown}, wanted {wanted}.")


def whole(low: int, high: int | None = None, *, or_none: bool = False) -> Check:
    """Take a whole number from ``low`` on.

    Example:
        >>> whole(1).read("top_k", 3), whole(1, or_none=True).read("controls", "none")
        (3, None)
    """
    wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    wanted += ", or none" if or_none else ""

    def read(name: str, value: Any) -> int | None:
        if or_none and (value is None or str(value).lower() == "none"):
            return None
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole or value < low or (high is not None and value > high):
            raise unusable_option(name, value, wanted)
        return int(value)

    return Check(read, (f"{low} or more" if high is None else f"{low} to {high}") + (", or none" if or_none else ""))


def number(low: float, wanted: str, *, or_none: bool = False) -> Check:
    """Take a finite number from ``low`` on; ``wanted`` says which in the words of an error."""

    def read(name: str, value: Any) -> float | None:
        if or_none and (value is None or str(value).lower() == "none"):
            return None
        if not _is_number(value) or value < low:
            raise unusable_option(name, value, wanted)
        return float(value)

    return Check(read, f"{low:g} or more" + (", or none" if or_none else ""))


def share(example: float, *, ends: bool = False, or_none: bool = False) -> Check:
    """Take a share between 0 and 1, with both ends or without.

    Example:
        >>> share(0.01, ends=True).read("max_copy_fraction", 0)
        0.0
    """
    wanted = f"a share {'from 0 to 1' if ends else 'between 0 and 1'}, such as {example:g}"

    def read(name: str, value: Any) -> float | None:
        if or_none and value is None:
            return None
        if not _is_number(value) or not (0 <= value <= 1 if ends else 0 < value < 1):
            raise unusable_option(name, value, wanted)
        return float(value)

    return Check(read, "0 to 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _read_yes_or_no(name: str, value: Any) -> bool:
    # "--overwrite true" arrives as the text "true", "--overwrite True" and "--overwrite" alone as True.
    word = str(value).lower()
    if word not in ("true", "false"):
        raise unusable_option(name, value, "true or false")
    return word == "true"


#: Take a choice, as a truth value or as its text.
yes_or_no = Check(_read_yes_or_no, "true or false")


def _read_text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, PathLike):
        value = fspath(value)
    if isinstance(value, bool):
        raise UnusableInputError(f"--{name}: was given without a value. Write the value after it.")
    if isinstance(value, Integral):
        return str(value)
    if not isinstance(value, str):
        raise UnusableInputError(
            f"--{name}: arrived as {value!r}, which is not a text, and cannot be turned back into what was written. "
            f"""Write it in quotes twice, as in --{name} '"1e5"', or in quotes in a config file."""
        )
    if not value.strip():
        raise UnusableInputError(f"--{name}: is empty. Give a value, or leave the option out.")
    return value


def _read_path(name: str, value: Any) -> Path | None:
    found = _read_text(name, value)
    return None if found is None else _as_path(name, found)


def _as_path(name: str, text: str) -> Path:
    """The path that a text names; whether anything is there does not matter."""
    try:
        found = Path(text).expanduser()
        os.lstat(found)
    except RuntimeError as error:  # ~somebody
        raise UnusableInputError(f"--{name}: {text!r} names the home of a user who is not known here.") from error
    except ValueError as error:
        raise UnusableInputError(f"--{name}: holds a null character, which no name of a file has.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UnusableInputError(f"--{name}: {text[:_LONGEST_SHOWN]!r}... is longer than a name can be.") from error
    return found


#: Take a text, or nothing.
text = Check(_read_text, "text", is_text=True)


def path(kind: str = "path", missing: str | None = None) -> Check:
    """Take a path, or nothing.

    Args:
        kind: what it is of, in the words of ``--help``.
        missing: what to give, in an error, where no file is there; by default it need not exist yet.

    Example:
        >>> path().read("output_dir", "audit")
        PosixPath('audit')
    """

    def read(name: str, value: Any) -> Path | None:
        found = _read_path(name, value)
        if found is not None and missing is not None and not found.is_file():
            raise UnusableInputError(f"--{name}: {found} is not a file. Give {missing}.")
        return found

    return Check(read, kind, is_text=True)


def paths(missing: str) -> Check:
    """Take the path of a file that exists, or a list of them; ``missing`` says what to give in an error."""

    def read(name: str, value: Any) -> tuple[Path, ...]:
        given = [value] if isinstance(value, (str, PathLike)) else value
        if not is_list(given) or not all(isinstance(entry, (str, PathLike)) for entry in given):
            raise unusable_option(name, value, f"{missing}, or a list of them")
        files = tuple(_as_path(name, fspath(entry)) for entry in given)
        for file in files:
            if not file.is_file():
                raise UnusableInputError(f"--{name}: {file} is not a file. Give {missing}.")
        return files

    return Check(read, "files")


def is_list(value: Any) -> bool:
    """Whether a value is a list of any kind, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def read_names(names: Names) -> list[str]:
    """The names as a list, those of a function that knows them, too."""
    return list(names() if callable(names) else names)


def one_of(names: Names, or_none: bool = False) -> Check:
    """Take one of some names.

    Example:
        >>> one_of(["copy", "symlink"]).read("files", "symlink")
        'symlink'
    """

    def read(name: str, value: Any) -> str | None:
        known = read_names(names)
        if value is None and or_none:
            return None
        word = str(value).lower() if value is None or isinstance(value, bool) else value
        if word not in known:
            nearest = difflib.get_close_matches(str(word), known, n=1)
            remedy = f" (did you mean {nearest[0]}?)" if nearest else ""
            raise unusable_option(name, value, f"one of {', '.join(known)}{remedy}")
        return str(word)

    return Check(read, "name" if callable(names) else ", ".join(read_names(names)))


def several_of(names: Names, kind: str = "names") -> Check:
    """Take names, one or several, in a list or parted by commas; they come back in the order of ``names``.

    Example:
        >>> several_of(["mse", "ssim"]).read("only", "ssim, mse")
        ('mse', 'ssim')
    """

    def read(name: str, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        given = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
        given = list(given) if isinstance(given, Sequence) else [given]
        known = read_names(names)
        for entry in given:
            if entry not in known:
                raise UnusableInputError(f"--{name}: {entry!r} is unknown. The names are: {', '.join(known)}.")
        return tuple(entry for entry in known if entry in given)

    return Check(read, kind)


def _read_named_values(name: str, value: Any) -> dict[str, Any]:
    """Read values by name.

    Example:
        >>> named_values.read("detector_options", "hash_size=16, layers=[a,b], null_jitter=true")
        {'hash_size': 16, 'layers': ['a', 'b'], 'null_jitter': True}
    """
    if value is None:
        return {}
    if isinstance(value, str):
        parts = re.split(r",(?=\s*\w+\s*=)", value.strip())
        if not all("=" in part for part in parts):
            raise unusable_option(name, value, "values by name, such as hash_size=16,layers=[blocks.3,blocks.7]")
        value = dict(part.split("=", 1) for part in parts)
        try:
            value = {key.strip(): _plain_value(text) for key, text in value.items()}
        except RecursionError as error:
            raise unusable_option(name, value, "lists that are not nested, such as layers=[a,b]") from error
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise unusable_option(name, value, "values by name, such as {'hash_size': 16}")
    return dict(value)


def _plain_value(text: str) -> Any:
    """The number, truth value, nothing, list or text that was written."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_plain_value(entry) for entry in text[1:-1].split(",") if entry.strip()]
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("'\"")


#: Take values by name: a mapping, or a text such as ``hash_size=16,layers=[blocks.3,blocks.7]``.
named_values = Check(_read_named_values, "name=value, ...")


def _read_device(name: str, value: Any) -> Any:
    import torch  # not before somebody asks: listing options should not take seconds

    if value is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(value if isinstance(value, torch.device) else str(_read_text(name, value)))
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UnusableInputError(
            f"--{name}: {value!r} cannot be used here ({reason}). Give cpu, or leave the option out."
        ) from error
    return found


#: Take a device that is there; by default a GPU if there is one.
torch_device = Check(_read_device, "such as cpu, cuda:0", is_text=True)


def anything(kind: str) -> Check:
    """Take what a later step checks."""
    return Check(lambda name, value: value, kind)
