"""The boundary between the checks and whatever is put through them.

An implementation is anything with some of the names of :data:`NAMES`: a module, a class, an object,
a dict, or a path to a ``.py`` file. Checks speak NumPy float64; :class:`Implementation` converts on
the way in and out, and sees to it that every argument comes back as it went in.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from kfqn_ref._typing import shape_checks
from kfqn_ref.testing.law import Violation
from kfqn_ref.testing.namespace import Namespace, UnusableNamespace, prepared, to_numpy
from kfqn_ref.testing.tolerances import FLOAT32, FLOAT64, Precision

KERNELS = (
    "powell_damp",
    "identity_damp",
    "lm_damp",
    "double_damp",
    "dp_dlm_damp",
    "bfgs_inverse_update",
    "bfgs_direct_update",
    "lbfgs_push",
    "lbfgs_two_loop",
    "lbfgs_compact",
    "lbfgs_dense",
)
LAYERS = (
    "cvec",
    "cvec_inverse",
    "rvec",
    "rvec_inverse",
    "kron",
    "kron_matvec",
    "im2col",
    "col2im",
    "append_one",
    "input_factor",
    "input_mean",
    "hessian_action",
    "conv_hessian_action",
    "input_pair",
    "output_pair",
    "average_pair",
    "output_factor",
    "layer_blocks",
)
NETWORKS = ("forward_backward", "output_hessian", "optimizer_steps")
NAMES = KERNELS + LAYERS + NETWORKS

UNCHANGED = "The function leaves its arguments as they were."
REAL = "A result is an array of real numbers, or a pair of such arrays."
ALIAS = "A result shares no memory with an argument: it stays as it is when the argument changes."


class UnusableImplementation(Exception):
    """The thing to be checked cannot be loaded, or has none of the names that the checks know."""


class Described(NamedTuple):
    """What a report says of an implementation, besides the results: ``namespace`` names whose
    arrays it was given, and ``missing_layouts`` the layouts that those cannot have.
    """

    label: str
    precision: str = "float64"
    namespace: str = "numpy"
    missing_layouts: tuple[str, ...] = ()


class Implementation:
    """An implementation seen through NumPy float64.

    Args:
        names: its functions by name; other names are ignored.
        to_native: turns a read-only array into what the functions take; the identity by default.
        precision: arithmetic of the functions; tolerances follow it.
        label: what reports call it.
        namespace: whose arrays the functions take, in the place of ``to_native``; functions of
            whole networks take NumPy's whatever it is.
    """

    def __init__(
        self,
        names: Mapping[str, Any],
        *,
        to_native: Callable[[np.ndarray], Any] | None = None,
        precision: Precision = FLOAT64,
        label: str = "implementation",
        namespace: Namespace | None = None,
    ):
        known = {name: names[name] for name in NAMES if callable(names.get(name))}
        self.functions: dict[str, Any] = known
        self.namespace: Namespace | None = namespace
        own = to_native if namespace is None else namespace.own
        self.to_native: Callable[[np.ndarray], Any] | None = own
        self.precision: Precision = precision
        self.label: str = label
        self.u: float = precision.u

    def provides(self, names: Iterable[str]) -> bool:
        """Whether all these names are there."""
        return all(name in self.functions for name in names)

    def cast(self, X: np.ndarray) -> np.ndarray:
        """An array in the precision that the functions are given."""
        return X if self.namespace is None else self.namespace.cast(X)

    def shared(self, X: np.ndarray) -> Any:
        """What the functions take, in the memory of ``X``; None where there is no such array."""
        if self.namespace is not None:
            return self.namespace.shared(X)
        return X if self.to_native is None else None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in NAMES:
            raise AttributeError(name)
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        handed = [self._inward(name, arg) for arg in args]
        try:
            with shape_checks("outer"):
                result = self.functions[name](*handed, **kwargs)
        except ValueError as error:
            if "read-only" in str(error):  # NumPy's words for a write to an argument
                raise Violation(
                    name,
                    "a write to an argument",
                    "no write",
                    "",
                    size=np.inf,
                    tolerance=0.0,
                    law=UNCHANGED,
                ) from error
            raise
        for index, (before, after) in enumerate(zip(args, handed, strict=True)):
            if isinstance(before, np.ndarray):
                _unchanged(f"argument {index + 1} of {name}", before, outward(after))
        if name in KERNELS:
            _no_alias(name, handed, result)
        if name not in NETWORKS:
            _real(name, result)
        return outward(result)

    def _inward(self, name: str, arg: Any) -> Any:
        if self.namespace is not None and isinstance(arg, tuple) and hasattr(arg, "_fields"):
            return type(arg)(*(self._inward(name, part) for part in arg))
        if not isinstance(arg, np.ndarray):
            return arg
        networks = self.namespace is not None and name in NETWORKS
        if self.to_native is not None and not networks:
            return self.to_native(arg)
        copy = arg.copy()
        copy.setflags(write=False)
        return copy


def is_foreign(value: Any) -> bool:
    """Whether a value is an array of another library than NumPy."""
    numpys = isinstance(value, np.ndarray | np.generic)
    return not numpys and (hasattr(value, "detach") or hasattr(value, "__dlpack__"))


def outward(value: Any) -> Any:
    """Turn a result into NumPy: tensors and lists become float64 arrays, tuples of them keep their
    structure.
    """
    if is_foreign(value):
        value = to_numpy(value)
    if isinstance(value, tuple):
        return (
            type(value)(*map(outward, value))
            if hasattr(value, "_fields")
            else tuple(map(outward, value))
        )
    if isinstance(value, np.ndarray) and value.dtype == complex:
        return value
    if isinstance(value, list) and not all(
        isinstance(entry, list | int | float) for entry in value
    ):
        return [outward(entry) for entry in value]
    numeric = isinstance(value, np.ndarray | list | int | float | np.number) or hasattr(
        value, "__array__"
    )
    return np.asarray(value, dtype=np.float64) if numeric else value


def _unchanged(name: str, before: np.ndarray, after: np.ndarray) -> None:
    same = np.array_equal(before, after, equal_nan=True)
    if not same and not np.array_equal(before.astype(np.float32), after, equal_nan=True):
        raise Violation(
            name,
            after,
            "as it was",
            before,
            size=_distance(before, after),
            tolerance=0.0,
            law=UNCHANGED,
        )


def _real(name: str, result: Any) -> None:
    """State that a result consists of real numbers."""
    parts = result if isinstance(result, tuple | list) else (result,)
    for part in parts:
        part = to_numpy(part) if is_foreign(part) else part
        kind = getattr(getattr(part, "dtype", None), "kind", "f")
        if isinstance(part, str | bytes | complex) or part is None or kind not in "fiub":
            got = part if kind in "fiub" else f"an array of {getattr(part, 'dtype', None)}"
            raise Violation(
                f"the result of {name}", got, "an array of real numbers", "", size=np.inf,
                tolerance=0.0, law=REAL,
            )  # fmt: skip


def _no_alias(name: str, handed: list[Any], result: Any) -> None:
    results = result if isinstance(result, tuple) else (result,)
    parts = [_memory(part) for part in results]
    for index, array in enumerate(map(_memory, handed)):
        for part in parts:
            both = isinstance(part, np.ndarray) and isinstance(array, np.ndarray)
            if both and np.may_share_memory(part, array):
                raise Violation(
                    f"the result of {name}",
                    f"the memory of argument {index + 1}",
                    "memory of its own",
                    "a copy",
                    size=np.inf,
                    tolerance=0.0,
                    law=ALIAS,
                )


def _memory(value: Any) -> Any:
    """The memory of an array that can be written to, as NumPy sees it; arrays that nobody can
    change (those of jax) may share theirs.
    """
    if not is_foreign(value):
        return value
    seen = to_numpy(value)
    return seen if seen.flags.writeable else None


def _distance(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.linalg.norm(before - after)) if before.shape == after.shape else np.inf


def load(target: Any, namespace: str | None = None) -> Implementation:
    """Return the implementation behind a module, class, object, dict, ``module:Object`` or path of
    a ``.py`` file.

    An object may say what it takes: ``to_native``, a function of an array, and ``precision`` or
    ``dtype``, "float32" or "float64", also as a dtype; its tolerances follow. With a namespace,
    such as "torch", it takes arrays of that module in this precision.

    Raises:
        UnusableImplementation: it or the namespace cannot be imported, or none of its names is
            known.
    """
    if isinstance(target, Implementation):
        return target
    try:
        return _loaded(target, namespace)
    except UnusableNamespace as error:
        raise UnusableImplementation(str(error)) from error


def _loaded(target: Any, namespace: str | None) -> Implementation:
    if namespace is not None:
        prepared(namespace)  # before the file makes arrays of it
    label = (
        str(target)
        if isinstance(target, str | Path)
        else getattr(target, "__name__", type(target).__name__)
    )
    if isinstance(target, str | Path):
        target = _import(str(target))
    names = (
        target
        if isinstance(target, Mapping)
        else {name: getattr(target, name, None) for name in NAMES}
    )
    options = target.get if isinstance(target, Mapping) else lambda key: getattr(target, key, None)
    precision = _declared(label, options("precision") or options("dtype"))
    given = None if namespace is None else Namespace(namespace, precision)
    implementation = Implementation(
        names,
        to_native=options("to_native"),
        precision=precision,
        label=label,
        namespace=given,
    )
    if not implementation.functions:
        raise UnusableImplementation(
            f"{label} must define at least one of {', '.join(NAMES)}; it defines none"
        )
    return implementation


def _declared(label: str, precision: Any) -> Precision:
    """The arithmetic that an object declares: by name, or as a dtype of any library."""
    if precision is None or isinstance(precision, Precision):
        return precision or FLOAT64
    name = getattr(precision, "__name__", str(precision))
    for known in (FLOAT32, FLOAT64):
        if name.rpartition(".")[2] == known.name:
            return known
    raise UnusableImplementation(
        f"{label} declares the precision {name}; the tolerances are known for float32 and float64"
    )


def _import(target: str) -> Any:
    try:
        if target.endswith(".py"):
            return _import_file(Path(target))
        module, _, name = target.partition(":")
        found = importlib.import_module(module)
        if not name:
            return found
        named = getattr(found, name)
        return named() if _is_class(found, name) else named
    except (Exception, SystemExit) as error:  # whatever the foreign code raises, it cannot be used
        raise UnusableImplementation(
            f"{target} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _is_class(module: ModuleType, name: str) -> bool:
    return bool(name) and isinstance(getattr(module, name), type)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a .py file has a source loader"
    assert spec.loader is not None, "a .py file has a source loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
