"""
The directive ``state-table``: a table of moves, as the code has it.

``{state-table} equipnet.connection.state.MOVES`` shows a mapping state -> event -> state, a row for each move, so that
the documentation cannot say anything else than the program does.
"""

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from twisted.python.reflect import namedAny


class StateTable(Directive):
    """Show a table of moves."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        rows = [
            (state.value, event.value, new.value)
            for state, moves in namedAny(self.arguments[0]).items()
            for event, new in moves.items()
        ]
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=1) for _ in range(3)]
        group += nodes.thead("", _row(("in state", "when", "goes to")))
        group += nodes.tbody("", *map(_row, rows))
        return [nodes.table("", group)]


def _row(texts: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in texts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("state-table", StateTable)
    return {"parallel_read_safe": True}
