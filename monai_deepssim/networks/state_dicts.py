"""State dicts from files, and how the names and shapes of one differ from those of a network."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "DamagedCheckpointError",
    "describe_difference",
    "existing_file",
    "is_torchscript",
    "load_fitting",
    "load_weights",
    "read_checkpoint",
    "read_state_dict",
    "shapes_of",
]

Network = TypeVar("Network", bound=nn.Module)

# Where trainers put the network's weights in a larger checkpoint; ours and MONAI's say "network".
# DINOv2, with which MRI-CORE was trained, "teacher".
_NETWORK_KEYS = ("network", "model", "state_dict", "model_state_dict", "teacher")
_KEYS_SHOWN = 5
# What torch's reader says of a pickle that calls something else than what tensors are made of.
_CALLED = re.compile(r"GLOBAL ([\w.]+)")


def existing_file(path: str | os.PathLike[str], what: str) -> Path:
    """Refuse a path where there is no file; ``what`` says in the error what it should be the path of."""
    path = Path(path)
    if not path.is_file():
        raise UnusableInputError(f"{path}: no such file; give the path of {what}")
    return path


def load_fitting(
    state: Mapping[str, Tensor], builders: Mapping[str, Callable[[], Network]]
) -> tuple[Network | None, str, str]:
    """Load weights into the network that has their names and shapes.

    Args:
        state: the weights.
        builders: what makes each network that they may be of, by its name.

    Returns:
        The network in eval mode, or ``None`` where they fit none; the name of the nearest; and how the weights differ
        from it, in words.

    Example:
        >>> builders = {name: lambda size=size: nn.Linear(size, 1) for name, size in (("small", 2), ("large", 9))}
        >>> network, name, _ = load_fitting(nn.Linear(9, 1).state_dict(), builders)
        >>> network, name
        (Linear(in_features=9, out_features=1, bias=True), 'large')
    """
    found = shapes_of(state)
    wanted = {}
    for name, build in builders.items():
        with torch.device("meta"):
            wanted[name] = shapes_of(build())
        if wanted[name] == found:
            network = build()
            network.load_state_dict(state)
            return network.eval(), name, ""
    nearest = min(wanted, key=lambda name: len(set(wanted[name].items()) ^ set(found.items())))
    return None, nearest, describe_difference(wanted[nearest], found)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a network's state dict, with ``weights_only=True``.

    Args:
        path: path of a state dict, or of a training checkpoint that holds one as ``network``, ``model``,
            ``state_dict``, ``model_state_dict`` or ``teacher``.

    Returns:
        Tensors by name, without the ``module.`` of a parallel training.

    Raises:
        UnusableInputError: when there is nothing of the kind in the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.pt"
        ...     torch.save({"network": nn.Linear(2, 1).state_dict(), "epoch": 3}, path)
        ...     list(read_state_dict(path))
        ['weight', 'bias']
    """
    checkpoint = read_checkpoint(path)
    for key in _NETWORK_KEYS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping) or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise UnusableInputError(
            f"{path}: holds {type(checkpoint).__name__}, want a state dict of tensors, as network.state_dict() gives"
        )
    if not checkpoint:
        raise UnusableInputError(f"{path}: holds no weights at all, want a state dict, as network.state_dict() gives")
    # DataParallel and DistributedDataParallel put this before every name.
    return {str(name).removeprefix("module."): value for name, value in checkpoint.items()}


class DamagedCheckpointError(UnusableInputError):
    """A checkpoint that is not as torch wrote it: a checksum in it is wrong."""


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read what ``torch.save`` wrote, with ``weights_only=True``: tensors and plain values, and no code.

    Args:
        path: path of the file.

    Returns:
        Its content, on the CPU.

    Raises:
        DamagedCheckpointError: when a checksum in the file is wrong.
        UnusableInputError: when the file is missing, damaged otherwise, none of torch's, or holds code.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "page.pt")
        >>> _ = path.write_text("<!DOCTYPE html>")
        >>> read_checkpoint(path)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: ...page.pt: not a checkpoint: it is a web page. Download the file...
    """
    path = existing_file(path, "a checkpoint")
    if is_torchscript(path):
        raise UnusableInputError(
            f"{path}: a TorchScript file, which is a program. Give a state dict, as torch.save writes it of "
            "network.state_dict()."
        )
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a file that is none of its own
        raise UnusableInputError(f"{path}: {_why_unreadable(path, error)}") from error


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a TorchScript archive, which holds code, unlike that of a state dict; nothing is loaded.

    Args:
        path: path of the file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "model.pt")
        >>> torch.jit.script(nn.Linear(2, 1)).save(path)
        >>> is_torchscript(path)
        True
    """
    names = [entry.filename for entry in _entries(path)] if Path(path).is_file() else []  # a pipe would wait for ever
    # The second is what torch.load goes by.
    return any("/code/" in name or name.endswith("/constants.pkl") for name in names)


