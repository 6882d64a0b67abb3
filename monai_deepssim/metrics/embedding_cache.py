"""A file of embeddings that were computed before, found again by the content of their images."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, make_folder
from monai_deepssim.networks import DamagedCheckpointError, read_checkpoint
from monai_deepssim.stores import discard_damaged

__all__ = ["EmbeddingCache"]

# Raised when embeddings of the same images by the same weights change, by another standardisation for example.
# 2: the file has a checksum.
_CACHE_VERSION = 2
# The names and shapes of all that is stored take less than half of it.
_START_BYTES = 4096


class EmbeddingCache:
    """Embeddings of images in one file, each found by the SHA-256 of its image.

    So neither the order of the images nor their division among ranks matters, and of a training set that grew only the
    new images are embedded. The file names the embedder by a fingerprint of its layers and weights, and is refused
    when another one asks. It is read with ``weights_only=True``, and written whole or not at all. One in which a byte
    has changed is named on the terminal, and its embeddings are computed again.

    Args:
        path: path of the file; it need not exist the first time.
        embedder: what makes the embeddings.

    Raises:
        UnusableInputError: when the file is of another embedder, or is no such file.

    Example:
        >>> import tempfile
        >>> embedder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> images, folder = torch.rand(3, 1, 8, 8), tempfile.mkdtemp()
        >>> cache = EmbeddingCache(f"{folder}/embeddings.pt", embedder)
        >>> embeddings, digests = cache.embed(images, embedder)
        >>> cache.save(embeddings, digests)
        >>> again, _ = EmbeddingCache(f"{folder}/embeddings.pt", embedder).embed(images.flip(0), embed=None)
        >>> torch.equal(again, embeddings.flip(0))
        True
    """

    def __init__(self, path: str | os.PathLike[str], embedder: nn.Module) -> None:
        self.path = Path(path)
        self._fingerprint = _fingerprint_of(embedder)
        self._rows = self._read() if self.path.exists() else {}
        self._stored = frozenset(self._rows)

    def embed(self, images: Tensor, embed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Look up the embeddings of images, and compute those that are missing.

        Args:
            images: ``(B, ...)``.
            embed: makes ``(n, D)`` embeddings of ``(n, ...)`` images.

        Returns:
            ``(embeddings, digests)``: ``(B, D)``, and ``(B, 32)`` with the bytes of each image's SHA-256 as float32,
            the type in which ranks exchange items.
        """
        digests = [_digest_of(image) for image in images]
        missing = [position for position, digest in enumerate(digests) if digest not in self._rows]
        if missing:
            computed = embed(images[missing]).detach()
            self._rows.update(zip((digests[position] for position in missing), computed, strict=True))
        numbers = [torch.frombuffer(bytearray(digest), dtype=torch.uint8).float() for digest in digests]
        return torch.stack([self._rows[digest] for digest in digests]), torch.stack(numbers)

    def save(self, embeddings: Tensor, digests: Tensor) -> None:
        """Write the file anew, if there is anything that it does not hold yet.

        Args:
            embeddings: ``(M, D)``, of all ranks, for example.
            digests: ``(M, 32)``, of :meth:`embed`.

        Raises:
            UnusableInputError: when the file cannot be written.
        """
        keys = [row.to(torch.uint8).numpy().tobytes() for row in digests]
        rows = {**self._rows, **dict(zip(keys, embeddings, strict=True))}
        if self._stored.issuperset(rows):
            return
        stored = torch.stack([torch.frombuffer(bytearray(key), dtype=torch.uint8) for key in rows])
        values = torch.stack(list(rows.values()))
        content = {
            "version": _CACHE_VERSION,
            "embedder": self._fingerprint,
            "digests": stored,
            "embeddings": values,
            "sha256": _checksum(stored, values),
        }
        make_folder(self.path.parent)
        with atomic_file(self.path) as file:
            torch.save(content, file)
        self._stored = frozenset(rows)

    def _read(self) -> dict[bytes, Tensor]:
        try:
            content = read_checkpoint(self.path)
            version, embedder = content["version"], content["embedder"]
            digests, embeddings = content["digests"], content["embeddings"]
            checksum = content.get("sha256")
        except DamagedCheckpointError as error:
            if not _is_cache(self.path):
                raise
            discard_damaged(self.path, error)
            return {}
        # torch.load fails in many ways, depending on what the file is.
        except Exception as error:
            raise UnusableInputError(
                f"{self.path}: not a file of cached embeddings, or a damaged one ({type(error).__name__}). Give "
                "another cache_path, or remove the file."
            ) from error
        if (version, embedder) != (_CACHE_VERSION, self._fingerprint):
            raise UnusableInputError(
                f"{self.path}: holds the embeddings of another embedder. Give a cache_path for each embedder, or "
                "remove the file."
            )
        if checksum != _checksum(digests, embeddings):
            discard_damaged(self.path, "its checksum does not fit")
            return {}
        return dict(zip((row.numpy().tobytes() for row in digests), embeddings, strict=True))


def _is_cache(path: Path) -> bool:
    """Whether a damaged file is one of cached embeddings, which may be removed, and not somebody's weights.

    The names of its entries stand in the first record of the archive; the rest of the file is not read again.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    return all(name.encode() in start for name in ("version", "embedder", "digests", "embeddings"))


def _checksum(digests: Tensor, embeddings: Tensor) -> str:
    form = f"{embeddings.dtype} {tuple(embeddings.shape)}".encode()
    values = embeddings.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(form + digests.cpu().numpy().tobytes() + values).hexdigest()


def _digest_of(image: Tensor) -> bytes:
    plain = convert_to_tensor(image, dtype=torch.float32, track_meta=False, device="cpu")
    return hashlib.sha256(str(tuple(plain.shape)).encode() + plain.contiguous().numpy().tobytes()).digest()


def _fingerprint_of(embedder: nn.Module) -> str:
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(embedder))  # without the memory addresses of functions
    digest = hashlib.sha256(f"{type(embedder).__module__} {layers}".encode())
    state: dict[str, Any] = embedder.state_dict()
    for name, value in state.items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
