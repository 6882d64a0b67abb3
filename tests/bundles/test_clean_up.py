"""``filter.json`` and ``deduplicate.json`` as users run them: by MONAI's command line, mistyped or not, as demos."""

import json
import sys
from functools import partial
from pathlib import Path

import fire
import monai.bundle
import pytest
from PIL import Image

from monai_deepssim.audit import CopyFilter, Deduplication, evidence
from monai_deepssim.audit.clean_up import deduplication_steps
from monai_deepssim.data import PhantomBrainDataset, write_copies_demo, write_repetitions_demo
from monai_deepssim.options import option_fields, read_options

# With these a handful of images can pass a gate; tests/audit/audit_files.py says why.
LENIENT_GATE = ("--controls", "1", "--min_recall", "0")
BUNDLE = Path(__file__).parents[2] / "bundles" / "memorization_audit"
WORKFLOWS = {"filter": CopyFilter, "deduplicate": Deduplication}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """``training/`` with six phantoms, two of them the same, and ``synthetic/`` with a copy and another phantom."""
    folder = tmp_path_factory.mktemp("phantoms")
    phantoms = PhantomBrainDataset(num_subjects=6, seed=7, progress=False)
    pixels = [(phantom["image"][0] * 255).byte().numpy() for phantom in phantoms]
    names = {f"training/p{number}.png": pixels[number] for number in range(5)}
    names |= {"training/p9.png": pixels[0], "synthetic/copy.png": pixels[2][:, ::-1], "synthetic/new.png": pixels[5]}
    for name, content in names.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(content).save(folder / name)
    return folder


@pytest.fixture
def command_line(images, tmp_path, monkeypatch):
    """Run a config of the bundle in this process; returns the exit status."""
    monkeypatch.chdir(tmp_path)

    def run(config: str, *arguments: str) -> int:
        words = ["run", f"--config_file={BUNDLE / 'configs' / config}.json", f"--bundle_root={BUNDLE}", *arguments]
        monkeypatch.setattr(sys, "argv", ["monai.bundle", *words])
        try:
            fire.Fire({"run": monai.bundle.run}, command=words)
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_option_is_an_id_of_the_config_with_the_same_default(name) -> None:
    config = json.loads((BUNDLE / "configs" / f"{name}.json").read_text())
    workflow = WORKFLOWS[name]
    block = next(value for value in config.values() if isinstance(value, dict) and "monai_deepssim" in str(value))
    assert block["_target_"] == f"monai_deepssim.audit.{workflow.__name__}"
    names = workflow.option_names()
    assert list(block) == ["_target_", *names]
    assert all(block[option] == f"@{option}" for option in names)
    kind = workflow.options_class
    values = {entry.name: config[entry.name] for entry in option_fields(kind)}
    assert read_options(kind, values) == read_options(kind, {})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_monai_finds_the_properties_that_an_inference_bundle_has(name, images) -> None:
    workflow = monai.bundle.ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / f"{name}.json"),
        workflow_type="inference",
        training_dir=str(images / "training"),
        **({"synthetic_dir": str(images / "synthetic")} if name == "filter" else {}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert len(workflow.dataset) == 6


@pytest.mark.usefixtures("null_that_calls")
def test_the_filter_is_run_by_its_json_and_its_result_passes_the_gate(command_line, images, capsys) -> None:
    folders = ("--training_dir", f"{images / 'training'}", "--synthetic_dir", f"{images / 'synthetic'}")
    assert command_line("filter", *folders, "--output_dir", "out", "--max_copy_fraction", "0.01", *LENIENT_GATE) == 0
    assert [path.name for path in Path("out/filtered").iterdir()] == ["new.png"]
    told = capsys.readouterr().out
    assert "Before: 1 of 2 synthetic images are copies" in told
    assert "Copies: 0 of 1 synthetic images" in told
    assert "PASSED" in told


def test_the_training_set_is_deduplicated_by_its_json(command_line, images, capsys) -> None:
    arguments = ("--training_dir", f"{images / 'training'}", "--output_dir", "out", "--files", "symlink")
    assert command_line("deduplicate", *arguments) == 0
    assert sorted(path.name for path in Path("out/deduplicated").iterdir()) == [f"p{n}.png" for n in range(5)]
    assert Path("out/deduplicated/p0.png").is_symlink()
    assert "2 of 6 training files have a duplicate in another one, in 1 groups" in capsys.readouterr().out


@pytest.mark.parametrize("name", WORKFLOWS)
def test_in_a_bundle_of_somebody_else_it_takes_no_offence_at_its_ids(images, tmp_path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    sides = ["training_dir", "synthetic_dir"][: 2 if name == "filter" else 1]
    settings = {"controls": None} if name == "filter" else {}
    part = {
        "_target_": f"monai_deepssim.audit.{WORKFLOWS[name].__name__}",
        "output_dir": "out",
        "device": "cpu",
        **{side: str(images / side.removesuffix("_dir")) for side in sides},
        **settings,
    }
    config = {"number_of_their_own": 7, "part": part, "run": "$@part.run()"}
    Path("theirs.json").write_text(json.dumps(config))
    logging_file = str(BUNDLE / "configs" / "logging.conf")
    workflow = monai.bundle.ConfigWorkflow("theirs.json", logging_file=logging_file, workflow_type=None)
    workflow.initialize()
    workflow.run()
    kept = {"filter": ["new.png"], "deduplicate": [f"p{number}.png" for number in range(5)]}[name]
    assert sorted(path.name for path in Path("out").glob("*ed/*.png")) == kept


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        ("filter", ["--leave_uot", "similar"], ["--leave_uot", "Did you mean --leave_out?"]),
        ("filter", ["--max_copy_fracton=0.01"], ["Did you mean --max_copy_fraction?"]),
        ("filter", ["--synthetic_dir", "None"], ["None is not a value"]),
        ("deduplicate", ["--synthetic_dir", "x"], ["--synthetic_dir", "no such option"]),
        ("deduplicate", ["--trainnig_dir", "x"], ["Did you mean --training_dir?"]),
    ],
)
def test_an_override_that_names_nothing_ends_with_status_2(command_line, capsys, config, arguments, words) -> None:
    assert command_line(config, "--output_dir", "out", *arguments) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []
    assert not Path("out").exists()


@pytest.mark.usefixtures("null_that_calls")
def test_without_folders_the_filter_cleans_the_demo(command_line, capsys, monkeypatch) -> None:
    small = partial(write_copies_demo, num_training=10, num_synthetic=5, num_copies=2, augmentation_prob=0.5)
    monkeypatch.setattr(evidence, "write_copies_demo", small)
    assert command_line("filter", "--output_dir", "out", "--max_copy_fraction", "0.3", *LENIENT_GATE) == 0
    summary = json.loads(Path("out/filter.json").read_text())
    assert summary["demo"] == {"planted": 2, "left_out": 2, "remaining": 0, "wrongly_left_out": 0}
    assert "of 2 planted copies 2 are left out and 0 remain" in capsys.readouterr().out


def test_without_a_folder_a_demo_with_repetitions_is_deduplicated(command_line, capsys, monkeypatch) -> None:
    small = partial(write_repetitions_demo, num_subjects=10, num_repeated=4, num_other_patients=1)
    monkeypatch.setattr(deduplication_steps, "write_repetitions_demo", small)
    assert command_line("deduplicate", "--output_dir", "out") == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["demo"] == {"planted": 4, "found": 4, "false_alarms": 0}
    assert summary["groups_by_patients"] == {"different": 1, "same": 3, "unknown": 0}
    assert "found 4 of 4 planted repetitions, and 0 false alarms" in capsys.readouterr().out
