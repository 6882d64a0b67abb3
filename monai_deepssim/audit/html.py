"""What reports share: templates in which everything from the user is escaped, and pictures inside of the HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from monai_deepssim.files import printable

__all__ = ["data_uri", "data_uris", "figure_png", "report_environment"]


def report_environment(room: str = "audit") -> Environment:
    """Make the environment of a room's templates, which extend ``base.html``.

    Everything that comes from the user is escaped; the filter ``shown`` makes names of files printable, too; the
    test ``given`` tells cells of a table from missing ones.

    Args:
        room: whose templates are loaded; those that they extend are the audit's.

    Example:
        >>> report_environment().from_string("{{ name | shown }}").render(name="<b>")
        '&lt;b&gt;'
    """
    loaders = [PackageLoader(f"monai_deepssim.{name}", ".") for name in dict.fromkeys([room, "audit"])]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = lambda text: printable(str(text))
    environment.tests["given"] = lambda value: bool(pd.notna(value))
    return environment


def figure_png(figure: Figure) -> bytes:
    """Draw a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """Put a PNG file into the text of an ``img`` element.

    Example:
        >>> data_uri(b"PNG")
        'data:image/png;base64,UE5H'
    """
    return "data:image/png;base64," + base64.b64encode(png).decode()


def data_uris(pictures: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, str | None]]:
    """Put named PNG files into the text of ``img`` elements; ``None`` stays what it is."""
    return [(name, None if png is None else data_uri(png)) for name, png in pictures]
