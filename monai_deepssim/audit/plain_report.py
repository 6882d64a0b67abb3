"""What reports of tables and figures share: the template's environment, and pictures inside of the HTML."""

from __future__ import annotations

import base64
import io

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from monai_deepssim.files import printable

__all__ = ["data_uri", "figure_png", "plain_environment"]


def plain_environment() -> Environment:
    """Make the environment of the templates that extend ``plain_report.html``.

    Everything that comes from the user is escaped; the filter ``shown`` makes names of files printable, too.

    Example:
        >>> plain_environment().from_string("{{ name | shown }}").render(name="<b>")
        '&lt;b&gt;'
    """
    environment = Environment(
        loader=PackageLoader("monai_deepssim.audit", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = lambda text: printable(str(text))
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
