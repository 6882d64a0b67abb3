"""Files in the place of a checkpoint: each reader says in one line what is wrong, and no code of a file runs."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refusal_of
from torch import nn

from monai_deepssim import load_embedder
from monai_deepssim.generators import load_generator, load_sampling_features, read_vectors
from monai_deepssim.metrics import MemorizationMetric, make_detector
from monai_deepssim.networks import (
    AutoencoderWeights,
    DeepSSIMEmbedder,
    MRICoreEncoder,
    TorchScriptEmbedder,
    load_copy_detector,
    load_deepssim,
    read_checkpoint,
    read_state_dict,
)
from monai_deepssim.stores import ArrayStore

RAN = "code of the file ran"


class Attack:
    """Unpickled, it would leave a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


def archive_with(path, **changes):
    """The archive that torch.save writes, with other options of its records."""
    torch.save({"weight": torch.zeros(64, 64)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **changes) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def bomb(path):
    archive_with(path, compression=zipfile.ZIP_DEFLATED)


def cut(share):
    def write(path):
        torch.save({"weight": torch.rand(64, 64)}, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write


def flipped(path):
    torch.save({"weight": torch.rand(64, 64)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :: 97] = bytes(len(content[len(content) // 2 :: 97]))
    path.write_bytes(content)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 34)  # 16 GB that take no space


def module(path):
    torch.save(nn.Linear(2, 2), path)


def legacy_attack(path):
    torch.save({"network": Attack(RAN)}, path, _use_new_zipfile_serialization=False)


FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"\x80"),
    "text": lambda path: path.write_text("weights"),
    "web page": lambda path: path.write_text("<!DOCTYPE html><title>Sign in</title>"),
    "pointer of Git LFS": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "16 GB of nothing": sparse,
    "another archive": lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"),
    "empty archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "compressed archive": bomb,
    "half": cut(0.5),
    "nearly whole": cut(0.98),
    "flipped bits": flipped,
    "code": lambda path: torch.save({"network": Attack(RAN)}, path),
    "code in an old file": legacy_attack,
    "whole module": module,
    "TorchScript": lambda path: torch.jit.script(nn.Linear(2, 2)).save(path),
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "missing": lambda path: None,
    "other weights": lambda path: torch.save(nn.Linear(2, 2).state_dict(), path),
    "no weights": lambda path: torch.save({}, path),
    "a number": lambda path: torch.save(7, path),
    "a list": lambda path: torch.save([torch.zeros(2)], path),
    "nested": lambda path: torch.save({"network": {"a": {"b": torch.zeros(2)}}}, path),
    "names that are numbers": lambda path: torch.save({1: torch.zeros(2)}, path),
    "weights that are numbers": lambda path: torch.save({"weight": 1.0}, path),
}
READERS = {
    "read_checkpoint": read_checkpoint,
    "read_state_dict": read_state_dict,
    "load_deepssim": load_deepssim,
    "load_embedder": load_embedder,
    "load_copy_detector": load_copy_detector,
    "MRICoreEncoder": lambda path: MRICoreEncoder(64, path),
    "AutoencoderWeights": AutoencoderWeights,
    "load_generator": load_generator,
    "read_vectors": read_vectors,
    "cached embeddings": lambda path: MemorizationMetric(nn.Flatten()).fit([torch.rand(2, 1, 64, 64)], cache_path=path),
    "TorchScriptEmbedder": TorchScriptEmbedder,
    "deepssim": lambda path: make_detector("deepssim", path),
    "memorization_index": lambda path: make_detector("memorization_index", path),
    "copy_detector": lambda path: make_detector("copy_detector", path),
    "torchscript": lambda path: make_detector("torchscript", path),
    "features of FID": lambda path: load_sampling_features(str(path), nn.Identity(), (64, 64)),
}
# What some of them take: weights of any network, values that are none, vectors by name; a cache that is not there yet.
TAKEN = {
    "read_checkpoint": ("other weights", "no weights", "a number", "a list", "nested", "names that are numbers"),
    "read_state_dict": ("other weights", "names that are numbers"),
    "read_vectors": ("names that are numbers", "weights that are numbers"),
    "cached embeddings": ("missing",),
}
TAKEN["read_checkpoint"] += ("weights that are numbers",)


# These compare weights with those of every backbone, through load_deepssim, which is in the table itself.
AGAIN = ("load_embedder", "deepssim", "memorization_index")


def rows():
    """Every file in the place of every reader's checkpoint."""
    for reader in READERS:
        for what in FILES:
            is_slow = reader in AGAIN and what in ("other weights", "names that are numbers")
            yield pytest.param(what, reader, marks=pytest.mark.sweep if is_slow else (), id=f"{reader}-{what}")


@pytest.mark.parametrize(("what", "reader"), list(rows()))
def test_a_file_that_is_no_checkpoint_is_named_and_never_run(tmp_path, monkeypatch, what, reader):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    FILES[what](path)
    message = refusal_of(READERS[reader], path)
    assert not Path(RAN).exists()
    if what in TAKEN.get(reader, ()):
        assert message is None
    else:
        assert message is not None
        assert "model.pt" in message
        assert len(message) < 1000


def test_files_that_hold_code_are_told_from_damaged_ones(tmp_path):
    words = {"code": "mkdir, and code of a checkpoint is never run", "half": "damaged", "empty": "is empty"}
    for what, said in words.items():
        FILES[what](tmp_path / what)
        assert said in refusal_of(read_checkpoint, tmp_path / what)


@pytest.mark.parametrize("what", ["empty", "text", "zeros", "random", "half", "code", "folder"])
def test_a_store_of_arrays_that_is_damaged_is_made_anew(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    FILES[what](tmp_path / "cell.npz")
    assert ArrayStore(tmp_path).load("cell", "key") is None
    assert not Path(RAN).exists()


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
@pytest.mark.parametrize("what", ["empty", "text", "code", "TorchScript", "other weights", "missing"])
def test_weights_of_a_backbone_are_refused_in_words(tmp_path, name, what):
    FILES[what](tmp_path / "model.pt")
    assert "model.pt" in refusal_of(DeepSSIMEmbedder, backbone=name, pretrained=tmp_path / "model.pt")