def _entries(path: str | os.PathLike[str]) -> list[zipfile.ZipInfo]:
    """The records of an archive, by its directory alone; none of a file that is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RecursionError):
        return []


def _check_archive(path: Path) -> None:
    """Refuse an archive that needs more memory than its file has bytes, or whose checksums torch would not look at."""
    entries = _entries(path)
    if not entries:
        return
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > path.stat().st_size
    ):
        raise UnusableInputError(
            f"{path}: a compressed archive, which torch.save never writes, and which can fill the memory. Give the "
            "file as torch.save wrote it."
        )
    with zipfile.ZipFile(path) as archive, suppress(zipfile.BadZipFile):
        if archive.testzip() is None:
            return
    raise DamagedCheckpointError(f"{path}: a damaged checkpoint: a checksum in it is wrong. Download or copy it again.")


def _why_unreadable(path: Path, error: Exception) -> str:
    """What is wrong with a file that torch could not read, and what to do."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as problem:
        return f"cannot be read ({problem.strerror or problem}). Check its permissions."
    again = "Download or copy the file again."
    if not start:
        return f"not a checkpoint: it is empty. {again}"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"not a checkpoint: it is a web page. {again.replace('or copy ', '')}"
    if start.startswith(b"version https://git-lfs"):
        return "not a checkpoint: it is a pointer of Git LFS. Run git lfs pull."
    called = _CALLED.search(str(error))
    if called:
        return (
            f"not a checkpoint that can be loaded safely: it calls {called[1]}, and code of a checkpoint is never run. "
            "Save the network's state_dict() alone with torch.save."
        )
    if start.startswith(b"PK"):
        return f"a damaged checkpoint, or an archive of something else. {again}"
    return f"not a checkpoint, or a damaged one. Give a file that torch.save wrote of network.state_dict(), or: {again}"


def shapes_of(state: nn.Module | Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """List the shapes of a network's state or of a state dict.

    Args:
        state: either.

    Returns:
        Shapes by name.

    Example:
        >>> shapes_of(nn.Linear(2, 1))
        {'weight': (1, 2), 'bias': (1,)}
    """
    tensors = state.state_dict() if isinstance(state, nn.Module) else state
    return {name: tuple(value.shape) for name, value in tensors.items()}


def load_weights(network: nn.Module, state: Mapping[str, Tensor], path: object, kind: str, remedy: str) -> None:
    """Load a state dict strictly.

    Args:
        network: network that gets the weights.
        state: the weights.
        path: path of the file that they come from, for the message.
        kind: what the network is, in the words of an error.
        remedy: what to give in place of the file, for the message.

    Raises:
        UnusableInputError: when the names or shapes are others, naming them.

    Example:
        >>> load_weights(nn.Linear(2, 1), {}, "a.pt", "a linear layer", "Give another file.")
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: a.pt: these weights are not those of a linear layer: 2 missing keys:
        bias, weight. Give another file.
    """
    difference = describe_difference(shapes_of(network), shapes_of(state))
    if difference:
        raise UnusableInputError(f"{path}: these weights are not those of {kind}: {difference}. {remedy}")
    network.load_state_dict(state)


def describe_difference(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """Say in words how the weights of a file differ from those that a network has.

    Args:
        wanted: shapes of the network, by name.
        found: shapes in the file, by name.

    Returns:
        The numbers and first names of the missing keys, the unexpected ones and those of another shape; empty when
        there are none.

    Example:
        >>> describe_difference({"weight": (1, 2), "bias": (1,)}, {"weight": (3, 2), "scale": (1,)})
        '1 missing keys: bias; 1 unexpected keys: scale; 1 keys of another shape: weight (3, 2) instead of (1, 2)'
    """
    problems = {
        "missing keys": sorted(set(wanted) - set(found)),
        "unexpected keys": sorted(set(found) - set(wanted)),
        "keys of another shape": [
            f"{key} {found[key]} instead of {wanted[key]}"
            for key in sorted(set(found) & set(wanted))
            if found[key] != wanted[key]
        ],
    }
    return "; ".join(
        f"{len(keys)} {kind}: {', '.join(keys[:_KEYS_SHOWN])}{', ...' if len(keys) > _KEYS_SHOWN else ''}"
        for kind, keys in problems.items()
        if keys
    )
