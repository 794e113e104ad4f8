"""
The header of HSMS messages (SEMI E37), and frames: from bytes to values and back.

On the wire a message is its length (four bytes, header and text), ten bytes of header, and the text; nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Any

from equipnet.errors import LocalProtocolError
from equipnet.secs import Item, Message, decode_body

#: The bytes of a header; no message is shorter.
HEADER_SIZE = 10

#: The bytes before the text: length and header.
TEXT_START = 14

#: The longest message that its length can announce (E37).
LENGTH_LIMIT = 0xFFFF_FFFF

#: The session id of control messages in HSMS-SS (E37.1).
NO_SESSION = 0xFFFF

#: Length, session id, the two bytes that depend on the sort of message, PType, SType, system bytes.
FRAME = Struct(">IHBBBBI")

_HEADER = Struct(">HBBBBI")


class SType(IntEnum):
    """The sorts of HSMS messages (E37)."""

    DATA = 0
    SELECT_REQ = 1
    SELECT_RSP = 2
    DESELECT_REQ = 3
    DESELECT_RSP = 4
    LINKTEST_REQ = 5
    LINKTEST_RSP = 6
    REJECT_REQ = 7
    SEPARATE_REQ = 9


class SelectStatus(IntEnum):
    """How a Select.req was answered (E37; from 4 on, E37.2)."""

    ESTABLISHED = 0
    ALREADY_ACTIVE = 1
    NOT_READY = 2
    EXHAUSTED = 3
    NO_SUCH_SESSION = 4
    SESSION_IN_USE = 5
    SESSION_SELECTED = 6


class DeselectStatus(IntEnum):
    """How a Deselect.req was answered (E37)."""

    ENDED = 0
    NOT_ESTABLISHED = 1
    BUSY = 2


class RejectReason(IntEnum):
    """Why a message was rejected (E37)."""

    STYPE_NOT_SUPPORTED = 1
    PTYPE_NOT_SUPPORTED = 2
    TRANSACTION_NOT_OPEN = 3
    NOT_SELECTED = 4


_NAMES = {stype: stype.name.capitalize().replace("_", ".") for stype in SType}


@dataclass(frozen=True, slots=True)
class Header:
    """
    The ten bytes of header.

    Parameters
    ----------
    session_id
        The device id in HSMS-SS, `NO_SESSION` in its control messages.
    byte2
        Of a data message the stream, with the W-bit as its highest bit; of a Reject.req what was rejected.
    byte3
        Of a data message the function; of responses their status; of a Reject.req the reason.
    p_type
        0 for SECS-II.
    s_type
        The sort of message (`SType`); equipment may send others.
    system_bytes
        The number of the transaction.
    """

    session_id: int
    byte2: int
    byte3: int
    p_type: int
    s_type: int
    system_bytes: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """
        Read a header.

        Raises
        ------
        LocalProtocolError
            When it is not of ten bytes.
        """
        if len(data) != HEADER_SIZE:
            raise LocalProtocolError(f"A header is of {HEADER_SIZE} bytes, not {len(data)}")
        return cls(*_HEADER.unpack(data))

    def to_bytes(self) -> bytes:
        """The ten bytes."""
        return _HEADER.pack(self.session_id, self.byte2, self.byte3, self.p_type, self.s_type, self.system_bytes)

    def to_frame(self) -> bytes:
        """A whole message that is this header alone."""
        return FRAME.pack(
            HEADER_SIZE, self.session_id, self.byte2, self.byte3, self.p_type, self.s_type, self.system_bytes
        )

    @property
    def is_data(self) -> bool:
        """Whether it is that of a SECS-II message."""
        return self.p_type == 0 and self.s_type == SType.DATA

    @property
    def stream(self) -> int:
        """The stream of a data message."""
        return self.byte2 & 0x7F

    @property
    def function(self) -> int:
        """The function of a data message."""
        return self.byte3

    @property
    def wait(self) -> bool:
        """Whether a data message wants a reply."""
        return self.byte2 > 0x7F

    def __str__(self) -> str:
        """What it is, in a few words: ``S1F1 W session 0 system 7``, ``Select.req session 65535 system 1``."""
        if self.p_type:
            what = f"PType {self.p_type}"
        elif self.s_type == SType.DATA:
            what = f"S{self.stream}F{self.function}{' W' if self.wait else ''}"
        else:
            try:
                what = _NAMES[SType(self.s_type)]
            except ValueError:
                what = f"SType {self.s_type}"
            if self.s_type in (SType.SELECT_RSP, SType.DESELECT_RSP):
                what += f" status {self.byte3}"
            elif self.s_type == SType.REJECT_REQ:
                what += f" reason {self.byte3} of {self.byte2}"
        return f"{what} session {self.session_id} system {self.system_bytes}"

    def to_sml(self) -> str:
        """As `str`, as a comment in SML: a control message has no SML of its own."""
        return f"/* {self} */"


_UNREAD: Any = object()


class ReceivedMessage(Message):
    """
    A SECS-II message as it came: with its header, and with an item that is decoded when it is first asked for.

    Attributes
    ----------
    frame
        All its bytes on the wire, the length included.
    """

    __slots__ = ("_decoding", "_head", "_item", "frame")

    frame: bytes
    _head: tuple[int, int, int, int, int, int, int]
    _item: Item | None
    _decoding: tuple[int, str]

    def __init__(self, frame: bytes, head: Any = None, decoding: tuple[int, str] = (64, "ascii")) -> None:
        """
        Take a whole frame.

        Parameters
        ----------
        frame
            Its bytes.
        head
            The fields of `FRAME`, where somebody has read them already.
        decoding
            How many lists may be in one another, and the encoding of text.
        """
        _set_frame(self, frame)
        _set_head(self, FRAME.unpack_from(frame) if head is None else head)
        _set_decoding(self, decoding)
        _set_item(self, _UNREAD)

    # The base class keeps these in slots of its own; here they are in the header.

    @property
    def stream(self) -> int:  # type: ignore[override]
        """The stream."""
        return self._head[2] & 0x7F

    @property
    def function(self) -> int:  # type: ignore[override]
        """The function."""
        return self._head[3]

    @property
    def wait(self) -> bool:  # type: ignore[override]
        """Whether a reply is wanted."""
        return self._head[2] > 0x7F

    @property
    def item(self) -> Item | None:  # type: ignore[override]
        """
        The item, None where there is only a header.

        Raises
        ------
        DecodeError
            When the text is not one item.
        """
        item = self._item
        if item is _UNREAD:
            depth, encoding = self._decoding
            item = decode_body(self.frame, TEXT_START, max_depth=depth, encoding=encoding)
            _set_item(self, item)
        return item

    @property
    def header(self) -> Header:
        """The header."""
        return Header(*self._head[1:])

    @property
    def session_id(self) -> int:
        """The session id, which is the device id in HSMS-SS."""
        return self._head[1]

    @property
    def system_bytes(self) -> int:
        """The number of the transaction."""
        return self._head[6]

    @property
    def has_text(self) -> bool:
        """Whether there is an item, or what should be one."""
        return len(self.frame) > TEXT_START

    def to_bytes(self) -> bytes:
        return self.frame[TEXT_START:]

    def encode_into(self, pieces: list[bytes | memoryview]) -> None:
        if self.has_text:
            pieces.append(memoryview(self.frame)[TEXT_START:])

    def __reduce__(self) -> Any:
        return ReceivedMessage, (self.frame, None, self._decoding)


_set_frame: Any = ReceivedMessage.__dict__["frame"].__set__
_set_head: Any = ReceivedMessage.__dict__["_head"].__set__
_set_decoding: Any = ReceivedMessage.__dict__["_decoding"].__set__
_set_item: Any = ReceivedMessage.__dict__["_item"].__set__


def encode(message: Message, session_id: int, system_bytes: int) -> list[bytes | memoryview]:
    """
    Give the pieces of a data message's frame; the first is all that stands before the text.

    Raises
    ------
    LocalProtocolError
        When it is longer than any message can be.
    """
    byte2 = message.stream | 0x80 if message.wait else message.stream
    pieces: list[bytes | memoryview] = [b""]
    message.encode_into(pieces)
    length = HEADER_SIZE + sum(map(len, pieces))
    if length > LENGTH_LIMIT:
        raise LocalProtocolError(f"A message has at most {LENGTH_LIMIT} bytes, not {length}")
    pieces[0] = FRAME.pack(length, session_id, byte2, message.function, 0, 0, system_bytes)
    return pieces
