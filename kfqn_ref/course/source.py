"""What the source of a cell says, as IPython reads it: its functions, and what is new in it."""

import ast
import re

from IPython.core.inputtransformer2 import TransformerManager

DEFINITIONS = ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign


def plain(source: str) -> str:
    """The cell as Python: magics become calls. Text that IPython cannot read stays as it is."""
    try:
        return TransformerManager().transform_cell(source)
    except (SyntaxError, ValueError, RecursionError):
        return source


def statements(source: str) -> list[ast.stmt] | None:
    """The statements of a cell; None where it is not Python."""
    try:
        return ast.parse(plain(source)).body
    except (SyntaxError, ValueError, RecursionError):
        return None


def defined(source: str) -> set[str]:
    """Names of the functions that a cell defines; by its lines where it is not Python."""
    body = statements(source)
    if body is None:
        return set(re.findall(r"^def (\w+)", source, re.MULTILINE))
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def same(left: str, right: str) -> bool:
    """Whether two cells are the same but for their layout and comments."""
    trees = statements(left), statements(right)
    if trees[0] is None or trees[1] is None or not trees[0]:
        return left.split() == right.split()
    return list(map(ast.dump, trees[0])) == list(map(ast.dump, trees[1]))


def additions(source: str, old: str) -> str:
    """Definitions, imports and assignments of a cell that the old one does not have."""
    body = statements(source)
    known = {ast.dump(node) for node in statements(old) or []}
    new = [
        node for node in body or [] if isinstance(node, DEFINITIONS) and ast.dump(node) not in known
    ]
    return "\n".join(ast.get_source_segment(plain(source), node) or "" for node in new)
