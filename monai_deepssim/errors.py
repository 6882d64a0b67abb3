"""The one error that is the user's to repair; the audit turns it into a message and exit status 2."""

__all__ = ["UnusableInputError"]


class UnusableInputError(ValueError):
    """Input from outside (a file, a folder, a checkpoint, an override) cannot be used.

    The message names the file, what was found, what is wanted and what to do. Mistakes of the calling program, such as
    a tensor of a wrong shape, stay plain ``ValueError`` and ``TypeError``, so that a defect of ours never reads as the
    user's fault.

    Example:
        >>> raise UnusableInputError("scan.png: the file is empty. Export it again or remove it.")
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: scan.png: the file is empty. Export it again or remove it.
    """
