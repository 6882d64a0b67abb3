"""Trainings that take up where they stopped."""

import errno
import os
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, ValidationHandler, from_engine
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import Randomizable
from monai.utils import set_determinism
from torch import nn
from torch.optim import lr_scheduler

from monai_deepssim.engines import GradientClipping, ResumableCheckpoint
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import SSIMMatchingMetric


class KilledError(Exception):
    pass


def make_training(folder, epochs, kill_at=None, values=None, batch_size=4, schedule=None):
    """A tiny real MONAI training; ``kill_at`` stops it in the middle of that epoch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scheduler = schedule(optimizer, epochs) if schedule else lr_scheduler.StepLR(optimizer, 1)
    images = torch.rand(8, 1, 12, 12)
    data = [{"image": image, "label": image} for image in images]
    metric = IgniteMetricHandler(
        metric_fn=SSIMMatchingMetric(), output_transform=from_engine(["pred", "label"]), save_details=False
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=4),
        network=network,
        key_val_metric={"mse": metric},
        metric_cmp_fn=lambda current, best: current < best,
    )
    seen = [] if values is None else values

    class Killer:
        def attach(self, engine):
            from ignite.engine import Events

            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

        def __call__(self, engine):
            seen.append((engine.state.epoch, optimizer.param_groups[0]["lr"]))
            if engine.state.epoch == kill_at:
                raise KilledError

    checkpoint = ResumableCheckpoint(
        folder / "checkpoint.pt",
        {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler},
        best_path=folder / "model.pt",
        evaluator=evaluator,
    )

    class Step:
        def attach(self, engine):
            from ignite.engine import Events

            engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: scheduler.step())

    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_size=batch_size),
        network=network,
        optimizer=optimizer,
        loss_function=lambda prediction, label: prediction.square().mean(),
        train_handlers=[ValidationHandler(1, evaluator), Step(), Killer(), checkpoint],
    )
    trainer.logger.disabled = evaluator.logger.disabled = True
    return trainer, evaluator, network


def test_a_killed_training_goes_on_with_the_epoch_after_the_last_saved_one(tmp_path):
    trainer, _, _ = make_training(tmp_path, epochs=5, kill_at=4)
    with pytest.raises(KilledError):
        trainer.run()
    before = torch.load(tmp_path / "checkpoint.pt", weights_only=True)

    seen = []
    trainer, evaluator, network = make_training(tmp_path, epochs=5, values=seen)
    trainer.run()
    assert [epoch for epoch, _ in seen] == [4, 4, 5, 5]
    assert seen[0][1] == pytest.approx(0.01 * 0.1**3)  # the schedule went on too
    assert trainer.state.epoch == 5
    assert before["trainer"]["iteration"] == 6
    assert evaluator.state.best_metric <= before["best"]["metric"]
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(after["network"][name], value) for name, value in network.state_dict().items())


def test_the_best_network_of_before_the_kill_is_not_overwritten_by_a_worse_one(tmp_path):
    trainer, _, _ = make_training(tmp_path, epochs=1)
    trainer.run()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["best"] = {"metric": 0.0, "epoch": 1}  # nothing beats this
    torch.save(state, tmp_path / "checkpoint.pt")
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    trainer, evaluator, _ = make_training(tmp_path, epochs=3)
    trainer.run()
    assert evaluator.state.best_metric == 0.0
    assert all(torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)[name], best[name]) for name in best)


def test_a_finished_training_run_again_does_nothing_more(tmp_path):
    make_training(tmp_path, epochs=2)[0].run()
    seen = []
    make_training(tmp_path, epochs=2, values=seen)[0].run()
    assert seen == []


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.pt"])
def test_a_kill_during_a_save_leaves_the_last_whole_file(tmp_path, monkeypatch, name):
    make_training(tmp_path, epochs=1)[0].run()
    whole = (tmp_path / name).read_bytes()
    save = torch.save

    def half(state, file):
        if Path(file.name).name.startswith(name):
            file.write(b"half of a checkpoint")
            raise KilledError
        save(state, file)

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KilledError):
        make_training(tmp_path, epochs=2)[0].run()
    monkeypatch.undo()
    assert (tmp_path / name).read_bytes() == whole
    trainer, _, _ = make_training(tmp_path, epochs=3)  # the leftover of the killed save is no obstacle
    trainer.run()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 6


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path):
    torch.save({"network": {"weight": torch.zeros(1)}}, tmp_path / "checkpoint.pt")
    trainer, _, _ = make_training(tmp_path, epochs=1)
    with pytest.raises(UnusableInputError, match=r"checkpoint\.pt: this checkpoint is of another training"):
        trainer.run()


def warmed_up(optimizer, epochs):
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2),
        lr_scheduler.CosineAnnealingLR(optimizer, epochs - 2),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])


def chained(optimizer, epochs):
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=epochs), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    return lr_scheduler.ChainedScheduler(parts)


SCHEDULES = {
    "one cycle": lambda optimizer, epochs: lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=epochs + 1),
    "cosine": lambda optimizer, epochs: lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=0.001),
    "linear": lambda optimizer, epochs: lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=epochs),
    "steps": lambda optimizer, epochs: lr_scheduler.MultiStepLR(optimizer, [epochs // 3, epochs // 2]),
    "restarts": lambda optimizer, epochs: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, epochs // 3),
    "warmed up": warmed_up,
    "chained": chained,
    "monai": lambda optimizer, epochs: WarmupCosineSchedule(optimizer, 2, epochs),
}


@pytest.mark.filterwarnings("ignore:.*EPOCH PARAMETER.*", "ignore:.*epoch parameter.*")
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("before", [4, 12])
def test_with_another_number_of_epochs_a_training_goes_on_along_the_schedule_of_that_length(tmp_path, schedule, before):
    at_once, in_two = [], []
    make_training(tmp_path / "once", 9, values=at_once, schedule=schedule)[0].run()

    trainer, _, _ = make_training(tmp_path / "two", before, kill_at=5, schedule=schedule)
    with nullcontext() if before < 5 else pytest.raises(KilledError):
        trainer.run()
    make_training(tmp_path / "two", 9, values=in_two, schedule=schedule)[0].run()

    assert [epoch for epoch, _ in in_two] == [epoch for epoch, _ in at_once if epoch > 4]
    for (_, rate), (_, wanted) in zip(in_two, at_once[-len(in_two) :], strict=True):
        assert rate == pytest.approx(wanted, rel=1e-6, abs=1e-12)


class Plateau(lr_scheduler.ReduceLROnPlateau):
    def step(self):
        super().step(1.0)


def test_a_plateau_goes_on_as_it_was(tmp_path):
    values = []
    make_training(tmp_path, 3, schedule=lambda optimizer, epochs: Plateau(optimizer, factor=0.5, patience=3))[0].run()

    longer = make_training(tmp_path, 6, values=values, schedule=lambda optimizer, _: Plateau(optimizer, patience=9))
    longer[0].run()

    assert dict(values)[6] == pytest.approx(0.005)


def test_a_training_of_other_steps_an_epoch_or_of_fewer_epochs_is_refused_in_words(tmp_path):
    make_training(tmp_path, epochs=2)[0].run()
    with pytest.raises(UnusableInputError, match="has 2 steps per epoch, and would now have 4"):
        make_training(tmp_path, epochs=3, batch_size=2)[0].run()
    with pytest.raises(UnusableInputError, match="of another training"):
        make_training(tmp_path, epochs=1)[0].run()


def test_the_scaler_of_a_mixed_precision_training_is_saved(tmp_path):
    class Scaler:
        scale = 65536.0

        def state_dict(self):
            return {"scale": self.scale}

        def load_state_dict(self, state):
            self.scale = state["scale"]

    trainer = make_training(tmp_path, epochs=1)[0]
    trainer.run()
    trainer.scaler = Scaler()
    trainer.scaler.scale = 1024.0
    checkpoint = ResumableCheckpoint(tmp_path / "checkpoint.pt", {"network": trainer.network})
    checkpoint.save(trainer)
    trainer.scaler.scale = 1.0
    checkpoint.load(trainer)
    assert trainer.scaler.scale == 1024.0


def test_the_gradient_norm_is_at_most_the_limit_when_the_optimizer_steps(tmp_path):
    norms = []

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            parameters = [p for group in self.param_groups for p in group["params"]]
            norms.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())

    network = nn.Linear(4, 1)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(
            [{"image": torch.rand(4), "label": torch.rand(1)} for _ in range(4)], batch_size=2
        ),
        network=network,
        optimizer=Watch(network.parameters(), lr=0.1),
        loss_function=lambda prediction, label: 1000 * prediction.square().mean(),
        train_handlers=[GradientClipping(network, max_norm=1.0)],
    )
    trainer.run()
    assert norms == pytest.approx([1.0, 1.0], abs=1e-4)
    with pytest.raises(ValueError, match="positive"):
        GradientClipping(network, max_norm=0)


def test_a_best_path_without_an_evaluator_and_a_save_dict_without_a_network_are_errors():
    with pytest.raises(ValueError, match="evaluator"):
        ResumableCheckpoint("a.pt", {"network": nn.Linear(1, 1)}, best_path="b.pt")
    with pytest.raises(ValueError, match="network"):
        ResumableCheckpoint("a.pt", {"optimizer": None})


class Jitter(Randomizable):
    """A random transform like MONAI's: it draws from a state of its own."""

    def __call__(self, item):
        self.randomize(None)
        return {name: value + self.draw for name, value in item.items()}

    def randomize(self, data):
        self.draw = float(self.R.uniform(-0.2, 0.2))


