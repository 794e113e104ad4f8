"""SECS-II (SEMI E5): items, messages and SML. Values and their bytes; no sockets, no time."""

from equipnet.secs.decoding import decode, decode_body
from equipnet.secs.item import (
    LENGTH_LIMIT,
    ArrayItem,
    DecodeError,
    Item,
    L,
    NestedTooDeep,
    NotOneValue,
    UndecodableText,
    encode_into,
)
from equipnet.secs.message import Message
from equipnet.secs.number import BOOLEAN, F4, F8, I1, I2, I4, I8, U1, U2, U4, U8, B, NumericItem
from equipnet.secs.sml import NamedMessage, SmlError, item_from_sml, message_from_sml, messages_from_sml
from equipnet.secs.text import C2, A, J, TextItem

__all__ = [
    "BOOLEAN",
    "C2",
    "F4",
    "F8",
    "I1",
    "I2",
    "I4",
    "I8",
    "LENGTH_LIMIT",
    "U1",
    "U2",
    "U4",
    "U8",
    "A",
    "ArrayItem",
    "B",
    "DecodeError",
    "Item",
    "J",
    "L",
    "Message",
    "NamedMessage",
    "NestedTooDeep",
    "NotOneValue",
    "NumericItem",
    "SmlError",
    "TextItem",
    "UndecodableText",
    "decode",
    "decode_body",
    "encode_into",
    "item_from_sml",
    "message_from_sml",
    "messages_from_sml",
]
