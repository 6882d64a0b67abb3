"""Phantoms, of which two were copied: audited, and filtered."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_deepssim.audit import Audit, CopyFilter
from monai_deepssim.data import PhantomBrainDataset


@pytest.fixture(scope="session")
def set_with_copies(tmp_path_factory) -> Path:
    """``training/`` with eight images; ``synthetic/`` with two mirrored copies, two others, and a text file."""
    folder = tmp_path_factory.mktemp("release")
    phantoms = [item["image"][0].numpy() for item in PhantomBrainDataset(12, seed=31, progress=False)]
    synthetic = {"a/copy-0.png": phantoms[0][:, ::-1], "copy-1.png": phantoms[1][:, ::-1]}
    synthetic |= {"a/other-8.png": phantoms[8], "b/other-9.png": phantoms[9]}
    training = {f"{number}.png": image for number, image in enumerate(phantoms[:8])}
    for side, images in (("training", training), ("synthetic", synthetic)):
        for name, image in images.items():
            path = folder / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray((image * 255).round().astype(np.uint8))).save(path)
    (folder / "synthetic" / "notes.txt").write_text("made on Monday")
    (folder / "synthetic" / "broken.png").write_bytes(b"")
    return folder


def run_on_set(workflow, folder, output, **options):
    """Run a workflow on a set, with few controls; the exit status."""
    sides = {"training_dir": str(folder / "training"), "synthetic_dir": str(folder / "synthetic")}
    try:
        workflow(**{**sides, "output_dir": str(output), "device": "cpu", "controls": 1, **options}).run()
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.fixture(scope="session")
def audited(set_with_copies) -> Path:
    """The folder of an audit without a gate; its set is ``synthetic/`` beside it."""
    assert run_on_set(Audit, set_with_copies, set_with_copies / "audit") == 0
    return set_with_copies / "audit"


@pytest.fixture(scope="session")
def filtered(set_with_copies) -> Path:
    """The folder of a filter; what it kept is ``filtered/`` in it."""
    run_on_set(CopyFilter, set_with_copies, set_with_copies / "filter", max_copy_fraction=0.5)
    return set_with_copies / "filter"


@pytest.fixture(scope="session")
def run_workflow():
    """Run a workflow on ``training/`` and ``synthetic/`` of a folder."""
    return run_on_set
