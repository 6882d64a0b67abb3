"""How large the package is: lines of code by room, and the functions that are longer than 60.

    python benchmarks/house.py

A line of code is one that is neither blank nor a comment nor part of a docstring. The limits are 4,000 lines in
`audit/` and 60 in a function; the exit status is 1 where one is exceeded.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "monai_deepssim"
LONGEST_FUNCTION, LARGEST_AUDIT = 60, 4000
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the numbers of the lines of all docstrings below a node."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            lines |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines of code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - docstring_lines(ast.parse(text))


def main() -> None:
    rooms: Counter[str] = Counter()
    long_functions = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = code_lines(text)
        parts = path.relative_to(PACKAGE).parts
        rooms[parts[0] if len(parts) > 1 else "(top)"] += len(lines)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                if length > LONGEST_FUNCTION:
                    long_functions.append((length, f"{'/'.join(parts)}: {node.name}"))
    print("| room | lines of code |\n| --- | --- |")
    for room, count in sorted(rooms.items()):
        print(f"| {room} | {count:,} |")
    print(f"| all | {sum(rooms.values()):,} |")
    met = "met" if rooms["audit"] <= LARGEST_AUDIT else "missed"
    print(f"\naudit: {rooms['audit']:,} lines, at most {LARGEST_AUDIT:,} wanted: {met}")
    print(f"functions over {LONGEST_FUNCTION} lines: {len(long_functions)}")
    for length, name in sorted(long_functions, reverse=True):
        print(f"  {length}  {name}")
    if rooms["audit"] > LARGEST_AUDIT or long_functions:
        sys.exit(1)


if __name__ == "__main__":
    main()
