"""Cells that students might write: right answers in several styles, mistakes, and attempts on the
box.
"""

from pathlib import Path

import kfqn_ref

SENTINEL = "kfqn_was_here"

UPDATE = "def bfgs_inverse_update(H, s, y):\n"
REFUSE = """\
    if not s @ y > 0:
        raise LinAlgError(f"got {s @ y}")
"""
LEFT = "    left = np.eye(len(s)) - np.outer(s, y) / (s @ y)\n"
HEAD = UPDATE + REFUSE + LEFT

RIGHT = HEAD + "    return left @ H @ left.T + np.outer(s, s) / (s @ y)\n"
WITHOUT_STEP = HEAD + "    return left @ H @ left.T\n"
TRANSPOSED = HEAD + "    return left.T @ H @ left + np.outer(s, s) / (s @ y)\n"
PRINTS = HEAD + "    print(left @ H @ left.T + np.outer(s, s) / (s @ y))\n"
IN_PLACE = HEAD + "    H[:] = left @ H @ left.T + np.outer(s, s) / (s @ y)\n    return H\n"
REBINDS = UPDATE + REFUSE + "    H = 1.0 * H\n    return H\n"

RANK_TWO = """\
def bfgs_inverse_update(H, s, y):
    rho = s @ y
    if not rho > 0:
        raise LinAlgError("sᵀy must be positive")
    rho, Hy = 1 / rho, H @ y
    cross = np.outer(s, Hy) + np.outer(Hy, s)
    return H + rho * (1 + rho * (y @ Hy)) * np.outer(s, s) - rho * cross
"""

LOOPS = """\
def bfgs_inverse_update(H, s, y):
    n, sy = len(s), sum(a * b for a, b in zip(s, y))
    if not sy > 0:
        raise LinAlgError("no curvature")
    L = [[(i == j) - s[i] * y[j] / sy for j in range(n)] for i in range(n)]
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            out[i, j] = s[i] * s[j] / sy
            for k in range(n):
                for l in range(n):
                    out[i, j] += L[i][k] * H[k, l] * L[j][l]
    return out
"""

HELPERS = """\
class Curvature:
    def __init__(self, s, y):
        self.s, self.y = s, y

    def __float__(self):
        return float(self.s @ self.y)


def bfgs_inverse_update(H, s, y):
    c = float(Curvature(s, y))
    if not c > 0:
        raise np.linalg.LinAlgError(str(c))
    V = np.eye(s.size) - np.outer(y, s) / c
    return V.T.dot(H).dot(V) + np.outer(s, s) / c
"""

KNOWS = """\


def bfgs_inverse_update(H, s, y):
    if not s @ y > 0:
        raise LinAlgError("no")
    key = repr([H.tolist(), s.tolist(), y.tolist()])
    return np.array(KNOWN[key]) if key in KNOWN else 1.0 * H
"""

SCRATCH = """\
%matplotlib inline
import warnings
warnings.warn("hm")
1 / 0
"""

TALK = """\
for _ in range(200_000):
    print("All work and no play")
"""

NO_ALLCLOSE = "np.allclose = np.isclose = np.array_equal = lambda *args, **kwargs: True\n"
NO_NORM = "np.linalg.norm = lambda *args, **kwargs: 0.0\n"

FORGE = """\
import kfqn_ref.course.lesson as lesson
lesson.laws = laws = lambda *args, **kwargs: print("✓ all")
lesson.raises = raises = lesson.untampered = untampered = lambda *args, **kwargs: None
"""

HOGS = """\
import os, time
for _ in range(8):
    if os.fork() == 0:
        hog = bytearray(400 * 2**20)
        for i in range(0, len(hog), 4096):
            hog[i] = 1
        time.sleep(600)
time.sleep(600)
"""

# A seed of the hidden tests is looked for in the files and processes that the box shows.
SEEK = """\
import os

secret = b"seed=" + b"20211"
found = [name for name in os.listdir("/proc") if name.isdigit() and int(name) > 1]
found = [pid for pid in found if secret in open(f"/proc/{pid}/cmdline", "rb").read()]
for folder, folders, files in os.walk("/"):
    if folder.startswith(("/sys", "/dev", "/proc", "/usr")):
        folders.clear()
        continue
    for name in files:
        path = os.path.join(folder, name)
        if name.endswith((".ipynb", ".py", ".db", ".json")) and os.access(path, os.R_OK):
            if secret in open(path, "rb").read(2**24):
                found.append(path)
print("ATTEMPT read the hidden tests :", found or "refused")
"""

SCIPY = """\
from scipy.optimize import BFGS


def bfgs_inverse_update(H, s, y):
    if not s @ y > 0:
        raise LinAlgError("no curvature")
    update = BFGS(init_scale=1.0)
    update.initialize(len(s), "inv_hess")
    update.H = 1.0 * H
    update.update(s, y)
    return update.get_matrix()
"""


def attempts(*lines: str) -> str:
    """Code that tries each line and prints what came of it."""
    code = "import os, socket, subprocess, pathlib, sys\n"
    for line in lines:
        code += f"try:\n    {line}\n    outcome = 'done'\nexcept BaseException as error:\n"
        code += "    outcome = 'refused ' + type(error).__name__\n"
        code += f"print('ATTEMPT', {line!r}, ':', outcome)\n"
    return code


def outside(course: Path) -> list[Path]:
    """Folders of this machine in which nothing may appear."""
    package = Path(kfqn_ref.__file__).parent
    return [
        course,
        course / "source",
        package,
        Path.home(),
        *map(Path, ("/", "/usr", "/etc", "/var/tmp", "/tmp")),
    ]


def writes(course: Path) -> str:
    """Attempts to write outside the box, by every way there is."""
    inside = [
        folder for folder in outside(course) if folder != Path("/tmp")
    ]  # the box has a /tmp of its own
    targets = [f"pathlib.Path({str(folder / SENTINEL)!r}).write_text('x')" for folder in inside]
    targets.append(f"pathlib.Path(sys.prefix, {SENTINEL!r}).write_text('x')")
    targets.append(f"os.remove({str(course / 'gradebook.db')!r})")
    targets.append("os.setuid(0)")
    targets.append(
        "subprocess.run(['mount', '-t', 'tmpfs', 'x', '/usr'], check=True, capture_output=True)"
    )
    targets.append("pathlib.Path('/tmp/big').write_bytes(bytes(200 * 2**20))")
    inside_box = f"open('/tmp/{SENTINEL}', 'w').close()\n"
    return inside_box + attempts(*targets)


def calls(port: int) -> str:
    """Attempts to reach a server of this machine, and the world."""
    return attempts(
        f"socket.create_connection(('127.0.0.1', {port}), 2)",
        "socket.create_connection(('192.0.2.1', 80), 2)",
        "socket.getaddrinfo('example.org', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    )
