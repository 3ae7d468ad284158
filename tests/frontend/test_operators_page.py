"""docs/operators.md says of every operator of the importer's registries where it runs, and of no other."""

from __future__ import annotations

from compiler.frontend import fuse_ops, operators, read_moves, read_ops, reader


def test_every_operator_of_the_registries_has_a_row_and_no_row_is_left_over() -> None:
    rows = operators.rows()
    named = {row.op for table in rows.values() for row in table}
    known = {op for _, op in [*read_ops.RULES, *read_moves.RULES]} | set(fuse_ops.RULES) | set(reader.ALIASES)
    assert named == known
    words = {*operators._FLOAT, *operators._INTEGER, *operators._MOVES}
    assert words <= known
    assert all(row.how and row.host for table in rows.values() for row in table)
