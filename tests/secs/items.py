"""
Items of every format, as hypothesis draws them.
"""

from __future__ import annotations

from hypothesis import strategies as st

from equipnet.secs import BOOLEAN, C2, F4, F8, I1, I2, I4, I8, U1, U2, U4, U8, A, B, Item, J, L


def integers(format_class: type[I1 | I2 | I4 | I8 | U1 | U2 | U4 | U8], low: int, high: int) -> st.SearchStrategy[Item]:
    return st.lists(st.integers(low, high), max_size=5).map(format_class)


def arrays() -> st.SearchStrategy[Item]:
    """Items of all formats but lists, with any content."""
    return st.one_of(
        st.binary(max_size=20).map(B),
        st.lists(st.booleans(), max_size=5).map(BOOLEAN),
        st.binary(max_size=20).map(A),
        st.text(st.characters(max_codepoint=127), max_size=20).map(A),
        st.binary(max_size=20).map(J),
        st.builds(C2, st.binary(max_size=20), st.integers(0, 15) | st.integers(0, 65_535)),
        st.builds(C2, st.text(max_size=20)),
        st.just(C2(charset=None)),
        integers(I1, -(2**7), 2**7 - 1),
        integers(I2, -(2**15), 2**15 - 1),
        integers(I4, -(2**31), 2**31 - 1),
        integers(I8, -(2**63), 2**63 - 1),
        integers(U1, 0, 2**8 - 1),
        integers(U2, 0, 2**16 - 1),
        integers(U4, 0, 2**32 - 1),
        integers(U8, 0, 2**64 - 1),
        st.lists(st.floats(width=32), max_size=5).map(F4),
        st.lists(st.floats(), max_size=5).map(F8),
    )


def items() -> st.SearchStrategy[Item]:
    """Any item."""
    return st.recursive(arrays(), lambda children: st.lists(children, max_size=5).map(L), max_leaves=20)
