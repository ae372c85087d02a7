"""Arrays of the library that a file is written for: ``kfqn check FILE --namespace torch``.

A namespace is a module with ``asarray`` whose arrays NumPy can read: ``numpy``, ``torch``,
``jax.numpy``, ``array_api_strict``. Functions get arrays of it, in the precision that the file
declares, and may return them; the laws stay in NumPy float64.
"""

import importlib
import warnings
from typing import Any

import numpy as np

from kfqn_ref.testing.tolerances import Precision


class UnusableNamespace(Exception):
    """The module is missing, makes no arrays, or makes them of another precision."""


class Namespace:
    """Arrays of one module, in one precision.

    Args:
        name: the module, as ``jax.numpy``.
        precision: of the arrays that functions get.

    Raises:
        UnusableNamespace: the module cannot be used; the message says why.
    """

    def __init__(self, name: str, precision: Precision):
        self.name: str = name
        self.dtype: np.dtype[Any] = np.dtype(precision.name)
        self.module: Any = prepared(name)
        made = self._probe()
        if made.dtype != self.dtype:
            raise UnusableNamespace(
                f"the namespace {name} makes arrays of {made.dtype} where {self.dtype} is asked "
                f"for; a file of that precision declares it, as dtype = {str(made.dtype)!r}"
            )

    def _probe(self) -> np.ndarray:
        """A small array, there and back."""
        try:
            return to_numpy(self.own(np.ones(2)))
        except Exception as error:  # whatever a module that makes no arrays raises
            raise UnusableNamespace(
                f"the namespace {self.name} must have a function asarray whose arrays NumPy can "
                f"read, got {type(error).__name__}: {error}"
            ) from error

    def cast(self, X: np.ndarray) -> np.ndarray:
        """The array in the precision of the functions, with the strides that it has."""
        return X.astype(self.dtype, order="K", copy=False)

    def own(self, X: np.ndarray) -> Any:
        """An array of the namespace that shares nothing with ``X``."""
        return self.module.asarray(np.array(X, dtype=self.dtype))

    def shared(self, X: np.ndarray) -> Any:
        """An array of the namespace in the memory of ``X``: its strides, written to where ``X`` is.

        Returns:
            The array, or None where the namespace has no such array.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a read-only array is not what it can be
                made = self.module.asarray(X)
                seen = to_numpy(made)
        except (TypeError, ValueError, RuntimeError, BufferError, NotImplementedError):
            return None
        same = seen.dtype == X.dtype and seen.shape == X.shape and seen.strides == X.strides
        same = same and seen.flags.writeable == X.flags.writeable
        return made if same and np.may_share_memory(seen, X) else None


def to_numpy(value: Any) -> np.ndarray:
    """A foreign array as NumPy's, without a copy where the library allows that.

    Raises:
        TypeError: the value is no array.
    """
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    raise TypeError(f"an array must have __array__ or __dlpack__, got {type(value).__name__}")


def prepared(name: str) -> Any:
    """Import the module of a namespace; jax makes float64 arrays only if asked before the first.

    Raises:
        UnusableNamespace: it cannot be imported.
    """
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a foreign module may raise anything while it is imported
        raise UnusableNamespace(
            f"the namespace {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if name.partition(".")[0] == "jax":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return module
