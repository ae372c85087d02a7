"""What is written by mistake in place of an operation: label, expression, rank, is that all.

``{0}`` and ``{1}`` are the parts of the operation. The lower the rank, the likelier the mistake. A
label that says all is shown alone; after another one the wrong and the right expression are shown.
"""

import ast
from typing import Any

OTHER = {"H_a": "H_g", "H_g": "H_a", "s_g": "y_g", "y_g": "s_g", "h": "Dh", "Dh": "h",
         "s": "y", "y": "s"}  # fmt: skip  # a quantity, and the one it is taken for

BINARY: dict[Any, tuple[str, list[Any]]] = {
    ast.Add: ("{0} + {1}", [
        ("a sign", "{0} - {1}", 0, False), ("a sign", "{1} - {0}", 1, False),
        ("a term is missing", "{0}", 0, False), ("a term is missing", "{1}", 0, False),
        ("a product, where a sum belongs", "{0} * {1}", 3, False)]),
    ast.Sub: ("{0} - {1}", [
        ("a sign", "{0} + {1}", 0, False), ("a sign, old minus new", "{1} - {0}", 0, False),
        ("a term is missing", "{0}", 0, False), ("a term is missing", "-{1}", 1, False),
        ("a term is missing", "{1}", 1, False)]),
    ast.Mult: ("{0} * {1}", [
        ("a factor is missing", "{0}", 0, False), ("a factor is missing", "{1}", 0, False),
        ("a quotient, where a product belongs", "{0} / {1}", 1, False),
        ("a term is missing", "0 * {0} * {1}", 1, False),
        ("a factor twice", "2 * {0} * {1}", 3, False)]),
    ast.Div: ("{0} / {1}", [
        ("a factor is missing", "{0}", 0, False),
        ("a product, where a quotient belongs", "{0} * {1}", 0, False),
        ("a quotient the wrong way round", "{1} / {0}", 2, False),
        ("the complement", "1 - {0} / {1}", 2, False),
        ("a factor is missing", "1 / {1}", 1, False)]),
    ast.MatMult: ("{0} @ {1}", [
        ("a product in the wrong order", "{1} @ {0}", 0, False),
        ("a transpose too many", "{0}.T @ {1}", 1, False),
        ("a transpose too many", "{0} @ {1}.T", 1, False),
        ("a factor is missing", "{0}", 0, False), ("a factor is missing", "{1}", 0, False),
        ("a product entry by entry, where a matrix product belongs", "{0} * {1}", 1, False)]),
}  # fmt: skip  # a mistake a line

SCALARS = [
    ("its complement", "1 - {0}", 1, False), ("a square", "{0} ** 2", 2, False),
    ("a root", "np.sqrt({0})", 1, False), ("its inverse", "1 / {0}", 1, False),
    ("one less", "{0} - 1", 3, False), ("a fixed number", "0.5", 3, False),
    ("a sign", "-{0}", 2, False), ("a factor is missing", "1.0", 2, False),
    ("a term is missing", "0.0", 2, False),
]  # fmt: skip  # several mistakes a line

RESULTS = [
    ("the result is transposed", "{0}.T", 2, True),
    ("the result has the wrong sign", "-{0}", 0, True),
    ("the result is made symmetric, which hides a mistake", "({0} + {0}.T) / 2", 3, True),
    ("only the upper triangle of the result is filled", "np.triu({0})", 2, True),
    ("only the diagonal of the result is filled", "diag({0})", 2, True),
    ("the order of the result's rows is reversed", "{0}[::-1]", 2, True),
    ("the result is rounded to single precision", "{0}.astype(np.float32).astype(float)", 3, True),
    ("the result is rounded to whole numbers", "{0}.astype(int).astype(float)", 3, True),
]

COMPARISONS: dict[str, list[Any]] = {
    ">=": [
        ("the inequality is the wrong way round", "{0} <= {1}", 0, False),
        ("the threshold is 0", "{0} >= 0", 1, False),
        ("the case below the threshold is not treated", "True", 1, True),
        ("the damping always acts, also where it is not needed", "False", 1, True)],
    ">": [("what is tested for a positive value is always used", "True", 2, True),
          ("it is never used", "False", 2, True)],
    "==": [("A is always taken for the matrix, and never for the inputs ā", "True", 1, True),
           ("A is always taken for the inputs ā, and never for the matrix", "False", 1, True)],
}  # fmt: skip  # a mistake a line

REFUSALS = [
    ("nothing is refused: sᵀy is not tested", "True", 0, True),
    ("everything is refused", "False", 1, True),
    ("sᵀy = 0 is accepted: the inequality must be strict", "{0} >= {1}", 0, True),
    ("NaN passes the test: it must be `not sᵀy > 0`", "not {0} <= {1}", 0, True),
    ("NaN and 0 pass the test: it must be `not sᵀy > 0`", "not {0} < {1}", 0, True),
    ("negative sᵀy is accepted, and positive refused", "{0} < {1}", 1, True),
]

# What stands for a quantity by mistake beside the others of its kind.
RIVALS = {"M": ["block.M"], "H_a": ["block.H_g"], "H_g": ["block.H_a"]}

PATHS = {
    "ntgth->gh": [
        ("all pairs of locations t, u are summed, where only t = u belongs", "ntguh->gh")],
    "nta,nub,ntguh->agbh": [
        ("the exact block has only the terms t = u", "nta,ntb,ntgth->agbh")],
    "nta,ntb,ntgth->agbh": [
        ("SUD keeps all pairs of locations t, u", "nta,nub,ntguh->agbh")],
    "tab,tgh->agbh": [("IAD multiplies all pairs of locations", "tab,ugh->agbh")],
    "nta,ntb->ab": [("all pairs of locations t, u are summed, where only t = u belongs",
                     "nta,nub->ab")],
}  # fmt: skip  # a path a line
