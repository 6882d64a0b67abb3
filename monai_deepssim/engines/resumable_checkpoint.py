"""A training that takes up where it stopped, also when it was killed while it saved."""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from monai.data.utils import set_rnd
from monai.engines import AdversarialTrainer, Evaluator, Trainer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, make_folder
from monai_deepssim.networks import read_checkpoint

__all__ = ["ResumableCheckpoint"]

# What AdversarialTrainer puts into its state, all of it objects.
_ADVERSARIAL_KEYS = {f"{side}_{part}" for side in "gd" for part in ("network", "optimizer", "scaler", "loss_function")}
_ADVERSARIAL_KEYS.add("recon_loss_function")
_SCALERS = ("scaler", "g_scaler", "d_scaler")
# What the schedules of torch and MONAI write to the optimizer.
_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas", "base_momentum", "max_momentum")


class ResumableCheckpoint:
    """Save after every epoch, load at the start of a run, and keep the best network by the validation's key metric.

    A training that was interrupted ends with the weights of an undisturbed one, bit for bit on the CPU: every epoch
    begins with random states (of torch, NumPy, Python and MONAI's transforms, and with them the order of the images)
    that follow from the seed in the file, the rank and the epoch. Transforms in persistent workers have states that
    nobody outside can set: give the DataLoader ``persistent_workers=False``.

    MONAI's CheckpointSaver writes in place and removes the old file first, and its CheckpointLoader fails when there is
    no file yet; this one does neither. Make it the last handler of the trainer, so that it saves what the others did.
    In a distributed training every rank loads and rank 0 saves.

    A training may go on with more epochs. A learning-rate schedule in ``save_dict`` is stepped anew to where the
    training is, so that the rate is what it would be had the schedule been this one from the start, also where it has
    become longer. (Not ``ReduceLROnPlateau``, which goes on as it was.)

    What MONAI's AdversarialTrainer adds to its own state, whole networks and optimizers as pickled objects, is kept out
    of the file, which ``weights_only=True`` could not load otherwise: name both networks and both optimizers in
    ``save_dict``. The state of its loss scalers, under mixed precision, is saved.

    Args:
        path: path of the file that holds the whole state; loaded at the start when it is there.
        save_dict: what has a ``state_dict``, by name: ``network``, ``optimizer``, ``lr_scheduler``. The trainer's own
            state is added.
        best_path: where the best network goes, as a plain state dict; ``None`` keeps none.
        evaluator: the MONAI evaluator whose key metric says which is best; needed with ``best_path``.

    Raises:
        ValueError: when ``network`` is not in ``save_dict``, or a best network is wanted without an evaluator; and at
            the start of an adversarial training, when an optimizer of it is not in ``save_dict``.
        UnusableInputError: at the start, when the file is damaged or of another training; and when it cannot be
            written.

    Example:
        >>> network = torch.nn.Linear(2, 1)
        >>> checkpoint = ResumableCheckpoint("training/checkpoint.pt", {"network": network})
        >>> checkpoint.path.name
        'checkpoint.pt'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        save_dict: Mapping[str, Any],
        best_path: str | os.PathLike[str] | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        if "network" not in save_dict:
            raise ValueError(f"got save_dict with {sorted(save_dict)}, want it to hold the network as 'network'")
        if best_path is not None and evaluator is None:
            raise ValueError("best_path needs the evaluator whose key metric says which network is best")
        self.path = Path(path)
        self.save_dict = dict(save_dict)
        self.best_path = None if best_path is None else Path(best_path)
        self.evaluator = evaluator
        self._seed = 0

    def attach(self, engine: Trainer) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_STARTED, self._set_random_states)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Engine) -> None:
        """Restore everything from the file, if there is one."""
        if isinstance(engine, AdversarialTrainer):
            self._keep_objects_out(engine)
        for path in filter(None, (self.path, self.best_path)):
            if path.exists() and not path.is_file():
                raise UnusableInputError(f"{path}: is no file, and the training would write one. Give another folder.")
        self._seed = _common(torch.initial_seed())
        if not self.path.is_file():
            return
        epoch_length = engine.state.epoch_length
        schedules = [
            _FreshSchedule(part)
            for part in self.save_dict.values()
            if isinstance(part, LRScheduler) and not isinstance(part, ReduceLROnPlateau)
        ]
        self._restore(engine, read_checkpoint(self.path))
        if engine.state.epoch_length != epoch_length:
            raise UnusableInputError(
                f"{self.path}: this training has {engine.state.epoch_length} steps per epoch, and would now have "
                f"{epoch_length}. Go on with as many images, batches as large and as many processes as it was begun "
                "with, or give another folder."
            )
        for schedule in schedules:
            schedule.replay()

    def _restore(self, engine: Engine, content: Any) -> None:
        max_epochs = engine.state.max_epochs
        try:
            Checkpoint.load_objects({**self.save_dict, "trainer": engine}, content)
            for name in _SCALERS:
                if name in content and _scaler(engine, name) is not None:
                    _scaler(engine, name).load_state_dict(content[name])
            best = {"metric": float(content["best"]["metric"]), "epoch": int(content["best"]["epoch"])}
            self._seed = int(content.get("seed", self._seed))
            if max_epochs is not None and engine.state.epoch > max_epochs:
                raise ValueError(f"it has {engine.state.epoch} epochs behind it, and {max_epochs} are asked for")
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnusableInputError(
                f"{self.path}: this checkpoint is of another training ({reason}). Move it away, or give another folder."
            ) from error
        engine.state.max_epochs = max_epochs
        if self.evaluator is not None:
            self.evaluator.state.best_metric = best["metric"]
            self.evaluator.state.best_metric_epoch = best["epoch"]

    def save(self, engine: Engine) -> None:
        """Write the best network when this epoch's is the best, then the whole state."""
        if idist.get_rank() > 0:
            return
        best: dict[str, float] = {"metric": -1, "epoch": -1}
        if self.evaluator is not None:
            state = self.evaluator.state
            best = {"metric": float(state.best_metric), "epoch": int(state.best_metric_epoch)}
            # The evaluator counts the epochs of the trainer that called it.
            if self.best_path is not None and best["epoch"] == engine.state.epoch:
                network = self.save_dict["network"]
                _save({name: value.cpu() for name, value in network.state_dict().items()}, self.best_path)
        scalers = {name: _scaler(engine, name) for name in _SCALERS}
        parts = {**self.save_dict, **{name: scaler for name, scaler in scalers.items() if scaler is not None}}
        states = {name: part.state_dict() for name, part in parts.items()}
        _save({**states, "trainer": dict(engine.state_dict()), "best": best, "seed": self._seed}, self.path)

    def _set_random_states(self, engine: Engine) -> None:
        """Begin the epoch with random states that follow from its number, whatever was drawn before."""
        sequence = np.random.SeedSequence([self._seed, idist.get_rank(), engine.state.epoch])
        seeds = [int(seed) for seed in sequence.generate_state(5)]
        torch.manual_seed(seeds[0])  # of all devices
        np.random.seed(seeds[1])
        random.seed(seeds[2])
        if self.evaluator is not None:
            set_rnd(getattr(self.evaluator.data_loader, "dataset", None), seeds[3])
        loader = engine.state.dataloader
        if isinstance(loader, DataLoader):
            set_rnd(loader.dataset, seeds[4])  # last: what the two data sets share is as the training wants it
            engine.set_data(loader)  # an epoch may be shorter than its images: each has an order of its own

    def _keep_objects_out(self, engine: AdversarialTrainer) -> None:
        # Here and not in attach: the trainer attaches its handlers before it has these.
        named = {id(part) for part in self.save_dict.values()}
        missing = [name for name in ("g_optimizer", "d_optimizer") if id(getattr(engine.state, name)) not in named]
        if missing:
            raise ValueError(
                f"save_dict has no {' and no '.join(missing)} of the trainer, want both, and both networks"
            )
        engine.state_dict_user_keys[:] = [key for key in engine.state_dict_user_keys if key not in _ADVERSARIAL_KEYS]


