"""
The directives ``state-table`` and ``state-diagram``: a table of moves, written out and drawn, as the code has it.

An event is a member of an enumeration, or the type of a message that comes.

``{state-table} equipnet.connection.state.MOVES`` shows a mapping state -> event -> state, a row for each move, and
``{state-diagram}`` draws it, so that the documentation cannot say anything else than the program does. Where what
follows is no state, ``:result: what is done`` gives the last column another head.
"""

import math
from collections.abc import Iterator, Mapping
from enum import Enum
from html import escape
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx
from twisted.python.reflect import namedAny

Moves = Mapping[Enum, Mapping[Enum | type, Enum]]

#: The size of a state's box and of a line of text, and how far the diagram is from its edge, in pixels.
BOX_WIDTH, BOX_HEIGHT, LINE, MARGIN = 124, 36, 15, 70

STYLE = "font: 13px sans-serif; max-width: 100%; height: auto; color: var(--color-foreground-primary, currentColor)"


class StateTable(Directive):
    """Show a table of moves."""

    required_arguments = 1
    option_spec = {"result": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        rows = [
            (state.value, _name(event), new.value)
            for state, moves in namedAny(self.arguments[0]).items()
            for event, new in moves.items()
        ]
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=1) for _ in range(3)]
        group += nodes.thead("", _row(("in state", "when", self.options.get("result", "goes to"))))
        group += nodes.tbody("", *map(_row, rows))
        return [nodes.table("", group)]


class StateDiagram(Directive):
    """Draw a table of moves."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", drawing(namedAny(self.arguments[0])), format="html")]


def drawing(moves: Moves) -> str:
    """Draw the states of a table on a circle, and its moves as arrows that bend to the right; gives SVG."""
    states = list(dict.fromkeys([*moves, *(new for row in moves.values() for new in row.values())]))
    radius = max(120, 38 * len(states))
    center = radius + MARGIN
    places = {}
    for index, state in enumerate(states):
        angle = 2 * math.pi * index / len(states) - math.pi / 2
        places[state] = (center * 1.35 + 1.35 * radius * math.cos(angle), center + radius * math.sin(angle))
    events: dict[tuple[Enum, Enum], list[str]] = {}
    for state, row in moves.items():
        for event, new in row.items():
            events.setdefault((state, new), []).append(_name(event))
    width, height = 2.7 * center, 2 * center
    parts = [
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" style="{STYLE}" role="img">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L10,5 L0,10 z" fill="currentColor"/></marker></defs>',
    ]
    for (old, new), names in events.items():
        parts.extend(_arrow(places[old], places[new], names))
    for state, (x, y) in places.items():
        parts.append(
            f'<rect x="{x - BOX_WIDTH / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
            'rx="9" fill="var(--color-background-secondary, #eee)" stroke="currentColor"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-weight="bold" fill="currentColor">'
            f"{escape(state.value)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def _name(event: Enum | type) -> str:
    return event.__name__ if isinstance(event, type) else str(event.value)


def _arrow(begin: tuple[float, float], end: tuple[float, float], names: list[str]) -> Iterator[str]:
    if begin == end:
        yield from _loop(*begin, names)
        return
    (x1, y1), (x2, y2) = _edge(begin, end), _edge(end, begin)
    bend = 0.22
    cx, cy = (x1 + x2) / 2 - bend * (y2 - y1), (y1 + y2) / 2 + bend * (x2 - x1)
    yield (
        f'<path d="M{x1:.1f},{y1:.1f} Q{cx:.1f},{cy:.1f} {x2:.1f},{y2:.1f}" fill="none" stroke="currentColor" '
        'marker-end="url(#tip)"/>'
    )
    # The middle of the curve.
    yield from _label((x1 + 2 * cx + x2) / 4, (y1 + 2 * cy + y2) / 4, names)


def _loop(x: float, y: float, names: list[str]) -> Iterator[str]:
    """A move that leads back to where it began, below the box."""
    bottom = y + BOX_HEIGHT / 2
    yield (
        f'<path d="M{x + 25:.1f},{bottom:.1f} C{x + 35:.1f},{bottom + 40:.1f} {x - 35:.1f},{bottom + 40:.1f} '
        f'{x - 25:.1f},{bottom:.1f}" fill="none" stroke="currentColor" marker-end="url(#tip)"/>'
    )
    yield from _label(x, bottom + 32, names)


def _label(x: float, y: float, names: list[str]) -> Iterator[str]:
    y -= (len(names) - 1) * LINE / 2
    for line, name in enumerate(names):
        yield (
            f'<text x="{x:.1f}" y="{y + 4 + line * LINE:.1f}" text-anchor="middle" fill="currentColor" '
            'stroke="var(--color-background-primary, #fff)" stroke-width="4" paint-order="stroke">'
            f"{escape(name)}</text>"
        )


def _edge(inside: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Give where the line from the middle of a box to another place leaves the box."""
    dx, dy = towards[0] - inside[0], towards[1] - inside[1]
    shares: list[Any] = [BOX_WIDTH / 2 / abs(dx)] if dx else []
    shares += [BOX_HEIGHT / 2 / abs(dy)] if dy else []
    share = min(shares)
    return inside[0] + dx * share, inside[1] + dy * share


def _row(texts: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in texts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directives."""
    app.add_directive("state-table", StateTable)
    app.add_directive("state-diagram", StateDiagram)
    return {"parallel_read_safe": True}
