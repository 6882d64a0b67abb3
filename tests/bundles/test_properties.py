"""Every workflow of the package answers MONAI's question for the properties of a bundle."""

from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow
from PIL import Image

BUNDLES = Path(__file__).parents[2] / "bundles"
CONFIGS = [
    "memorization_audit/configs/inference.json",
    "memorization_audit/configs/filter.json",
    "memorization_audit/configs/deduplicate.json",
    "detector_benchmark/configs/inference.json",
    "memorization_study/configs/inference.json",
    "deepssim_brain_mri/configs/reproduce.json",
]


@pytest.mark.parametrize("config", CONFIGS)
def test_no_property_is_missing(config, phantoms, tmp_path):
    overrides = {"bundle_root": str((BUNDLES / config).parents[1])}
    if config.startswith("memorization_audit"):
        for number, image in enumerate(phantoms[:2]):
            Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / f"{number}.png")
        sides = ["training_dir"] if "deduplicate" in config else ["training_dir", "synthetic_dir"]
        overrides |= dict.fromkeys(sides, str(tmp_path))
    workflow = ConfigWorkflow(str(BUNDLES / config), workflow_type="infer", **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", ["detector_benchmark", "memorization_study"])
def test_a_property_is_no_option(name, tmp_path, capsys):
    overrides = {"bundle_root": str(BUNDLES / name), "output_dir": str(tmp_path), "evaluator": "mine"}
    workflow = ConfigWorkflow(str(BUNDLES / name / "configs" / "inference.json"), workflow_type=None, **overrides)
    workflow.initialize()
    with pytest.raises(SystemExit) as ended:
        workflow.run()
    assert ended.value.code == 2
    assert "--evaluator: there is no such option" in capsys.readouterr().err
