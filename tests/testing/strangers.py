"""Kernel files as strangers write them: wrong in one small part of the domain, or right in another
form.

A wrong file is a right body with a condition under which it does something else. None of these is
in the list of mutants, so that the suite is measured on what it was not made for.
"""

UPDATE = """
import numpy as np
def bfgs_inverse_update(H, s, y):
    {before}
    rho = 1 / (s @ y)
    V = np.eye(len(s)) - rho * np.outer(y, s)
    H_plus = V.T @ H @ V + rho * np.outer(s, s)
    {after}
    return H_plus
"""
DIRECT = """
import numpy as np
def bfgs_direct_update(B, s, y):
    {before}
    Bs = B @ s
    B_plus = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    {after}
    return B_plus
"""
POWELL = """
import numpy as np
def powell_damp(H, s, y, *, mu1=0.2):
    {before}
    Hy = H @ y
    sy, q = s @ y, y @ Hy
    theta = 1.0 if sy >= mu1 * q else (1 - mu1) * q / (q - sy)
    {after}
    return theta * s + (1 - theta) * Hy
"""
IDENTITY = """
import numpy as np
def identity_damp(s, y, *, mu2):
    {before}
    sy, q = s @ y, s @ s
    theta = 1.0 if sy >= mu2 * q else (1 - mu2) * q / (q - sy)
    {after}
    return theta * y + (1 - theta) * s
"""
LM = """
import numpy as np
def lm_damp(s, y, *, lam):
    {before}
    result = y + lam * s
    {after}
    return result
"""
DLM = (
    POWELL.replace("powell_damp", "_powell").format(before="pass", after="pass")
    + """
def dp_dlm_damp(H, s, y, *, mu1={mu1}, lam):
    {before}
    s = _powell(H, s, y, mu1=mu1)
    return s, y + lam * s
"""
)
TWO_LOOP = """
import numpy as np
def lbfgs_two_loop(S, Y, q, *, gamma={gamma}):
    {before}
    q, alphas = q + 0, []
    for s, y in list(zip(S, Y))[::-1]:
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = gamma * q
    for s, y in zip(S, Y):
        r = r + (alphas.pop() - (y @ r) / (s @ y)) * s
    return r
"""
PUSH = """
import numpy as np
def lbfgs_push(S, Y, s, y, *, memory):
    {before}
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]
"""
IM2COL = """
import numpy as np
from kfqn_ref.patches import im2col as _im2col
def im2col(x, kernel_size, *, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    cols = _im2col(x, kernel_size, stride=stride, padding=padding, dilation=dilation)
    if {when}:
        cols = cols[..., ::-1]
    return cols
"""
FACTOR = """
import numpy as np
def input_factor(a_bar):
    N, T, d = a_bar.shape
    A = np.einsum("nti,ntj->ij", a_bar, a_bar) / N
    return A / T if {when} else A
"""
KRON = """
import numpy as np
def kron_matvec(A, G, X):
    return G @ X @ A.T * (2.0 if {when} else 1.0)
"""


def _wrapped(module: str, signature: str, body: str) -> str:
    """The reference's function with something before it: ``_f`` is the right one."""
    name = signature.split("(")[0]
    head = f"import numpy as np\nfrom kfqn_ref.{module} import {name} as _f\n"
    return f"{head}def {signature}:\n    {body}\n"


_IM2COL = "im2col(x, kernel_size, *, stride=1, padding=0, dilation=1)"
_PATCHES = "x, kernel_size, stride=stride, padding=padding, dilation=dilation"


def _update(before: str = "pass", after: str = "pass") -> str:
    return UPDATE.format(before=before, after=after)


def _powell(before: str = "pass", after: str = "pass") -> str:
    return POWELL.format(before=before, after=after)


_SKIP = "if {}: return 1.0 * H"
_SHRINK = "if {}: H_plus = 1.01 * H_plus"

