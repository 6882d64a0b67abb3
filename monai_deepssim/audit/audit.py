"""The workflow of the bundle ``memorization_audit``: two folders in, files and an exit status out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from torch import nn

from monai_deepssim.audit.detector import load_detector
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.steps import perform_audit
from monai_deepssim.audit.summary import summarize
from monai_deepssim.data import ImageDataset, list_images
from monai_deepssim.engines import create_embedding_evaluator
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.ranks import current_ranks, device_of_rank
from monai_deepssim.report import closing_lines
from monai_deepssim.workflow.exit_status import end_unless_passed
from monai_deepssim.workflow.workflow import Workflow

__all__ = ["Audit", "SearchWorkflow"]

Options = TypeVar("Options", bound=SearchOptions)
Result = TypeVar("Result")


class SearchWorkflow(Workflow[Options, Result]):
    """A workflow of the bundle ``memorization_audit``, with MONAI's properties of a bundle.

    Args:
        inferer: MONAI inferer that calls the embedder; ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach to the evaluators that embed.
        values: options by name.
    """

    options_class = SearchOptions
    objects = ("inferer", "handlers")
    runs_on_ranks = True

    def __init__(self, *, inferer: Inferer | None = None, handlers: Sequence[Any] | None = None, **values: Any) -> None:
        super().__init__(**values)
        self.inferer = inferer
        self.handlers: Sequence[Any] = () if handlers is None else handlers

    def read_options(self) -> Options:
        options = super().read_options()
        if self.inferer is not None and not callable(self.inferer):
            raise UnusableInputError(f"--inferer: is {self.inferer!r}, wanted a MONAI inferer. Leave the option out.")
        if isinstance(self.handlers, str) or not isinstance(self.handlers, Sequence):
            raise UnusableInputError(
                f"--handlers: is {self.handlers!r}, wanted a list of Ignite handlers. Leave the option out."
            )
        device = device_of_rank(options.device)
        return options if device == options.device else replace(options, device=device)

    @property
    def network_def(self) -> nn.Module:
        """The network, in eval mode (MONAI's bundle property of that name)."""
        return load_detector(self.read_options()).network

    @property
    def dataset(self) -> ImageDataset | None:
        """The training images (MONAI's bundle property of that name); ``None`` for the demo, which is made by a run."""
        options = self.read_options()
        if options.training_dir is None:
            return None
        return ImageDataset(list_images(options.training_dir, **options.listing), image_size=options.image_size)

    @property
    def evaluator(self) -> SupervisedEvaluator | None:
        """The engine that embeds the training images (MONAI's bundle property of that name); ``None`` for the demo."""
        options, dataset = self.read_options(), self.dataset
        if dataset is None:
            return None
        loader = DataLoader(dataset, batch_size=options.batch_size, num_workers=options.num_workers)
        detector = load_detector(options)
        return create_embedding_evaluator(
            detector.network,
            loader,
            device=options.device,
            inferer=self.inferer,
            handlers=self.handlers,
            prepare_batch=detector.prepare_batch,
        )


class Audit(SearchWorkflow[AuditOptions, AuditResult]):
    """Audit a set of synthetic images for copies of the images that trained their generator.

    Embeds both sets, finds the nearest training images of each synthetic image, compares them on the pixels, classifies
    the synthetic image by that, says how often such a score comes by chance, and writes ``summary.json``,
    ``matches.csv``, ``memorized.csv``, ``report.html`` and ``embeddings/``.

    Args:
        inferer: MONAI inferer that calls the embedder; ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach to the evaluators that embed.
        values: options by name, those of :class:`~monai_deepssim.audit.options.AuditOptions`
            (``docs/auditing.md`` lists them).

    Example:
        >>> Audit(training_dir="images/training").run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = AuditOptions

    def perform(self, options: AuditOptions) -> AuditResult:
        write = current_ranks().is_first
        return perform_audit(options, write=write, inferer=self.inferer, handlers=self.handlers)

    def closing_lines(self, result: AuditResult) -> list[str]:
        return closing_lines(summarize(result), result.matches, result.options.output_dir / "report.html")

    def colour(self, result: AuditResult) -> str | None:
        tone: str = summarize(result)["headline"]["tone"]
        return {"bad": "red", "unsure": "yellow", "good": "green"}[tone]

    def end(self, result: AuditResult) -> None:
        end_unless_passed(result.gate.result, result.gate.reason)
