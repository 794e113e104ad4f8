"""What the replies of `supply.toml` call."""

from itertools import count

_asked = count()


def temperature(command: str) -> str:
    """Give a temperature that rises each time that somebody asks for it."""
    return f"{25 + 0.1 * next(_asked):.1f}"
