"""What reports share: templates in which everything from the user is escaped, and figures inside of the HTML."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from functools import cache
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from monai_deepssim.files import printable
from monai_deepssim.report.sentences import percent_words, score_words
from monai_deepssim.report.versions import package_versions

__all__ = [
    "INK",
    "data_uri",
    "figure_png",
    "figure_svg",
    "inline_script",
    "markdown_table",
    "render_page",
    "report_environment",
    "themed",
]

#: The colour of text and axes in a figure that is drawn by :func:`figure_svg`.
INK = "#1f2937"

# Colours of figures that follow the page, which has a light and a dark theme: matplotlib's on the left.
_THEME = {INK: "var(--ink)", "#5b6676": "var(--soft)", "#e3e7ee": "var(--line)", "#fffffe": "var(--paper)"}
_THEME |= {"#b93f0c": "var(--duplicate)", "#8a6100": "var(--similar)", "#3c668f": "var(--different)"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#5b6676",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@cache
def report_environment(room: str = "report") -> Environment:
    r"""Make the environment of a room's templates, which extend ``base.html``; each is compiled once per process.

    Everything that comes from the user is escaped; the filter ``shown`` makes names of files printable, too. The
    filter ``percent`` writes a share, and ``date`` a time of ``summary.json``; the test ``given`` tells cells of a
    table from missing ones.

    Args:
        room: room whose templates are loaded; those that they extend are this one's.

    Example:
        >>> report_environment().from_string("{{ name | shown }}: {{ 0.25 | percent }}").render(name="<b>")
        '&lt;b&gt;: 25.0\xa0%'
    """
    package = room if room.startswith("monai_deepssim.") else f"monai_deepssim.{room}"
    loaders = [PackageLoader(name, ".") for name in dict.fromkeys([package, "monai_deepssim.report"])]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = lambda text: printable(str(text))
    environment.filters["percent"] = lambda share, digits=1: percent_words(share, digits).replace(" ", "\u00a0")
    environment.filters["score"] = score_words
    environment.filters["side"] = lambda name: "Held-out" if name == "holdout" else name.capitalize()
    environment.filters["date"] = lambda text: f"{datetime.fromisoformat(text):%d %B %Y, %H:%M} UTC"
    environment.tests["given"] = lambda value: value is not None and bool(pd.notna(value))
    return environment


def render_page(room: str, template: str = "report.html", **values: Any) -> str:
    """Render a report of a room: HTML without scripts that needs no other file and no network.

    Args:
        room: Room of the template.
        template: Name of the template.
        values: What the template shows, beside ``created`` and ``versions``.

    Returns:
        The HTML.
    """
    created = datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC")
    page = report_environment(room).get_template(template)
    return page.render(created=created, versions=package_versions(), **values)


def inline_script(name: str) -> tuple[Markup, str]:
    """Read a script of this room, and make the source expression that lets a page run it and no other.

    Args:
        name: name of the file.

    Returns:
        The script, and ``'sha256-...'`` as Content Security Policy Level 3 wants it.

    Raises:
        ValueError: where the script would end its own element.

    Example:
        >>> inline_script("list.js")[1][:8]
        "'sha256-"
    """
    text = files("monai_deepssim.report").joinpath(name).read_text(encoding="utf-8")
    if "</" in text:
        raise ValueError(f"got a script {name} with '</' in it, want one that cannot end its element")
    digest = hashlib.sha256(text.encode()).digest()
    return Markup(text), f"'sha256-{base64.b64encode(digest).decode()}'"


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


def themed() -> Any:
    """Return the context in which figures for :func:`figure_svg` are made."""
    return mpl.rc_context(_STYLE)


def figure_svg(figure: Figure, label: str) -> Markup:
    """Draw a figure as an SVG element in the colours of the page, which a screen reader calls by its label.

    Args:
        figure: made inside of :func:`themed`.
        label: what the figure shows, in a sentence.

    Example:
        >>> with themed():
        ...     figure = Figure()
        >>> str(figure_svg(figure, "Scores"))[:5]
        '<svg '
    """
    buffer = io.StringIO()
    # A salt of its own: the ids of two figures on a page must differ.
    with mpl.rc_context({"svg.hashsalt": label, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # The page has its own fonts and one style sheet, and ids of groups would be there once per figure.
    for pattern in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r'(?<=<g) id="[^"]*"', r"font-family: [^;]*; "):
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    for colour, variable in _THEME.items():
        svg = svg.replace(colour, variable)
    return Markup(svg.replace("<svg ", Markup('<svg role="img" aria-label="{}" class="figure" ').format(label), 1))


def data_uri(picture: bytes, kind: str = "png") -> str:
    """Put the file of a picture into the text of an ``img`` element.

    Example:
        >>> data_uri(b"PNG")
        'data:image/png;base64,UE5H'
    """
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()
