"""What is installed and what is in the repository: metadata, bundles, licence, and nothing of the maker's machine."""

import ast
import configparser
import getpass
import importlib
import json
import pkgutil
import re
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from monai.bundle import ConfigParser

import monai_deepssim
from monai_deepssim import command as command_line
from monai_deepssim.workflow import find_bundle, list_bundles

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_deepssim"
BUNDLES = sorted(path for path in (ROOT / "bundles").iterdir() if path.is_dir())
MEGABYTE = 1024 * 1024

# Distributions whose import has another name.
IMPORT_NAMES = {
    "opencv-python-headless": "cv2",
    "pytorch-ignite": "ignite",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "faiss-cpu": "faiss",
    "monai-generative": "generative",
    "open_clip_torch": "open_clip",
}


@pytest.fixture(scope="module")
def setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def requirements(text):
    """The names of a list of requirements: ``monai >= 1.5.1`` gives ``monai``."""
    return [re.split(r"[ \[<>=~!;]", line, maxsplit=1)[0] for line in text.split("\n") if line.strip()]


@pytest.fixture(scope="module")
def tracked_files():
    """The files that git knows, or would know after ``git add``."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_the_listed_packages_are_the_rooms_on_disk_and_the_bundles(setup_cfg):
    listed = setup_cfg["options"]["packages"].split()
    on_disk = [path.parent for path in PACKAGE.rglob("__init__.py")]
    names = {".".join(path.relative_to(ROOT).parts) for path in on_disk}
    assert set(listed) == names | {"monai_deepssim.bundles"}
    assert len(listed) == len(set(listed))


def test_nothing_lies_at_the_top_but_what_belongs_there(tracked_files):
    folders = {path.relative_to(ROOT).parts[0] for path in tracked_files if path.parent != ROOT}
    assert folders == {".ci", "benchmarks", "bundles", "docs", "monai_deepssim", "tests"}


def test_the_version_is_one_that_releases_have_and_the_changelog_knows_it(setup_cfg):
    assert re.fullmatch(r"\d+\.\d+\.\d+", monai_deepssim.__version__)
    assert setup_cfg["metadata"]["version"] == "attr: monai_deepssim.__version__"
    assert f"\n## {monai_deepssim.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_requirements_and_extras_are_those_promised(setup_cfg):
    required = setup_cfg["options"]["install_requires"]
    assert "monai >= 1.5.1" in required.split("\n")
    promised = "monai torch torchvision pytorch-ignite numpy scikit-image scikit-learn pandas nibabel pydicom pillow"
    promised += " torchmetrics imagehash numba opencv-python-headless einops fire jsonschema pyyaml tensorboard tqdm"
    promised += " jinja2 matplotlib"
    assert set(promised.split()) <= set(requirements(required))
    extras = {name: requirements(text) for name, text in setup_cfg["options.extras_require"].items()}
    assert extras["demo"] == ["nilearn", "faiss-cpu"]
    assert extras["faiss"] == ["faiss-cpu"]
    assert extras["generative"] == ["monai-generative"]
    assert extras["mri_core"] == ["timm"]
    assert extras["clip"] == ["open_clip_torch"]
    assert {"pytest", "ruff", "mypy", "import-linter"} <= set(extras["dev"])
    # "All of them": [dev] installs every other extra.
    assert set(extras) - {"dev"} == set(
        re.search(r"monai-deepssim\[(.*)\]", setup_cfg["options.extras_require"]["dev"])[1].split(",")
    )
    assert setup_cfg["options"]["python_requires"] == ">= 3.10"


def test_every_import_of_the_package_is_declared(setup_cfg):
    declared = requirements(setup_cfg["options"]["install_requires"])
    for name in set(setup_cfg["options.extras_require"]) - {"docs", "dev"}:
        declared += requirements(setup_cfg["options.extras_require"][name])
    allowed = {IMPORT_NAMES.get(name, name) for name in declared} | set(sys.stdlib_module_names) | {"monai_deepssim"}
    undeclared = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            else:
                continue
            undeclared |= {f"{path.name}: {name}" for name in names if name.split(".")[0] not in allowed}
    undeclared -= {entry for entry in undeclared if entry.endswith(": typing_extensions")}  # for type checkers only
    assert not undeclared


def test_every_dependency_has_a_lower_bound(setup_cfg):
    everything = "\n".join([setup_cfg["options"]["install_requires"], *setup_cfg["options.extras_require"].values()])
    lines = [line for line in everything.split("\n") if line.strip()]
    bound = re.compile(r"[A-Za-z0-9_.-]+ >= [0-9]+(\.[0-9]+)*(, < [0-9.]+)?( ;.*)?")
    assert [line for line in lines if not bound.fullmatch(line) and not line.startswith("monai-deepssim[")] == []
    bounds = [bound.fullmatch(line)[0] for line in lines if bound.fullmatch(line)]
    names = [line.split(" >= ")[0] for line in bounds]
    assert len(set(bounds)) == len(set(names)), "two bounds of one dependency"


def test_the_bounds_are_what_ci_installs(setup_cfg):
    listing = subprocess.run(
        [sys.executable, ROOT / ".ci" / "lowest_versions.py", "constraints"], capture_output=True, text=True, check=True
    )
    bounds = dict(line.split("==") for line in listing.stdout.split())
    assert bounds["monai"] == "1.5.1"
    everything = [setup_cfg["options"]["install_requires"], *setup_cfg["options.extras_require"].values()]
    assert set(bounds) == set(requirements("\n".join(everything))) - {"monai-deepssim"}


def test_the_pythons_that_are_named_begin_with_the_lowest_that_is_allowed(setup_cfg):
    named = re.findall(r"Python :: 3\.([0-9]+)\n", setup_cfg["metadata"]["classifiers"])
    assert named == [str(minor) for minor in range(10, 10 + len(named))]


def test_every_module_can_be_imported():
    packages = [monai_deepssim.__name__]
    for module in pkgutil.walk_packages(monai_deepssim.__path__, "monai_deepssim."):
        if not module.name.endswith(".__main__"):
            packages.append(importlib.import_module(module.name).__name__)
    assert len(packages) > 200


def test_the_package_says_that_it_is_typed(setup_cfg):
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in setup_cfg["options.package_data"]["monai_deepssim"]


def test_every_module_opens_with_what_it_is_about():
    without = [
        str(path.relative_to(ROOT))
        for path in [*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*.py")]
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not without


def test_a_public_name_is_one_that_its_room_has():
    rooms = [f"monai_deepssim.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")]
    for room in rooms:
        module = __import__(room, fromlist=["__all__"])
        assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name.islower(), name)), (
            room
        )
        assert all(getattr(module, name, None) is not None for name in module.__all__), room


def test_the_licence_is_apache_2_everywhere(setup_cfg):
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", licence)
    assert "END OF TERMS AND CONDITIONS" in licence
    assert setup_cfg["metadata"]["license_expression"] == "Apache-2.0"
    for bundle in BUNDLES:
        assert (bundle / "LICENSE").read_text(encoding="utf-8") == licence, bundle.name


def test_the_command_line_prints_every_bundle_and_where_it_lies(capsys):
    assert command_line.main(["bundle"]) == 0
    assert capsys.readouterr().out.split() == list_bundles() == [bundle.name for bundle in BUNDLES]
    for bundle in BUNDLES:
        assert command_line.main(["bundle", bundle.name]) == 0
        assert Path(capsys.readouterr().out.strip()).samefile(bundle)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
class TestBundle:
    def test_has_the_layout_of_the_model_zoo(self, bundle):
        for name in ("configs/metadata.json", "configs/inference.json", "configs/logging.conf", "docs/README.md"):
            assert (bundle / name).is_file(), name
        assert (bundle / "LICENSE").is_file()
        folders = {path.name for path in bundle.iterdir() if path.is_dir()}
        assert folders <= {"configs", "docs", "models"}
        assert not list(bundle.rglob("*.py")), "what needs Python is a class in the package"

    def test_has_metadata_that_fit_the_schema_of_the_model_zoo(self, bundle):
        metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
        schema = json.loads((ROOT / "tests/data/monai_meta_schema_20240725.json").read_text(encoding="utf-8"))
        jsonschema.validate(metadata, schema)
        assert metadata["version"] in metadata["changelog"]
        assert metadata["required_packages_version"]["monai-deepssim"] == monai_deepssim.__version__

    def test_names_only_things_of_the_package_that_exist(self, bundle):
        for path in (bundle / "configs").glob("*.json"):
            targets = re.findall(r'"_target_": "(monai_deepssim\.[\w.]+)"', path.read_text(encoding="utf-8"))
            for target in targets:
                room, _, name = target.rpartition(".")
                assert name in __import__(room, fromlist=["__all__"]).__all__, f"{path.name}: {target}"

    def test_has_no_expression_longer_than_a_line(self, bundle):
        for path in (bundle / "configs").glob("*.json"):
            for value in texts(ConfigParser.load_config_file(str(path))):
                assert not value.startswith("$") or len(value) <= 200, f"{path.name}: {value}"


@pytest.mark.parametrize(("bundle", "megabytes"), [("deepssim_brain_mri", 20), ("copy_detector", 6)])
def test_the_audit_finds_weights_of_a_few_megabytes(bundle, megabytes):
    weights = find_bundle(bundle) / "models" / "model.pt"
    assert 0 < weights.stat().st_size < megabytes * MEGABYTE


def test_no_file_is_larger_than_20_megabytes(tracked_files):
    assert [path for path in tracked_files if path.stat().st_size > 20 * MEGABYTE] == []


def test_no_file_names_the_machine_that_it_was_made_on(tracked_files):
    # Spelled so that this file does not contain what it looks for.
    homes = rb"/(?:root|wo" + rb"rk|home/\w+|Users/\w+)/"
    names = [name for name in (socket.gethostname(), getpass.getuser()) if len(name) >= 6 and name != "localhost"]
    pattern = re.compile(b"|".join([rb"(?<![\w.*}])" + homes, *(re.escape(name.encode()) for name in names)]))
    found = {}
    for path in tracked_files:
        match = pattern.search(path.read_bytes())
        if match and path.suffix not in (".png", ".jpg", ".gz"):
            found[str(path.relative_to(ROOT))] = match[0]
    assert not found


def texts(config):
    """All texts of a config."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict):
        for value in config.values():
            yield from texts(value)
    elif isinstance(config, list):
        for value in config:
            yield from texts(value)