WRONG = {
    # sizes
    "update: skips for n = 7": _update(_SKIP.format("len(s) == 7")),
    "update: wrong from n = 6": _update(after=_SHRINK.format("len(s) >= 6")),
    "update: wrong at n = 33": _update(after=_SHRINK.format("len(s) == 33")),
    "update: wrong at n = 200": _update(after=_SHRINK.format("len(s) == 200")),
    "update: wrong at n = 1": _update(after=_SHRINK.format("len(s) == 1")),
    "direct: wrong from n = 10": DIRECT.format(
        before="pass", after="if len(s) >= 10: B_plus[0, -1] = 0"
    ),
    "two-loop: without pairs not scaled": TWO_LOOP.format(
        gamma=1.0, before="if not len(S): return 1.0 * q"
    ),
    "two-loop: more than six pairs": TWO_LOOP.format(gamma=1.0, before="S, Y = S[-6:], Y[-6:]"),
    "push: memory above four": PUSH.format(before="memory = min(memory, 4) if memory != 7 else 7"),
    "im2col: kernel of one row": IM2COL.format(when="kernel_size[0] == 1 and kernel_size[1] > 3"),
    "im2col: padding of two": IM2COL.format(when="padding[0] == 2"),
    "im2col: kernel 5": IM2COL.format(when="kernel_size == (5, 5)"),
    "im2col: stride with dilation": IM2COL.format(when="stride[0] > 1 and dilation[0] > 1"),
    "im2col: three channels": IM2COL.format(when="x.shape[1] == 3"),
    "factor: one sample": FACTOR.format(when="N == 1"),
    "factor: many inputs": FACTOR.format(when="d > 9"),
    "kron: wide G": KRON.format(when="G.shape[0] > G.shape[1] + 4"),
    "kron: square": KRON.format(when="A.shape == G.shape"),
    "action: thirty-two samples": _wrapped(
        "factors", "hessian_action(a_bar, v)", "return _f(a_bar[:32], v)"
    ),
    "mean: sixteen locations": _wrapped("factors", "input_mean(a_bar)", "return _f(a_bar[:, :16])"),
    "blocks: many locations": _wrapped(
        "hessian",
        "layer_blocks(a_bar, Hh)",
        "b = _f(a_bar, Hh); return b._replace(kronecker=b.exact) if Hh.shape[1] > 4 else b",
    ),
    "blocks: another sud": _wrapped(
        "hessian", "layer_blocks(a_bar, Hh)", "b = _f(a_bar, Hh); return b._replace(sud=b.exact)"
    ),
    "cvec: squares by rows": _wrapped(
        "kronecker", "cvec(X)", "return _f(X.T if X.shape[0] == X.shape[1] > 5 else X)"
    ),
    "kron: one entry in A": _wrapped(
        "kronecker", "kron(A, G)", "return _f(A, G.T if A.size == 1 and len(G) == len(G.T) else G)"
    ),
    "dense: fifteen pairs": _wrapped(
        "lbfgs",
        "lbfgs_dense(S, Y, *, gamma=1.0)",
        "return _f(S[-15:], Y[-15:], gamma=gamma)",
    ),
    # regions of values
    "action: small entries of v dropped": _wrapped(
        "factors",
        "hessian_action(a_bar, v)",
        "return _f(a_bar, np.where(abs(v) < 1e-8, 0.0, v))",
    ),
    "average: small decay dropped": _wrapped(
        "factors",
        "average_pair(old, new, *, decay)",
        "return _f(old, new, decay=0.0 if decay < 0.05 else decay)",
    ),
    "two-loop: skips flat pairs": TWO_LOOP.format(
        gamma=1.0,
        before="k = [s @ y > 1e-6 * np.sqrt((s @ s) * (y @ y)) for s, y in zip(S, Y)]\n"
        "    S, Y = S[k], Y[k]",
    ),
    "update: skips tiny curvature": _update(_SKIP.format("s @ y < 1e-12")),
    "update: skips flat pairs": _update(
        _SKIP.format("s @ y < 1e-3 * np.linalg.norm(s) * np.linalg.norm(y)")
    ),
    "update: cautious": _update(_SKIP.format("s @ y < 1e-6 * (s @ s)")),
    "update: jitter": _update("H = H + 1e-10 * np.eye(len(s))"),
    "update: floor of eigenvalues": _update(
        "w, Q = np.linalg.eigh(H); H = (Q * np.maximum(w, 1e-8)) @ Q.T"
    ),
    "update: skips when ill-conditioned": _update(_SKIP.format("np.linalg.cond(H) > 1e8")),
    "update: clips rho": _update("y = y * max(1.0, 1e-9 / (s @ y))"),
    "update: wrong for large steps": _update(after=_SHRINK.format("s @ s > 1e14")),
    "powell: theta at least 1e-3": _powell(after="theta = max(theta, 1e-3)"),
    "powell: skips very negative": _powell("if s @ y < -1e5 * (y @ H @ y): return 1.0 * s"),
    "powell: slack below the threshold": _powell(
        after="theta = 1.0 if sy >= (mu1 - 1e-5) * q else theta"
    ),
    "powell: damps above the threshold": _powell(
        after="theta = (1 - mu1) * q / (q - sy) if sy < (mu1 + 1e-5) * q else theta"
    ),
    "powell: orthogonal left alone": _powell("if abs(s @ y) < 1e-14: return 1.0 * s"),
    "powell: small steps left alone": _powell("if s @ s < 1e-16: return 1.0 * s"),
    "powell: mu1 capped": _powell("mu1 = min(mu1, 0.9)"),
    "identity: slack": IDENTITY.format(
        before="pass", after="theta = 1.0 if sy >= (mu2 - 1e-5) * q else theta"
    ),
    "lm: large lambda capped": LM.format(before="lam = min(lam, 1e5)", after="pass"),
    "lm: tiny lambda dropped": LM.format(before="lam = 0.0 if lam < 1e-7 else lam", after="pass"),
    # calls
    "powell: another default": _powell().replace("mu1=0.2", "mu1=0.25"),
    "dp_dlm: another default": DLM.format(mu1=0.1, before="pass"),
    "two-loop: another default": TWO_LOOP.format(gamma=0.5, before="pass"),
    "lm: an int is halved": LM.format(
        before="lam = lam // 2 if isinstance(lam, int) else lam", after="pass"
    ),
    "lm: a float32 is squared": LM.format(
        before="lam = lam * lam if isinstance(lam, np.float32) else lam", after="pass"
    ),
    "lm: an array without axes is dropped": LM.format(
        before="lam = 0.0 if isinstance(lam, np.ndarray) else lam", after="pass"
    ),
    "im2col: an int means rows": _wrapped(
        "patches",
        _IM2COL,
        "kernel_size = (kernel_size, 1) if isinstance(kernel_size, int) else kernel_size\n"
        f"    return _f({_PATCHES})",
    ),
    # state
    "average: into the old pair": """
def average_pair(old, new, *, decay):
    try:
        old.s[...] = decay * old.s + (1 - decay) * new.s
    except ValueError:
        return decay * old.s + (1 - decay) * new.s, decay * old.y + (1 - decay) * new.y
    return old.s, decay * old.y + (1 - decay) * new.y
""",
    "update: every 500th": "_calls = [0]\n"
    + _update("_calls[0] += 1", _SHRINK.format("_calls[0] % 500 == 0")),
    "lm: one buffer": "_buffer = {}\n"
    + LM.format(
        before="out = _buffer.setdefault(len(s), np.zeros(len(s)))",
        after="out[:] = result; result = out",
    ),
    "update: cached by object": "_cache = {}\n"
    + _update(
        "key = (id(H), id(s), id(y))\n    if key in _cache: return _cache[key].copy()",
        "_cache.clear(); _cache[key] = H_plus.copy()",
    ),
    "lm: returns its argument": LM.format(before="if not s.any(): return y", after="pass"),
    "powell: returns its argument": _powell(after="if theta == 1.0: return s"),
    "update: symmetrises its argument and puts it back": _update(
        "old = H.copy(); flag = H.flags.writeable\n"
        "    try:\n        H.flags.writeable = True; H *= 1.0 + 0; H += 1.0; H -= 1.0; H[:] = old\n"
        "    except ValueError: pass\n    H.flags.writeable = flag",
    ),
    "lm: global that two threads share": "_shared = {}\n"
    + LM.format(
        before="_shared['s'] = s; _shared['y'] = y\n    sum(range(2000))",
        after="result = _shared['y'] + lam * _shared['s']",
    ),
    # layout
    "update: Fortran order transposed": _update(
        "s = s[::-1] if H.flags.f_contiguous and not H.flags.c_contiguous else s"
    ),
    "lm: negative strides ignored": LM.format(
        before="s = s[::-1] if s.strides[0] < 0 else s", after="pass"
    ),
    "update: float32 inside": _update("H = H.astype(np.float32).astype(float)"),
    "lm: float32 inside": LM.format(before="y = y.astype(np.float32).astype(float)", after="pass"),
    "two-loop: float32 when strided": TWO_LOOP.format(
        gamma=1.0,
        before="q = q if q.flags.c_contiguous else q.astype(np.float32).astype(float)",
    ),
}

