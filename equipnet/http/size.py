"""Numbers of bytes as people write them."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", re.ASCII)


def parse_size(size: int | str) -> int:
    """
    Give a number of bytes.

    Parameters
    ----------
    size
        A number, or a text such as ``"20 MiB"``; the units are B, kB, MB, GB, KiB, MiB and GiB.

    Raises
    ------
    ValueError
        When it is neither; the text names the units.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    found = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    unit = next((unit for unit in _UNITS if found and unit.lower() == found[2].lower()), None)
    if found is None or unit is None:
        raise ValueError(f"{size!r} is not a number of bytes; write one such as 500000, '500 kB' or '20 MiB'")
    return int(Fraction(found[1]) * _UNITS[unit])


#: A number of bytes in a section of the configuration.
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(ge=1)]
