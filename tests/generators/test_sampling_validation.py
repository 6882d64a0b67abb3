"""What a sampling validation measures, when it ends a training, and how drawn images are written."""

import math
import os

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from scipy.ndimage import gaussian_filter
from torch import nn
from torchvision.models import inception_v3

from monai_deepssim.data import list_images, load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import (
    Conditions,
    FIDUnlessCopied,
    FirstBatchImageHandler,
    HeldOutFIDMetric,
    ImageStatistics,
    SampleFolder,
    StopWhenCopying,
    load_sampling_features,
)
from monai_deepssim.handlers import MemorizationHandler, UnevenSharesMetricHandler, predictions_only
from monai_deepssim.metrics import compute_fid


@pytest.mark.parametrize("file_format", ["png", "nii.gz"])
def test_a_written_image_is_read_back_as_the_same_picture(tmp_path, icbm152_slices, file_format):
    folder = SampleFolder(tmp_path, "ab", 50, seed=10, file_format=file_format, pixel_size_mm=1.4)
    images = icbm152_slices[20:23]
    assert not torch.allclose(images[0], images[0].flip(2), atol=0.1)  # no symmetry hides a mirrored file
    for index, image in enumerate(images):
        folder.write(image, index, condition="age=3, sex=0")
    for source in (tmp_path, tmp_path / "manifest.csv"):
        items = list_images(source)
        assert len(items) == 3
        for item, image in zip(items, images, strict=True):
            scaled = (image - image.min()) / (image.max() - image.min())
            assert load_slice(item).shape == image.shape
            assert (load_slice(item) - scaled).abs().max() <= (1 / 255 if file_format == "png" else 1e-6)
    told = Conditions(torch.zeros(1, 1, 2), ["age=3, sex=0"])
    again = SampleFolder(tmp_path, "ab", 50, 10, file_format)
    assert again.missing(range(4), told) == [3]
    told = Conditions(torch.zeros(2, 1, 2), ["age=3, sex=0", "age=5, sex=1"])
    assert again.missing([0, 1, 5], told, images_per_condition=3) == [5]
    with pytest.raises(UnusableInputError, match="image 1 was drawn under 'age=3, sex=0', and 'age=5, sex=1'"):
        again.missing(range(4), told)
    with pytest.raises(UnusableInputError, match="and 'no condition' is wanted"):
        again.missing(range(4))