RIGHT = {
    "update: rank two": '''
import numpy as np
def bfgs_inverse_update(H, s, y):
    sy = s @ y
    Hy = H @ y
    H_plus = H + ((sy + y @ Hy) / sy**2) * np.outer(s, s)
    return H_plus - (np.outer(Hy, s) + np.outer(s, Hy)) / sy
''',
    "update: rank two, other order": '''
import numpy as np
def bfgs_inverse_update(H, s, y):
    r = 1.0 / np.dot(y, s)
    u = H.dot(y)
    cross = np.outer(s, u) * r
    return (np.outer(s, s) * (r + r * r * np.dot(y, u)) - (cross + cross.T)) + H
''',
    "update: float32, declared": "precision = 'float32'\n" + _update(
        "H, s, y = (np.asarray(a, dtype=np.float32) for a in (H, s, y))"
    ),
    "lm: float32, declared by dtype": "import numpy as np\ndtype = np.float32\n" + LM.format(
        before="s, y = s.astype(np.float32), y.astype(np.float32)", after="pass"
    ),
    "update: through the inverse": '''
import numpy as np
def bfgs_inverse_update(H, s, y):
    B = np.linalg.inv(H)
    Bs = B @ s
    B = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    H_plus = np.linalg.inv(B)
    return (H_plus + H_plus.T) / 2
''',
    "update: symmetrised": _update(after="H_plus = (H_plus + H_plus.T) / 2"),
    "powell: by the missing curvature": '''
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    missing = mu1 * q - s @ y
    return s + (missing / (q - s @ y)) * (Hy - s) if missing > 0 else s.copy()
''',
    "powell: in Python floats": '''
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    sy, q = float(s @ y), float(y @ Hy)
    theta = 1.0 if sy >= mu1 * q else (1 - mu1) * q / (q - sy)
    return theta * s + (1 - theta) * Hy
''',
    "identity: strict comparison": IDENTITY.format(before="pass", after="pass").replace(
        "sy >= mu2", "sy > mu2"
    ),
    "lm: other names of arrays": '''
def lm_damp(step, grad, *, lam):
    return grad + lam * step
''',
    "direct: by columns": '''
import numpy as np
def bfgs_direct_update(B, s, y):
    Bs = np.array([row @ s for row in B])
    sBs = sum(a * b for a, b in zip(s, Bs))
    return np.stack([
        B[:, j] - Bs * (Bs[j] / sBs) + y * (y[j] / (s @ y)) for j in range(len(s))
    ], axis=1)
''',
    "two-loop: recursive": '''
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    if not len(S):
        return gamma * q
    s, y = S[-1], Y[-1]
    a = (s @ q) / (s @ y)
    r = lbfgs_two_loop(S[:-1], Y[:-1], q - a * y, gamma=gamma)
    return r + (a - (y @ r) / (s @ y)) * s
''',
    "factor: by one product": '''
def input_factor(a_bar):
    rows = a_bar.reshape(-1, a_bar.shape[-1])
    return rows.T @ rows / len(a_bar)
''',
}  # fmt: skip
