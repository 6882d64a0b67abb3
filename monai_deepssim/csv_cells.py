"""Texts in CSV files that a spreadsheet does not take for formulas, and that are read back as they were."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["csv_text", "plain_cell", "safe_cell", "safe_table"]

# What begins a formula, also in the wide forms of East Asian keyboards, and what a spreadsheet skips before one.
_FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20\t\r\n"
# Where a cell can begin: at the start, and where another program parts cells or lines, quotes or not.
_START = r"(^|[;\t\r\n])([\"']*)"
_DANGEROUS = re.compile(rf"{_START}(?=[{_FORMULA}])")
_ESCAPED = re.compile(rf"{_START}'(?=[{_FORMULA}])")
# Numbers, also several, are no formulas: they stay numbers.
_NUMBER = r"[+-]?(?:[\d.]+(?:e[+-]?\d+)?|inf|nan)"
_NUMBERS = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*", re.IGNORECASE)


def safe_cell(value: Any) -> Any:
    r"""Put an apostrophe before each place of a text where a spreadsheet could begin to read a formula.

    These are ``=``, ``+``, ``-``, ``@``, a tab and a line break, at the start of the text, or after a semicolon, a tab
    or a line break in it. :func:`plain_cell` gives the text back; apostrophes that were there stay.

    Args:
        value: a cell; only texts are changed, and no texts that are numbers.

    References:
        OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection.

    Example:
        >>> safe_cell("=HYPERLINK(A1).png"), safe_cell("-0.5"), safe_cell("b.png"), safe_cell("x;@SUM(A1)")
        ("'=HYPERLINK(A1).png", '-0.5', 'b.png', "x;'@SUM(A1)")
    """
    if not isinstance(value, str) or _NUMBERS.fullmatch(value):
        return value
    return _DANGEROUS.sub(r"\1\2'", value)


def plain_cell(text: str) -> str:
    """Give a text back as it was before :func:`safe_cell`.

    Args:
        text: the text of a cell.

    Example:
        >>> plain_cell("'=HYPERLINK(A1).png"), plain_cell("'quoted'")
        ('=HYPERLINK(A1).png', "'quoted'")
    """
    return _ESCAPED.sub(r"\1\2", text)


def csv_text(rows: Iterable[Iterable[Any]], line_end: str = "\r\n") -> str:
    r"""Write rows as CSV, with :func:`safe_cell` on every cell.

    Args:
        rows: cells; ``None`` is an empty one.
        line_end: what ends a row.

    Example:
        >>> csv_text([["file", "score"], ["@a.png", -0.5]])
        "file,score\r\n'@a.png,-0.5\r\n"
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end).writerows([[safe_cell(cell) for cell in row] for row in rows])
    return text.getvalue()


def safe_table(table: Any) -> Any:
    """Return a pandas table with :func:`safe_cell` on every cell.

    Args:
        table: the table.

    Example:
        >>> import pandas as pd
        >>> safe_table(pd.DataFrame({"file": ["@a.png"], "score": [-0.5]})).values.tolist()
        [["'@a.png", -0.5]]
    """
    return table.apply(lambda column: column.map(safe_cell))
