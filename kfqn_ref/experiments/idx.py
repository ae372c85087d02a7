"""IDX files: the format in which MNIST and the data sets that imitate it are kept.

An IDX file starts with two zero bytes, a type code and the number of axes; each axis follows as a
big-endian 32-bit integer, and then the numbers themselves.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
HOW_TO_GET = (
    "to get Fashion-MNIST: 'apt-get install dataset-fashion-mnist' on Debian, or "
    "torchvision.datasets.FashionMNIST(DIR, download=True), then --data-dir DIR"
)


class DataError(ValueError):
    """A data file is missing, or is not what it must be; the message names it and says how to get
    it.
    """


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file, gzip or not (seen from its first bytes, not its name).

    Raises:
        DataError: the file is not IDX, or holds fewer or more bytes than its header says.
    """
    raw = _read_bytes(path)
    axes = raw[3] if len(raw) >= 4 else 0
    if raw[:2] != b"\0\0" or axes == 0 or raw[2] not in IDX_TYPES or len(raw) < 4 + 4 * axes:
        raise DataError(
            f"{path} is not an IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}; "
            f"{HOW_TO_GET}"
        )
    dtype = np.dtype(IDX_TYPES[raw[2]])
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=axes, offset=4))
    body = len(raw) - 4 - 4 * axes
    wanted = math.prod(shape) * dtype.itemsize
    if body != wanted:
        kind = "truncated" if body < wanted else "too long"
        raise DataError(
            f"{path} is {kind}: its header {shape} needs {wanted} bytes, got {body}; {HOW_TO_GET}"
        )
    array = np.frombuffer(raw, dtype, offset=4 + 4 * axes).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def _read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it starts as gzip does."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise DataError(f"{path} cannot be read ({error}); {HOW_TO_GET}") from error