def test_an_image_whose_row_was_not_written_before_a_kill_is_drawn_again(tmp_path, monkeypatch):
    def killed(path, text):
        raise KeyboardInterrupt

    manifest, folder = tmp_path / "manifest.csv", SampleFolder(tmp_path, "ab", 50)
    for index in range(2):
        folder.write(torch.rand(1, 16, 16), index)
    with monkeypatch.context() as patched:
        patched.setattr("monai_deepssim.generators.sampling_folder.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.write(torch.rand(1, 16, 16), 2)
    assert (tmp_path / "000002.png").is_file()
    folder = SampleFolder(tmp_path, "ab", 50)
    assert folder.missing(range(3)) == [2]
    folder.write(torch.rand(1, 16, 16), 2)
    assert len(manifest.read_text().splitlines()) == 4
    for other in (("cd", 50, 0, "png"), ("ab", 20, 0, "png"), ("ab", 50, 1, "png"), ("ab", 50, 0, "nii.gz")):
        with pytest.raises(UnusableInputError, match=r"manifest\.csv, line 2: the folder holds images of another"):
            SampleFolder(tmp_path, *other)
    with pytest.raises(UnusableInputError, match="scale factor"):
        SampleFolder(tmp_path, "ab", 50, settings={"scale_factor": 0.5})


def test_statistics_tell_brains_from_empty_blurred_noisy_and_dark_images(phantoms):
    features = ImageStatistics()
    real, others = phantoms[::2].repeat(3, 1, 1, 1), phantoms[1::2].repeat(3, 1, 1, 1)
    noise = 0.01 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.from_numpy(np.stack([gaussian_filter(image, (0, 2, 2)) for image in others.numpy()]))
    spoilt = {
        "blurred": blurred,
        "noisy": (others + 20 * noise).clamp(0, 1),
        "dark": 0.5 * others,
        "empty": torch.zeros_like(others),
    }
    own = compute_fid(features(others + noise), features(real + noise))
    for images in spoilt.values():
        assert compute_fid(features(images + noise), features(real + noise)) > 2 * own


def test_features_of_a_file_are_torchscript_or_inception_and_never_the_judge_s(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    program = torch.jit.trace(network, torch.rand(2, 3, 40, 32))
    program.save(str(tmp_path / "mine.pt"))
    with pytest.raises(UnusableInputError, match="--allow_torchscript true"):
        load_sampling_features(str(tmp_path / "mine.pt"), nn.Identity(), (40, 32))
    features = load_sampling_features(str(tmp_path / "mine.pt"), nn.Identity(), (40, 32), allow_torchscript=True)
    assert (features.name, features(torch.rand(2, 1, 40, 32)).shape) == ("mine", (2, 12))
    os.link(tmp_path / "mine.pt", tmp_path / "judge.pt")
    with pytest.raises(UnusableInputError, match="judges which images are copies"):
        load_sampling_features(str(tmp_path / "mine.pt"), nn.Identity(), (40, 32), judge=tmp_path / "judge.pt")
    torch.save(inception_v3(weights=None, aux_logits=True, init_weights=False).state_dict(), tmp_path / "inception.pt")
    features = load_sampling_features(str(tmp_path / "inception.pt"), nn.Identity(), (40, 32))
    with torch.no_grad():
        assert (features.name, features(torch.rand(2, 1, 40, 32)).shape) == ("inception_v3", (2, 2048))
    torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "other.pt")
    with pytest.raises(UnusableInputError, match="not those of torchvision's InceptionV3"):
        load_sampling_features(str(tmp_path / "other.pt"), nn.Identity(), (40, 32))


class Means(nn.Module):
    """Means of four quarters of the rows."""

    name = "quarters"

    def forward(self, images):
        return images.unflatten(2, (4, -1)).mean((1, 3, 4))


def validate(drawn, training, limit, decollate=False):
    """Run a real evaluator whose network hands on what it is given, and return its state."""
    embedder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    held_out = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    metric = HeldOutFIDMetric(Means(), held_out.split(7), num_images=len(drawn))
    fid = UnevenSharesMetricHandler(metric, predictions_only, save_details=False)
    copy_fraction = MemorizationHandler(embedder, training_loader=training.split(8), threshold=0.999)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": image} for image in drawn]), batch_size=3),
        network=nn.Identity(),
        key_val_metric={"key": FIDUnlessCopied(fid, copy_fraction, limit)},
        additional_metrics={"fid": fid, "copy_fraction": copy_fraction},
        metric_cmp_fn=lambda current, best: current < best,
        decollate=decollate,
    )
    evaluator.run()
    expected = compute_fid(Means()(drawn), Means()(held_out)).item()
    return evaluator.state, expected


def test_every_statistic_counts_in_its_own_unit():
    generator = torch.Generator().manual_seed(3)
    held_out, drawn = torch.rand(2, 40, 1, 16, 16, generator=generator).unbind()
    metric = HeldOutFIDMetric(ImageStatistics(), [held_out], num_images=40)
    metric(drawn)
    spread = ImageStatistics()(held_out).std(0)
    expected = compute_fid(ImageStatistics()(drawn) / spread, ImageStatistics()(held_out) / spread)
    assert metric.aggregate().item() == pytest.approx(expected.item(), rel=1e-3)
    brighter = HeldOutFIDMetric(ImageStatistics(), [held_out], num_images=40)
    brighter(held_out + 0.05)
    # The standard error of 256 pixels' mean is 0.018, so that the mean alone is 2.8 standard deviations away.
    assert brighter.aggregate() > 5