def _scaler(engine: Engine, name: str) -> Any:
    """The loss scaler of a mixed-precision training: SupervisedTrainer's own, or of AdversarialTrainer's state."""
    return getattr(engine, name, None) if name == "scaler" else getattr(engine.state, name, None)


def _common(seed: int) -> int:
    """The seed of rank 0, on all ranks; without the sign bit, which neither NumPy nor a tensor takes."""
    seed %= 2**63
    return seed if idist.get_world_size() == 1 else int(torch.as_tensor(idist.broadcast(torch.tensor(seed), src=0)))


class _FreshSchedule:
    """A learning-rate schedule before its state is loaded, which brings settings of its own."""

    def __init__(self, schedule: LRScheduler) -> None:
        self.schedule = schedule
        self.state = copy.deepcopy(schedule.state_dict())
        self.groups = [
            {name: group[name] for name in _RATES if name in group} for group in schedule.optimizer.param_groups
        ]

    def replay(self) -> None:
        """Take as many steps as the loaded one had taken."""
        num_steps = _num_steps(self.schedule.state_dict())
        self.schedule.load_state_dict(copy.deepcopy(self.state))
        for group, fresh in zip(self.schedule.optimizer.param_groups, self.groups, strict=True):
            group.update(fresh)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the optimizer took these steps in an earlier run
            for _ in range(num_steps):
                self.schedule.step()


def _num_steps(state: Mapping[str, Any]) -> int:
    # A ChainedScheduler does not count by itself.
    return int(state["last_epoch"]) if "last_epoch" in state else _num_steps(state["_schedulers"][0])


def _save(state: Any, path: Path) -> None:
    make_folder(path.parent)
    with atomic_file(path) as file:
        torch.save(state, file)
