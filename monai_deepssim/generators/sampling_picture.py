"""A look at what a generator draws, while it trains."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.handlers import TensorBoardImageHandler

__all__ = ["FirstBatchImageHandler"]


class FirstBatchImageHandler(TensorBoardImageHandler):
    """MONAI's TensorBoardImageHandler, for the first batch of each run.

    MONAI's own shows the last batch, which is whatever is left over: of 65 images in batches of 16, one. The first
    batch shows the same seeds at every validation.

    Args:
        summary_writer: as of MONAI's handler, whose other arguments are taken, too.

    Example:
        >>> import tempfile
        >>> handler = FirstBatchImageHandler(log_dir=tempfile.mkdtemp())
        >>> handler.epoch_level
        True
    """

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self)