def make_random_training(folder, epochs, kill_at=None, num_workers=0, epoch_length=None):
    """A training that draws from every random state: order, transforms, dropout, Python and NumPy."""
    set_determinism(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    data = [{"image": torch.full((1, 4, 4), float(n)), "label": torch.tensor([float(n)])} for n in range(8)]

    def loss(prediction, label):
        if trainer.state.epoch == kill_at:
            raise KilledError
        return ((prediction - label) ** 2).mean() + prediction.mean() * (random.random() + np.random.random())

    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(data, Jitter()), batch_size=2, shuffle=True, num_workers=num_workers),
        epoch_length=epoch_length,
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        train_handlers=[ResumableCheckpoint(folder / "a.pt", {"network": network, "optimizer": optimizer})],
    )
    trainer.logger.disabled = True
    return trainer, network


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("epoch_length", [None, 3])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path, num_workers, epoch_length):
    undisturbed, expected = make_random_training(tmp_path / "once", 4, None, num_workers, epoch_length)
    undisturbed.run()
    killed, _ = make_random_training(tmp_path / "twice", 4, 3, num_workers, epoch_length)
    with pytest.raises(KilledError):
        killed.run()
    resumed, network = make_random_training(tmp_path / "twice", 4, None, num_workers, epoch_length)
    torch.manual_seed(99)  # another process has drawn other numbers
    np.random.seed(99)
    random.seed(99)
    resumed.run()
    set_determinism(None)
    assert resumed.state.iteration == undisturbed.state.iteration
    for name, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_epochs_of_a_training_differ_in_order_and_in_what_transforms_draw(tmp_path):
    trainer, _ = make_random_training(tmp_path, 2)
    seen = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.extend(float(item["image"].mean()) for item in engine.state.batch),
    )
    trainer.run()
    set_determinism(None)
    first, second = np.array(seen).reshape(2, 8)
    assert (np.argsort(first) != np.argsort(second)).any()
    assert (np.sort(first) != np.sort(second)).all()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda content: b"", "it is empty"),
        (lambda content: b"<!DOCTYPE html><p>Sign in", "it is a web page"),
        (lambda content: b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.", "not a checkpoint"),
    ],
    ids=["half", "empty", "web page", "code"],
)
def test_a_damaged_checkpoint_of_a_training_is_named_and_kept(tmp_path, spoil, words):
    make_training(tmp_path, epochs=1)[0].run()
    path = tmp_path / "checkpoint.pt"
    content = spoil(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(UnusableInputError, match=rf"checkpoint\.pt: .*{words}"):
        make_training(tmp_path, epochs=2)[0].run()
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [{}, [1, 2], {"network": 1}, {"network": {}, "optimizer": {}}, 7])
def test_what_is_no_checkpoint_of_this_training_is_refused_in_words(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(UnusableInputError, match=r"checkpoint\.pt: this checkpoint is of another training"):
        make_training(tmp_path, epochs=1)[0].run()


def test_a_folder_in_the_place_of_the_checkpoint_is_refused_before_the_first_epoch(tmp_path):
    (tmp_path / "checkpoint.pt").mkdir()
    seen = []
    with pytest.raises(UnusableInputError, match=r"checkpoint\.pt: is no file"):
        make_training(tmp_path, epochs=1, values=seen)[0].run()
    assert seen == []


def test_a_full_disk_is_reported_and_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch):
    make_training(tmp_path, epochs=1)[0].run()
    whole = (tmp_path / "checkpoint.pt").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnusableInputError, match=r"No space left on device"):
        make_training(tmp_path, epochs=2)[0].run()
    assert (tmp_path / "checkpoint.pt").read_bytes() == whole
