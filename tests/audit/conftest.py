"""Real slices of a brain, and an embedder that tells them apart without having been trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import nilearn
import numpy as np
import pytest
import torch
from audit_files import IMAGE_SIZE, write_png

from monai_deepssim.audit import Audit
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.networks import DeepSSIMEmbedder
from monai_deepssim.similarity import standardize


@pytest.fixture(scope="session")
def volume() -> np.ndarray:
    """The ICBM152 T1 template, in RAS order, 8 bit."""
    path = Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    voxels = np.asarray(nib.load(path).dataobj)
    return np.round(voxels / voxels.max() * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def axial(volume: np.ndarray) -> Callable[[int], np.ndarray]:
    """An axial slice of it as a radiologist sees it: front up, the patient's right on the left."""
    return lambda level: volume[::-1, ::-1, level].T


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, axial: Callable[[int], np.ndarray]) -> Path:
    """An embedder with random weights, whose BatchNorm knows real slices: their embeddings then differ."""
    torch.manual_seed(0)
    network = DeepSSIMEmbedder(backbone="convnext_atto", embedding_dim=32, dropout=0.0)
    slices = torch.stack([torch.from_numpy(axial(level).copy()) for level in range(50, 130, 2)])[:, None].float()
    images = torch.nn.functional.interpolate(slices, IMAGE_SIZE)
    normalization = network.fc[2]
    normalization.momentum = None
    with torch.no_grad():
        network.train()(standardize(images))
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def folders(tmp_path: Path, axial: Callable[[int], np.ndarray]) -> Path:
    """``training/`` with ten slices of three patients, ``synthetic/`` with two copies of them and two other slices."""
    for number, level in enumerate(range(50, 100, 5)):
        write_png(tmp_path / "training" / f"sub-{number % 3}_z{level}.png", axial(level))
    write_png(tmp_path / "synthetic" / "copy-of-60.png", axial(60))
    write_png(tmp_path / "synthetic" / "copy-of-75.png", axial(75))
    write_png(tmp_path / "synthetic" / "other-120.png", axial(120))
    write_png(tmp_path / "synthetic" / "other-130.png", axial(130))
    return tmp_path


@pytest.fixture
def audit(folders: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AuditResult]:
    """Run an audit of ``folders``, in which it also is, with options of the test's own."""
    monkeypatch.chdir(folders)

    def run(**options: Any) -> AuditResult:
        defaults = {
            "training_dir": "training",
            "synthetic_dir": "synthetic",
            "output_dir": "out",
            "checkpoint": str(checkpoint),
            "image_size": IMAGE_SIZE,
            "device": "cpu",
            # Of one subject: neighbouring slices are alike, but only a copy is identical.
            "thresholds": [0.9, 0.999],
            "controls": None,
        }
        return Audit(**{**defaults, **options}).run()

    return run
