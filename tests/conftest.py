"""Real slices and a phantom cohort that the tests of all rooms share."""

import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: processes that each take all cores are slower than one after the other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import AutoencoderKL
from nilearn import datasets

from monai_deepssim.calibration import Discoveries
from monai_deepssim.data import PhantomBrainDataset


@pytest.fixture(scope="session")
def icbm152_t1():
    """The T1 template of ICBM152 that nilearn ships, skull-stripped, 1 mm, as a NIfTI image."""
    return nibabel.as_closest_canonical(datasets.load_mni152_template(resolution=1))


@pytest.fixture(scope="session")
def icbm152_slices(icbm152_t1):
    """Axial slices of ICBM152, ``(60, 1, 136, 112)`` in [0, 1], every other millimetre, front at the top."""
    volume = icbm152_t1.get_fdata(dtype=np.float32)
    middle = [side // 2 for side in volume.shape]
    rows = slice(middle[1] - 112, middle[1] + 112)
    columns = slice(middle[0] - 92, middle[0] + 92)
    slices = [np.rot90(volume[columns, rows, z]) for z in range(middle[2] - 50, middle[2] + 70, 2)]
    images = torch.from_numpy(np.stack(slices).copy())[:, None]
    images = torch.nn.functional.interpolate(images, size=(136, 112), mode="bilinear", antialias=True)
    return images / images.amax((1, 2, 3), keepdim=True)


@pytest.fixture(scope="session")
def phantoms():
    """Twelve phantom slices ``(12, 1, 136, 112)`` in [0, 1]."""
    cohort = PhantomBrainDataset(num_subjects=12, seed=11, progress=False)
    return torch.stack([item["image"].as_tensor() for item in cohort])


@pytest.fixture(scope="session")
def small_autoencoder(tmp_path_factory, phantoms):
    """Checkpoint of an autoencoder of two levels and groups of four channels, trained a little on phantoms."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        2,
        channels=(8, 8),
        num_res_blocks=1,
        attention_levels=(False, False),
        latent_channels=4,
        norm_num_groups=2,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    images = torch.nn.functional.interpolate(phantoms[:2], (32, 28), mode="bilinear", antialias=True)
    for _ in range(60):
        loss = (network.reconstruct(images) - images).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("autoencoder") / "autoencoder.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def null_that_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that a handful of images can pass: the few that are no copies are taken to call one."""
    monkeypatch.setattr(Discoveries, "can_call_above", lambda discoveries, max_fraction: True)


@pytest.fixture(scope="module")
def null_that_calls_in_module() -> Iterator[None]:
    """The same, for results that the tests of a module share."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Discoveries, "can_call_above", lambda discoveries, max_fraction: True)
        yield
