"""The box in which foreign code runs: bubblewrap, no network, no home, nothing writable but a small
/tmp.

Processes in it have a user of their own, a process tree that dies with the box, and limits on time,
memory, number of processes and size of files. Without bubblewrap nothing runs, unless
``Limits.unsafe`` says so.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import psutil

from kfqn_ref.course import contents
from kfqn_ref.course.clock import Stopwatch

MB = 2**20
INSIDE = "/box"  # where the stub of the package lies

MISSING = (
    "bubblewrap is missing: grading runs foreign code and needs its box. Install it (Debian, "
    "Ubuntu: apt-get install bubblewrap), or pass --unsafe to run submissions as yourself, with "
    "all that you may do."
)


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Args:
        seconds: processor time of a whole box.
        cell_seconds: that of one cell, or of one call. The wall clock allows
            :data:`~kfqn_ref.course.clock.PATIENCE` times as much.
        memory_mb: memory of all processes of a box together.
        file_mb: size of a file, and of /tmp.
        processes: processes and threads.
        unsafe: run without a box; only the time limits remain.

    Raises:
        ValueError: seconds or cell_seconds are below 1, or memory_mb is below 512: nothing would
            run.
    """

    seconds: float = 150.0
    cell_seconds: float = 30.0
    memory_mb: int = 2048
    file_mb: int = 64
    processes: int = 64
    unsafe: bool = False

    def __post_init__(self) -> None:
        for name, least in (("seconds", 1), ("cell_seconds", 1), ("memory_mb", 512)):
            if not least <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


class NoBox(RuntimeError):
    """There is no box to run foreign code in; the message says what to do."""


@cache
def require_box() -> None:
    """Raise ``NoBox`` where bubblewrap is missing or the kernel does not let it work."""
    if shutil.which("bwrap") is None:
        raise NoBox(MISSING)
    trial = subprocess.run(
        [*_box(Limits()), "true"], capture_output=True, text=True, env=_environment(), timeout=60
    )
    if trial.returncode != 0:
        raise NoBox(
            f"bubblewrap cannot make a box here ({trial.stderr.strip() or trial.returncode}). In "
            "containers, allow user namespaces or CAP_SYS_ADMIN; or pass --unsafe."
        )


def require_package() -> None:
    """Raise ``NoBox`` where Python does not start in a box: all that ran in it would score
    nothing.
    """
    with Box("kfqn_ref.worker", limits=Limits()) as box:
        box.communicate(b"")  # no questions: it answers nothing, and ends well
        code = box.process.wait()
    if code != 0:
        raise NoBox(
            f"Python in the box must find IPython and NumPy, and ended with code {code}: install "
            "the package with its libraries into this environment (pip install -e '.[course]')"
        )


_slots = count()


def _box(limits: Limits) -> list[str]:
    """The command line in front of a command: namespaces, mounts, the user, the limits."""
    as_root = os.geteuid() == 0
    size = str(limits.file_mb * MB)
    box = (
        "bwrap --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try".split()
    )
    box += "--die-with-parent --new-session --hostname box --cap-drop ALL".split()
    if as_root:  # limits on processes do not bind root, so the command gets a user of its own
        box += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    else:
        box += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    box += [*_system(size), *_python(size), "--remount-ro", "/", "--chdir", "/tmp", "--"]
    if as_root:  # one user a box, as the limit counts the processes of a user
        user = 60000 + (os.getpid() * 7 + next(_slots)) % 5000
        box += f"setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs".split()
        box += ["--inh-caps=-all", "--bounding-set=-all"]
    memory = limits.memory_mb * MB
    cpu = int(limits.seconds) + 10  # a second net: the guard is to say why
    box += f"prlimit --nproc={limits.processes} --as={memory} --fsize={size} --cpu={cpu}".split()
    return [*box, "--core=0", "--nofile=256", "--"]


