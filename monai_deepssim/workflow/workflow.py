"""What the workflows of all bundles share: options in, words and an exit status out."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from monai_deepssim.folder_lock import locked_folder
from monai_deepssim.options import option_fields, option_names, options_signature, read_options, unknown_option
from monai_deepssim.progress import say
from monai_deepssim.ranks import current_ranks, joined_ranks
from monai_deepssim.workflow.exit_status import errors_in_words, recorded_status
from monai_deepssim.workflow.overrides import (
    as_typed,
    check_overrides,
    command_line_texts,
    refuse_evaluated,
    refuse_none,
    running_config,
)

__all__ = ["Workflow"]

Options = TypeVar("Options")
Result = TypeVar("Result")


class Workflow(Generic[Options, Result]):
    """A workflow that a bundle's config builds; a subclass names its options and does the work.

    All arguments are plain values, checked by :meth:`run` only: MONAI turns an error in the construction of a config's
    object into a traceback.

    Args:
        values: options by name. One that does not exist is named by :meth:`run`.
    """

    #: The dataclass of its options.
    options_class: ClassVar[type]
    #: Further arguments, which are objects and no options.
    objects: ClassVar[tuple[str, ...]] = ()
    #: Whether the processes that torchrun starts do one run together; else each is a run of its own.
    runs_on_ranks: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        objects = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in cls.objects]
        cls.__signature__ = options_signature(cls.options_class, objects)  # type: ignore[attr-defined]

    def __init__(self, **values: Any) -> None:
        self._values = values

    @classmethod
    def option_names(cls) -> list[str]:
        """Name the options, in the order of the documentation."""
        return [*option_names(cls.options_class), *cls.objects]

    def perform(self, options: Options) -> Result:
        """Do the work and write its files.

        Args:
            options: checked.

        Raises:
            UnusableInputError: when the input cannot be used.
        """
        raise NotImplementedError

    def writes(self, options: Options) -> bool:
        """Whether the run writes into the folder ``output_dir``, which it then has for itself; by default it does."""
        return True

    def closing_lines(self, result: Result) -> list[str]:
        """Say what was found."""
        raise NotImplementedError

    def colour(self, result: Result) -> str | None:
        """Name the colour of the first line; none by default."""
        return None

    def end(self, result: Result) -> None:
        """End the process where the result asks for a status other than 0; by default none does."""

    def run(self) -> Result:
        """Do the work, say what was found, and end the process unless all is well.

        Returns:
            What was found, which is also in the files.

        Raises:
            SystemExit: with status 2 for input that cannot be used or a gate that cannot be decided, 3 for a gate that
                is not passed, and 130 when interrupted.
        """
        with errors_in_words(), joined_ranks() if self.runs_on_ranks else nullcontext():
            options = self.read_options()
            if not self.writes(options):
                return self._perform_and_tell(options)
            folder: Path = options.output_dir  # type: ignore[attr-defined]
            with locked_folder(folder), recorded_status(folder):
                return self._perform_and_tell(options)

    def _perform_and_tell(self, options: Options) -> Result:
        result = self.perform(options)
        if current_ranks().is_first:
            colour = self.colour(result)
            for line in self.closing_lines(result):
                say(line, colour=colour if line else None)
                colour = None if line else colour
            self.end(result)
        return result

    def read_options(self) -> Options:
        """Check the options.

        Raises:
            UnusableInputError: naming the option that cannot be used, what arrived and what is wanted.
        """
        config, names = running_config(), self.option_names()
        values = dict(self._values)
        if config is not None:
            typed, entries = command_line_texts(), option_fields(self.options_class)
            self.check_config(config)
            refuse_none(typed, names)
            refuse_evaluated(typed, entries)
            values = as_typed(values, typed, entries)
        for name in values:
            if name not in names:
                raise unknown_option(name, names)
        options: Options = read_options(self.options_class, values)
        return options

    @classmethod
    def refuse_evaluated_names(cls) -> None:
        """End the process where a name was typed that MONAI evaluates: what a bundle calls before anything else.

        Raises:
            SystemExit: with status 2.
        """
        with errors_in_words():
            refuse_evaluated(command_line_texts(), option_fields(cls.options_class))

    def check_config(self, config: dict[str, Any]) -> None:
        """Refuse overrides that nothing reads, where the config is that of a bundle of ours."""
        names = self.option_names()
        if set(names) <= set(config):
            check_overrides(config, names)
