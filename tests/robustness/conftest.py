"""Folders of a few phantoms, a process that is disturbed, and a sample of the slow sweeps that follows the date."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from fork_server import ForkServer
from PIL import Image

from monai_deepssim.data import PhantomBrainDataset


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sweep-sample",
        type=int,
        default=None,
        metavar="N",
        help="of the tests marked sweep run N, drawn by the date (UTC); give -m sweep too",
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    number = config.getoption("--sweep-sample", None)
    return None if number is None else f"sweep: {number} tests, drawn for {_today()}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number = config.getoption("--sweep-sample", None)
    if number is None:
        return
    slow = sorted((item for item in items if item.get_closest_marker("sweep")), key=lambda item: item.nodeid)
    drawn = set(random.Random(_today()).sample(slow, min(number, len(slow))))
    left_out = [item for item in slow if item not in drawn]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


@pytest.fixture(scope="session")
def phantoms() -> list[np.ndarray]:
    """Eight phantom slices, 8 bit."""
    items = PhantomBrainDataset(8, seed=31, progress=False)
    return [(item["image"][0].numpy() * 255).round().astype(np.uint8) for item in items]


@pytest.fixture(scope="session")
def make_folders(phantoms: list[np.ndarray]) -> Callable[[Path], Path]:
    """Write ``training/`` with five images and ``synthetic/`` with a mirrored copy and two others."""

    def make(folder: Path) -> Path:
        sides = {"training": phantoms[:5], "synthetic": [phantoms[0][:, ::-1], phantoms[6], phantoms[7]]}
        for side, images in sides.items():
            (folder / side).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(np.ascontiguousarray(image)).save(folder / side / f"{number}.png")
        return folder

    return make


@pytest.fixture
def folders(make_folders: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """These folders, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_folders(tmp_path)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """The process that forks what is disturbed."""
    server = ForkServer()
    yield server
    server.close()
