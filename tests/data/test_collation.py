"""Items go through torch's and MONAI's data loaders, whatever formats and sources they are of."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, ThreadDataLoader
from PIL import Image

from monai_deepssim.data import LoadSliced, labelled_pairs, list_images, list_in_memory
from monai_deepssim.transforms import FitImageSized


@pytest.fixture
def items(tmp_path, brain_slice, lopsided, write_dicom, write_series):
    """A picture, a damaged one, a volume, an image of one file and two series of different length."""
    Image.fromarray(brain_slice).save(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "b.nii.gz")
    write_dicom(tmp_path / "c.dcm", brain_slice)
    write_series(tmp_path / "d", lopsided, 2, [f"{i}.dcm" for i in range(8)])
    write_series(tmp_path / "e", lopsided, 1, [f"{i}.dcm" for i in range(7)])
    return list_images(tmp_path, patient_id_pattern="folder")


@pytest.mark.parametrize("loader", [torch.utils.data.DataLoader, DataLoader, ThreadDataLoader])
def test_a_list_of_all_formats_collates(items, loader):
    (batch,) = loader(items, batch_size=len(items))
    assert batch["path"] == ["a.png", "b.nii.gz", "c.dcm", "d/0.dcm", "e/0.dcm"]
    assert batch["patient_id"] == ["", "", "", "d", "e"]
    assert batch["slice"].tolist() == [0, 4, 0, 4, 4]
    assert batch["slice_axis"].tolist() == [2] * 5
    assert [len(files) > 0 for files in batch["files"]] == [False, False, False, True, True]


@pytest.mark.parametrize("loader", [DataLoader, ThreadDataLoader])
def test_a_list_of_all_formats_loads_through_a_cached_dataset(items, loader):
    transforms = [LoadSliced(), FitImageSized("image", (24, 24))]
    dataset = CacheDataset(items, transforms, progress=False)
    (batch,) = loader(dataset, batch_size=len(items))
    assert batch["image"].shape == (5, 1, 24, 24)
    assert torch.equal(batch["image"][1], batch["image"][3])
    assert batch["path"] == [item["path"] for item in items]


def test_images_in_memory_collate(items):
    (batch,) = DataLoader(list_in_memory(torch.rand(3, 1, 8, 8), "training"), batch_size=3)
    assert batch["image"].shape == (3, 1, 8, 8)
    assert set(batch) == set(items[0])


def test_labelled_pairs_collate(tmp_path, brain_slice):
    (tmp_path / "IXI002").mkdir()
    for name in ("training", "gen-0"):
        Image.fromarray(brain_slice).save(tmp_path / "IXI002" / f"{name}.png")
    row = "IXI002___training,IXI002___gen-0,1"
    (tmp_path / "pairs.csv").write_text(f"real_key,synth_key,label\n{row}\n{row}\n")
    (batch,) = DataLoader(labelled_pairs(tmp_path / "pairs.csv", tmp_path), batch_size=2)
    assert batch["label"].tolist() == [1, 1]
    assert batch["synthetic"]["path"] == ["IXI002/gen-0.png"] * 2
