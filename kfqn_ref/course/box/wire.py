"""Messages across the wall of the box: JSON with arrays of numbers; nothing in them is executed.

Both sides use this file. It names no function of the package and holds no expected value.
"""

import base64
import dataclasses
import json
import struct
from collections import namedtuple
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

LARGEST = 64 * 2**20  # bytes of a message
UNUSUAL = "generator of random numbers that is not np.random.default_rng(seed)"


class NotData(TypeError):
    """A value that is no number, array, text, or structure of them."""


class Crossing:
    """An object that crosses as the name of its class and its attributes."""


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message: its length, then its bytes."""
    data = json.dumps(message).encode()
    if len(data) > LARGEST:
        raise NotData(f"a message has at most {LARGEST} bytes, got {len(data)}")
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def encode(value: Any, lend: Callable[[Any], int] | None = None) -> Any:
    """Turn a value into what JSON can hold; whatever is not data becomes its type's name.

    Args:
        lend: numbers a function that the other side may call; without it, functions do not cross.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return {"number": float(value).hex()} if isinstance(value, float) else int(value)
    if isinstance(value, np.ndarray | np.generic):
        return _array(value)
    if isinstance(value, np.random.Generator):
        usual = isinstance(value.bit_generator, np.random.PCG64)
        return {"generator": value.bit_generator.state} if usual else {"other": UNUSUAL}
    if isinstance(value, type):
        return {"other": "class"}
    return _structure(value, lend)


def _array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "fiubc":
        return {"other": type(value).__name__}
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"array": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def _structure(value: Any, lend: Callable[[Any], int] | None) -> Any:
    name = type(value).__name__
    if isinstance(value, dict):
        return {"dict": [[encode(k, lend), encode(v, lend)] for k, v in value.items()]}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = list(value._fields)  # type: ignore[attr-defined]  # a NamedTuple: tested above
        return {"record": name, "fields": fields, "values": [encode(v, lend) for v in value]}
    if isinstance(value, tuple):
        return {"tuple": [encode(part, lend) for part in value]}
    if isinstance(value, list):
        return {"list": [encode(part, lend) for part in value]}
    if isinstance(value, Crossing):
        return {"thing": name, "values": {key: encode(v, lend) for key, v in vars(value).items()}}
    if dataclasses.is_dataclass(value):
        parts = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
        return {"thing": name, "values": {key: encode(part, lend) for key, part in parts}}
    if callable(value) and lend is not None:
        return {"function": lend(value)}
    return {"other": name}


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns messages back into values.

    Args:
        thing: makes an object of a class, by name, from its fields.
        record: the class of a named tuple, by name and fields.
        function: makes a stand-in for a function that the other side lends, by number.
        writable: whether the arrays may be written to.
    """

    thing: Callable[[str, dict[str, Any]], Any]
    record: Callable[[str, list[str]], Any]
    function: Callable[[int], Any]
    writable: bool = True

    def read(self, value: Any) -> Any:
        """Turn one message into its value.

        Raises:
            NotData: it is none.
        """
        if not isinstance(value, dict):
            return value
        match value:
            case {"number": str(text)}:
                return float.fromhex(text)
            case {"array": str(data), "dtype": str(dtype), "shape": list(shape)}:
                return self._array(data, dtype, shape)
            case {"dict": list(items)}:
                return {self.read(key): self.read(item) for key, item in items}
            case {"tuple": list(values)}:
                return tuple(map(self.read, values))
            case {"list": list(values)}:
                return list(map(self.read, values))
        return self._object(value)

    def _object(self, value: dict[str, Any]) -> Any:
        match value:
            case {"record": str(name), "fields": list(fields), "values": list(values)}:
                return self.record(name, list(map(str, fields)))(*map(self.read, values))
            case {"thing": str(name), "values": dict(values)}:
                return self.thing(name, {key: self.read(part) for key, part in values.items()})
            case {"function": int(number)}:
                return self.function(number)
            case {"generator": dict(state)}:
                return generator(state)
        raise NotData(f"numbers and arrays are wanted, got a {value.get('other', 'strange value')}")

    def _array(self, data: str, dtype: str, shape: list[Any]) -> np.ndarray:
        kind = np.dtype(dtype)
        if kind.kind not in "fiubc":
            raise NotData(f"an array of numbers is wanted, got dtype {kind}")
        flat = np.frombuffer(base64.b64decode(data), dtype=kind)
        array = flat.reshape([int(n) for n in shape]).copy()
        array.setflags(write=self.writable)
        return array


def generator(state: dict[str, Any]) -> np.random.Generator:
    """Return the generator of random numbers, of NumPy's default kind, in this state."""
    bits: Any = np.random.PCG64()
    bits.state = state
    return np.random.Generator(bits)


def any_record(name: str, fields: list[str]) -> Any:
    """The class of a named tuple that is known by its fields alone."""
    safe = name if name.isidentifier() else "Record"
    # the fields are known at run time only
    return namedtuple(safe, fields, rename=True)


def refuse_thing(name: str, fields: dict[str, Any]) -> Any:
    """Refuse an object of a class that is not allowed."""
    raise NotData(f"numbers and arrays are wanted, got a {name}")


def refuse_function(number: int) -> Any:
    """Refuse a function of the other side."""
    raise NotData("numbers and arrays are wanted, got a function")
