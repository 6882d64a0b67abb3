"""What reports share: templates in which everything from the user is escaped, and pictures inside of the HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from monai_deepssim.audit.summary import package_versions
from monai_deepssim.files import printable

__all__ = ["data_uri", "data_uris", "figure_png", "markdown_table", "render_report", "report_environment"]


def report_environment(room: str = "audit") -> Environment:
    """Make the environment of a room's templates, which extend ``base.html``.

    Everything that comes from the user is escaped; the filter ``shown`` makes names of files printable, too; the
    test ``given`` tells cells of a table from missing ones.

    Args:
        room: room whose templates are loaded; those that they extend are the audit's.

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


def render_report(room: str, **values: Any) -> str:
    """Render ``report.html`` of a room: HTML without scripts that needs no other file and no network.

    Args:
        room: Room of the template.
        values: What the template shows, beside ``created`` and ``versions``.

    Returns:
        The HTML.
    """
    created = datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC")
    template = report_environment(room).get_template("report.html")
    return template.render(created=created, versions=package_versions(), **values)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a table in Markdown, one line of text per row.

    Example:
        >>> markdown_table(["detector", "AUC"], [["`ssim`", "0.869"]])
        ['| detector | AUC |', '| --- | --- |', '| `ssim` | 0.869 |']
    """
    return ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)]


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