def _system(size: str) -> list[str]:
    """Mounts of the system: programs that can be read, an empty /tmp, a process tree of its own."""
    box = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        path = Path("/", name)
        if path.is_symlink():
            box += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            box += ["--ro-bind", str(path), str(path)]
    for place in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/fonts"):
        box += ["--ro-bind-try", place, place]
    box += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm"]
    box += ["--remount-ro", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
    return box


def _python(size: str) -> list[str]:
    """Mounts of Python, of the libraries that an assignment may use, and of the stub."""
    box: list[str] = []
    base = Path(sys.base_prefix)
    own = Path(sys.prefix)
    if not base.is_relative_to("/usr"):
        box += [*_way_to(base), "--ro-bind", str(base), str(base)]
    if own != base:
        box += _way_to(own / "bin")
        for name in ("bin", "pyvenv.cfg"):
            box += ["--ro-bind-try", str(own / name), str(own / name)]
    for place in contents.hidden():
        box += [*_way_to(place), "--perms", "0755", "--size", size, "--tmpfs", str(place)]
    for path in contents.files():
        box += ["--ro-bind", str(path), str(path)]
    for place in contents.hidden():
        box += ["--remount-ro", str(place)]
    return [*box, "--perms", "0755", "--dir", INSIDE, "--ro-bind", str(contents.STUB),
            f"{INSIDE}/kfqn_ref"]  # fmt: skip  # a mount


def _way_to(path: Path) -> list[str]:
    """Make the folders above one, as bubblewrap would make them for root alone."""
    made: list[str] = []
    for parent in [*path.parents][-2::-1]:
        if parent != Path("/usr") and not parent.is_relative_to("/usr"):
            made += ["--perms", "0755", "--dir", str(parent)]
    return made


def _environment(home: str = "/tmp", stub: str = INSIDE) -> dict[str, str]:
    """A cleared environment: nothing of the teacher's own."""
    folders = (
        "HOME",
        "TMPDIR",
        "IPYTHONDIR",
        "MPLCONFIGDIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTER_CONFIG_DIR",
    )
    one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    fixed = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": stub,
        "JOBLIB_MULTIPROCESSING": "0",
    }
    fixed |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
    }
    return fixed | dict.fromkeys(one, "1") | dict.fromkeys(folders, home)


class Box:
    """One run of a Python module in a box, with pipes to its stdin and stdout. Use it in a ``with``
    block.
    """

    def __init__(self, module: str, *arguments: str, limits: Limits):
        self.limits = limits
        self.ended = ""
        self.late = ""
        self._home = "/tmp"
        stub = INSIDE
        front = []
        if limits.unsafe:
            self._home = tempfile.mkdtemp(prefix="kfqn-unsafe-")
            stub = f"{self._home}/box"
            shutil.copytree(contents.STUB, f"{stub}/kfqn_ref")
        else:
            require_box()
            front = _box(limits)
        self.process = subprocess.Popen(
            [*front, sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(self._home, stub),
            cwd=self._home,
            start_new_session=True,
        )
        self._guard = threading.Thread(target=self._watch, daemon=True)
        self._guard.start()

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill("closed")
        self.process.wait()
        self._guard.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None, "both are pipes"
            try:
                stream.close()
            except BrokenPipeError:
                pass  # what was not yet sent to a dead box is not needed
        if self.limits.unsafe:
            shutil.rmtree(self._home, ignore_errors=True)

    def kill(self, reason: str) -> None:
        """End every process of the box; the first reason is kept."""
        self.ended = self.ended or reason
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has already ended

    def _watch(self) -> None:
        """Kill the box when it is out of time, or when its processes together are out of memory."""
        watch = Stopwatch(self.limits.seconds, self.processor_seconds)
        while self.process.poll() is None:
            memory = _of_all(self.process.pid, _own_memory)
            if watch.over():
                self.kill(f"the time limit of {self.limits.seconds:g} s")
            elif watch.late():
                self.late = watch.report("the box")
                self.kill("the wall clock")
            elif sum(memory) > self.limits.memory_mb * MB and not self.limits.unsafe:
                self.kill(
                    f"the memory limit of {self.limits.memory_mb} MB, with {len(memory)} processes"
                )
            try:
                self.process.wait(0.3)
            except subprocess.TimeoutExpired:
                continue

    def processor_seconds(self) -> float:
        """Processor time of the processes that the box has now, and of their children that have
        ended.
        """
        return sum(_of_all(self.process.pid, lambda process: sum(process.cpu_times()[:4])))

    def communicate(self, data: bytes) -> bytes:
        """Send all data, close stdin, and return what comes out until the box ends."""
        assert self.process.stdin is not None, "it is a pipe"
        assert self.process.stdout is not None, "it is a pipe"
        out = []
        reader = threading.Thread(target=lambda: out.append(self.process.stdout.read()))  # type: ignore[union-attr]  # asserted above
        reader.start()
        try:
            self.process.stdin.write(data)
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it had read everything; what came out says the rest
        reader.join()
        return out[0]


def _own_memory(process: psutil.Process) -> float:
    """Bytes of a process, its share of what it has in common with others counted once."""
    try:
        return process.memory_full_info().pss
    except psutil.AccessDenied:
        return process.memory_info().rss


def _of_all(pid: int, measure: Callable[[psutil.Process], float]) -> list[float]:
    """A measure of a process and of each of its descendants; without those that have just ended."""
    found = []
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
    for member in family:
        try:
            found.append(measure(member))
        except psutil.Error:
            continue
    return found
