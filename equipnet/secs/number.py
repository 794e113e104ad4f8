"""
SECS-II items of numbers, of truth values and of bytes. Each is an array; one value is an array of one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from equipnet.errors import LocalProtocolError
from equipnet.secs.item import LENGTH_LIMIT, ArrayItem, NotOneValue, check_length, listable

if TYPE_CHECKING:
    from typing_extensions import Self

N = TypeVar("N", int, float, bool)

# A repr shows no more values, and no more bytes, than these.
_REPR_VALUES = 16
_REPR_BYTES = 60

_TRUTHS = (b"\x00", b"\x01")

# What struct and numpy raise for a value that does not fit.
_UNFIT = (struct.error, OverflowError, TypeError, ValueError)


class NumericItem(ArrayItem, Generic[N]):
    """
    An array of numbers, of truth values or of bytes.

    Parameters
    ----------
    values
        Any number of values, or one iterable or numpy array of them: ``U4(1)``, ``U4(1, 2)``, ``U4([1, 2])``. A numpy
        array is converted as a whole and copied once.

    Raises
    ------
    LocalProtocolError
        When a value is not of the format's kind or out of its range, and when there are too many. Nothing is cut off or
        rounded, except that a float may have more digits than the format has room for.
    """

    __slots__ = ()

    #: The numpy type of the values on the wire.
    dtype: ClassVar[np.dtype[Any]]

    _letter: ClassVar[str]  # of the struct module
    _one: ClassVar[struct.Struct]
    _width: ClassVar[int]
    _holds: ClassVar[str]  # in words, for errors

    def __init_subclass__(cls, code: int | None = None, letter: str = "", holds: str = "") -> None:
        super().__init_subclass__(code)
        if code is not None:
            cls._letter = letter
            cls._one = struct.Struct(">" + letter)
            cls._width = cls._one.size
            cls._holds = holds
            cls.dtype = np.dtype(">" + letter)
            listable(cls)

    @overload
    def __init__(self, *values: N) -> None: ...
    @overload
    def __init__(self, values: Iterable[N] | NDArray[Any], /) -> None: ...
    def __init__(self, *arguments: Any) -> None:
        values: list[Any] | tuple[Any, ...] = arguments
        if len(arguments) == 1:
            (value,) = arguments
            if isinstance(value, np.ndarray):
                self._content = self._from_array(value)
                return
            if isinstance(value, (str, bytes, bytearray, memoryview)):
                raise self._refusal(values)
            if not isinstance(value, (int, float)) and isinstance(value, Iterable):
                check_length(length_hint(value) * self._width)
                limit = LENGTH_LIMIT // self._width + 1  # something that never ends is not read for ever
                values = value if isinstance(value, (list, tuple)) else tuple(islice(value, limit))
        self._content = self._pack(values)

    @property
    def value(self) -> N:
        """
        The value of an array of one.

        Raises
        ------
        NotOneValue
            When there is none, or more than one.
        """
        content = self._content
        if len(content) != self._width:
            raise NotOneValue(f"{self!r} has {len(self)} values, not one")
        one: N = self._one.unpack(content)[0]
        return one

    @property
    def values(self) -> tuple[N, ...]:
        """All values, made anew each time."""
        return struct.unpack(f">{len(self)}{self._letter}", self._content)

    def to_numpy(self) -> NDArray[Any]:
        """The values as a read-only array of type `dtype`, which shares their memory."""
        if not self._content:
            return np.empty(0, self.dtype)
        return np.frombuffer(self._content, self.dtype)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.to_numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __len__(self) -> int:
        return len(self._content) // self._width

    @overload
    def __getitem__(self, index: int) -> N: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> N | Self:
        length = len(self)
        width = self._width
        if isinstance(index, slice):
            start, stop, step = index.indices(length)
            if step == 1:
                return self._of(self._content[start * width : max(start, stop) * width])
            return self._of(self.to_numpy()[index].tobytes())
        at = index + length if index < 0 else index
        if not 0 <= at < length:
            raise IndexError(f"There is no value {index} in an item of {length}")
        one: N = self._one.unpack_from(self._content, at * width)[0]
        return one

    def __iter__(self) -> Iterator[N]:
        return iter(self.values)

    def _sml(self) -> str:
        return f"[{len(self)}] {self._sml_values()}" if self._content else "[0]"

    def _sml_values(self) -> str:
        return " ".join(map(str, self.values))

    def _repr(self) -> str:
        shown = ", ".join(map(repr, self[:_REPR_VALUES].values))
        return shown if len(self) <= _REPR_VALUES else f"{shown}, ... {len(self)} values"

    @classmethod
    def _pack(cls, values: list[Any] | tuple[Any, ...]) -> bytes:
        try:
            if len(values) == 1:
                return cls._one.pack(values[0])
            check_length(len(values) * cls._width)
            # Not struct.pack, which copies its arguments once more and takes twice the time.
            return struct.Struct(f">{len(values)}{cls._letter}").pack(*values)
        except _UNFIT:
            raise cls._refusal(values) from None

    @classmethod
    def _from_array(cls, array: NDArray[Any]) -> bytes | memoryview:
        if array.ndim > 1:
            raise LocalProtocolError(f"An item has one dimension, not {array.ndim}")
        check_length(array.size * cls._width)
        if array.dtype == object:
            return cls._pack(array.reshape(-1).tolist())
        converted = cls._convert(array)
        if converted is None:
            raise cls._refusal(array.reshape(-1).tolist())
        converted.setflags(write=False)
        return converted.reshape(-1).view(np.uint8).data if converted.size else b""

    @classmethod
    def _convert(cls, array: NDArray[Any]) -> NDArray[Any] | None:
        """A new array of type `dtype` with the same values, None when one cannot be held."""
        raise NotImplementedError

    @classmethod
    def _refusal(cls, values: Iterable[Any]) -> LocalProtocolError:
        """The error that names the first value which cannot be held."""
        for position, value in enumerate(values):
            try:
                cls._one.pack(value)
            except _UNFIT:
                return LocalProtocolError(f"{cls.__name__} holds {cls._holds}; value {position} is {value!r:.80}")
        return LocalProtocolError(f"{cls.__name__} holds {cls._holds}")


class _Integers(NumericItem[int]):
    __slots__ = ()

    @classmethod
    def _convert(cls, array: NDArray[Any]) -> NDArray[Any] | None:
        if array.dtype.kind not in "iub":
            return None
        if array.size and not np.can_cast(array.dtype, cls.dtype):
            bounds = np.iinfo(cls.dtype)
            if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
                return None
        return array.astype(cls.dtype, order="C")


class I1(_Integers, code=0o31, letter="b", holds="whole numbers from -128 to 127"):
    """Signed integers of one byte."""

    __slots__ = ()


class I2(_Integers, code=0o32, letter="h", holds="whole numbers from -32768 to 32767"):
    """Signed integers of two bytes."""

    __slots__ = ()


class I4(_Integers, code=0o34, letter="i", holds="whole numbers from -2147483648 to 2147483647"):
    """Signed integers of four bytes."""

    __slots__ = ()


class I8(_Integers, code=0o30, letter="q", holds="whole numbers from -9223372036854775808 to 9223372036854775807"):
    """Signed integers of eight bytes."""

    __slots__ = ()


class U1(_Integers, code=0o51, letter="B", holds="whole numbers from 0 to 255"):
    """Unsigned integers of one byte."""

    __slots__ = ()


class U2(_Integers, code=0o52, letter="H", holds="whole numbers from 0 to 65535"):
    """Unsigned integers of two bytes."""

    __slots__ = ()


class U4(_Integers, code=0o54, letter="I", holds="whole numbers from 0 to 4294967295"):
    """Unsigned integers of four bytes."""

    __slots__ = ()


class U8(_Integers, code=0o50, letter="Q", holds="whole numbers from 0 to 18446744073709551615"):
    """Unsigned integers of eight bytes."""

    __slots__ = ()


class _Floats(NumericItem[float]):
    __slots__ = ()

    # The bits of the NaN that SML calls simply NaN, and how all bits are read.
    _nan: ClassVar[bytes]

    @classmethod
    def _convert(cls, array: NDArray[Any]) -> NDArray[Any] | None:
        if array.dtype.kind not in "iuf":
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            converted = array.astype(cls.dtype, order="C")
        if not np.can_cast(array.dtype, cls.dtype) and (np.isinf(converted) & ~np.isinf(array)).any():
            return None
        return converted

    def _sml_values(self) -> str:
        width = self._width
        content = self.content
        return " ".join(
            self._sml_value(value, content[at : at + width])
            for value, at in zip(self.values, range(0, len(content), width), strict=True)
        )

    @classmethod
    def _sml_value(cls, value: float, raw: bytes) -> str:
        if math.isfinite(value):
            return cls._sml_digits(value, raw)
        if value == value:
            return "Inf" if value > 0 else "-Inf"
        return "NaN" if raw == cls._nan else f"NaN(0x{raw.hex().upper()})"

    @classmethod
    def _sml_digits(cls, value: float, raw: bytes) -> str:
        return repr(value)


class F4(_Floats, code=0o44, letter="f", holds="numbers up to 3.4028234663852886e+38"):
    """Floats of four bytes (IEEE 754)."""

    __slots__ = ()

    _nan = bytes.fromhex("7FC00000")

    @classmethod
    def _sml_digits(cls, value: float, raw: bytes) -> str:
        for digits in (6, 7, 8, 9):
            short = float(f"{value:.{digits}g}")
            try:
                if cls._one.pack(short) == raw:
                    return repr(short)
            except OverflowError:  # rounded up beyond the largest
                pass
        return repr(value)


class F8(_Floats, code=0o40, letter="d", holds="numbers up to 1.7976931348623157e+308"):
    """Floats of eight bytes (IEEE 754)."""

    __slots__ = ()

    _nan = bytes.fromhex("7FF8000000000000")


class BOOLEAN(NumericItem[bool], code=0o11, letter="?", holds="True and False"):
    """
    Truth values.

    Any byte but 0 is true on the wire; 1 is what is sent, and what is kept of all others.
    """

    __slots__ = ()

    @staticmethod
    def truths(content: bytes | memoryview) -> bytes | memoryview:
        """The content with 1 for every true byte."""
        if content in _TRUTHS:
            return content
        truths: memoryview = (np.frombuffer(content, np.uint8) != 0).view(np.uint8).data
        return truths.toreadonly()

    @classmethod
    def _pack(cls, values: list[Any] | tuple[Any, ...]) -> bytes:
        # Anything has a truth, but the text "False" has the wrong one.
        if not all(isinstance(value, (int, np.bool_)) for value in values):
            raise cls._refusal(values)
        return super()._pack(values)

    @classmethod
    def _convert(cls, array: NDArray[Any]) -> NDArray[Any] | None:
        return array != 0 if array.dtype.kind in "iub" else None

    @classmethod
    def _refusal(cls, values: Iterable[Any]) -> LocalProtocolError:
        wrong = next((value for value in values if not isinstance(value, (int, np.bool_))), None)
        return LocalProtocolError(f"BOOLEAN holds True and False, not {wrong!r:.80}")

    def _sml_values(self) -> str:
        return " ".join(("FALSE", "TRUE")[value] for value in self.values)


class B(NumericItem[int], code=0o10, letter="B", holds="whole numbers from 0 to 255, or bytes"):
    """
    Bytes without a meaning of their own: flags, acknowledgements, recipes.

    Besides numbers it takes bytes: ``B(b"recipe")``, ``B(0)``. An object of type `bytes` is kept, not copied.
    """

    __slots__ = ()

    @overload
    def __init__(self, *values: int) -> None: ...
    @overload
    def __init__(self, values: Iterable[int] | NDArray[Any] | bytes | bytearray | memoryview, /) -> None: ...
    def __init__(self, *values: Any) -> None:
        if len(values) == 1 and isinstance(values[0], (bytes, bytearray, memoryview)):
            check_length(memoryview(values[0]).nbytes)
            self._content = bytes(values[0])
        else:
            super().__init__(*values)

    @classmethod
    def _convert(cls, array: NDArray[Any]) -> NDArray[Any] | None:
        return U1._convert(array)

    def _sml_values(self) -> str:
        return "0x" + self._content.hex(" ").upper().replace(" ", " 0x")

    def _repr(self) -> str:
        if len(self) <= 1:
            return str(self.value) if self._content else ""
        shown = repr(bytes(self._content[:_REPR_BYTES]))
        return shown if len(self) <= _REPR_BYTES else f"{shown}, ... {len(self)} bytes"