@pytest.mark.parametrize("decollate", [False, True])
def test_the_key_metric_is_fid_until_the_limit_is_reached(decollate):
    generator = torch.Generator().manual_seed(0)
    training, others = torch.rand(2, 8, 1, 16, 16, generator=generator).unbind()
    drawn = torch.cat([training[:2], others[:6]])  # two of eight are copies
    for limit, infinite in ((None, False), (0.3, False), (0.25, True)):
        state, expected = validate(drawn, training, limit, decollate)
        assert state.metrics["copy_fraction"] == 0.25
        assert state.metrics["fid"] == pytest.approx(expected, rel=1e-4)
        assert state.metrics["key"] == (math.inf if infinite else pytest.approx(expected, rel=1e-4))


def test_a_generator_that_diverged_has_infinite_fid_and_does_not_end_its_training():
    training = torch.rand(8, 1, 16, 16)
    metric = HeldOutFIDMetric(Means(), [training], num_images=8)
    metric(torch.full((8, 1, 16, 16), math.nan))
    assert metric.aggregate() == math.inf


@pytest.mark.parametrize(
    ("num_images", "num_held_out", "message"),
    [
        (4, 8, "4 are drawn and 8 held out. Raise num_samples to 5 or more, choose"),
        (8, 4, "8 are drawn and 4 held out. Put 5 or more images aside, choose"),
        (2, 2, "Raise num_samples to 5 or more, put 5 or more images aside, choose"),
    ],
)
def test_too_few_images_for_the_features_are_refused_before_any_is_drawn(num_images, num_held_out, message):
    with pytest.raises(UnusableInputError, match=message):
        HeldOutFIDMetric(Means(), [torch.rand(num_held_out, 1, 16, 16)], num_images)


@pytest.mark.parametrize(
    ("fractions", "epochs"),
    [([0.1, 0.6, 0.7, 0.1], 3), ([0.6, 0.1, 0.6, 0.1, 0.5, 0.5, 0.1], 6), ([0.4] * 4, 4)],
)
def test_a_training_ends_after_two_validations_running_at_or_above_the_limit(fractions, epochs):
    remaining = iter(fractions)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=[{"image": torch.rand(1, 1)}], network=nn.Identity()
    )

    @evaluator.on(Events.EPOCH_COMPLETED)
    def measure(engine):
        engine.state.metrics["copy_fraction"] = next(remaining)

    network = nn.Linear(1, 1)
    stop = StopWhenCopying(evaluator, max_copy_fraction=0.5)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=len(fractions),
        train_data_loader=[{"image": torch.rand(1, 1), "label": torch.rand(1, 1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=nn.MSELoss(),
        train_handlers=[stop, ValidationHandler(1, evaluator)],
    )
    trainer.run()
    assert trainer.state.epoch == epochs
    assert len(list(remaining)) == len(fractions) - epochs


def test_one_validation_above_the_limit_before_a_kill_counts_with_one_after_it():
    stop = StopWhenCopying(None, 0.5)
    stop.load_state_dict({"num_above": 1})
    evaluator, trainer = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    stop.evaluator = evaluator
    stop.attach(trainer)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(copy_fraction=0.9))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    trainer.run([0], max_epochs=5)
    assert trainer.state.epoch == 1


@pytest.mark.parametrize("limit", [0, -0.1, 1.1])
def test_a_limit_that_all_or_none_can_keep_is_refused(limit):
    for make in (lambda: StopWhenCopying(None, limit), lambda: FIDUnlessCopied(None, None, limit)):
        with pytest.raises(UnusableInputError, match="max_copy_fraction is"):
            make()


def test_the_picture_of_a_validation_is_its_first_batch(tmp_path):
    seen = []

    def look(output):
        seen.append(float(output.mean()))
        return [output]

    handler = FirstBatchImageHandler(
        log_dir=str(tmp_path), batch_transform=lambda batch: ([None], [None]), output_transform=look
    )
    evaluator = Engine(lambda engine, batch: torch.full((1, 8, 8), batch))
    handler.attach(evaluator)
    evaluator.run([1.0, 2.0, 3.0])
    assert seen == [1.0]
