"""What the pydantic model of a table knows about each place in it: the keys it takes, and which values are secret."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from equipnet.daemon.lines import Path

_SECRET_WORDS = re.compile(r"passw|passphrase|secret|token|credential|(?:^|[_-])(?:pass|key)(?:$|[_-])", re.IGNORECASE)
_NO_SECRET_ITSELF = re.compile(r"[_-](?:file|path|folder|dir|id|name|type)$", re.IGNORECASE)


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Give the fields of a model by the key that a file uses for them."""
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else name: field
        for name, field in model.model_fields.items()
    }


def secret_files(model: type[BaseModel]) -> dict[str, str]:
    """
    Give the keys that may name a file in place of a secret: ``password_file`` for a `SecretStr` field ``password``.

    Returns
    -------
    dict[str, str]
        The secret's key by the file's key. A field that the model has under such a name itself is not among them.
    """
    keys = keys_of(model)
    return {
        f"{key}_file": key
        for key, field in keys.items()
        if f"{key}_file" not in keys and any(_is_secret_type(kind) for kind in _alternatives(field.annotation))
    }


def models_at(model: type[BaseModel], path: Path) -> tuple[type[BaseModel], ...]:
    """Give the models that a table at ``path`` in a table of ``model`` may have; several where the field is a union."""
    return tuple(kind for kind in _types_at(model, path) if isinstance(kind, type) and issubclass(kind, BaseModel))


def is_secret(model: type[BaseModel] | None, path: Path) -> bool:
    """
    Tell whether a value may not be shown.

    Parameters
    ----------
    model
        The model of the table that ``path`` starts in; None where there is none, and only names can tell.
    path
        Where the value is. It is secret when a `SecretStr` is in the type of its field or one around it, or when a key
        on the way is called like a secret and neither its name nor its type says that it is a file's name.
    """
    for end in range(1, len(path) + 1):
        kinds = tuple(_types_at(model, path[:end])) if model is not None else ()
        if any(_is_secret_type(kind) for kind in kinds if kind is not None):
            return True
        key = path[end - 1]
        if isinstance(key, str) and _SECRET_WORDS.search(key) and not _NO_SECRET_ITSELF.search(key):
            is_file = any(isinstance(kind, type) and issubclass(kind, FilePath) for kind in kinds)
            is_table = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
            if not (is_file or is_table):
                return True
    return False


def _types_at(model: type[BaseModel], path: Path) -> list[Any]:
    kinds: list[Any] = [model]
    for piece in path:
        kinds = [below for kind in kinds for inside in _inside(kind, piece) for below in _alternatives(inside)]
    return kinds


def _inside(kind: Any, piece: str | int) -> Iterator[Any]:
    """Give the types of what ``piece`` leads to in a value of type ``kind``."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = keys_of(kind).get(piece) if isinstance(piece, str) else None
        if field is not None:
            yield field.annotation
        return
    arguments = get_args(kind)
    origin = get_origin(kind)
    if not arguments or not isinstance(origin, type):
        return
    if issubclass(origin, Mapping):
        yield arguments[-1]
    elif origin is tuple and isinstance(piece, int) and Ellipsis not in arguments:
        yield from arguments[piece : piece + 1]
    else:
        yield from (argument for argument in arguments if argument is not Ellipsis)


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Give the types that an annotation allows, without ``Annotated`` and unions around them."""
    annotation = getattr(annotation, "__value__", annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation


def _is_secret_type(kind: Any) -> bool:
    """Tell whether a type is one of pydantic's secrets, or a list or mapping of them."""
    if get_origin(kind) is Literal:
        return False
    if get_args(kind):
        return get_origin(kind) is Secret or any(
            _is_secret_type(below) for argument in get_args(kind) for below in _alternatives(argument)
        )
    return isinstance(kind, type) and issubclass(kind, (SecretStr, SecretBytes, Secret))
