"""Boards as TOML files with a source for every number; clusters and topologies.

`load_cluster(spec)` is what the compiler starts from; `device_db.topology` tells routes and link rates."""

from __future__ import annotations

from device_db.boards import (
    board_names,
    check_board_file,
    database_hash,
    describe_board,
    load_board,
    load_board_file,
)
from device_db.clusters import TOPOLOGIES, load_cluster

__all__ = [
    "TOPOLOGIES",
    "board_names",
    "check_board_file",
    "database_hash",
    "describe_board",
    "load_board",
    "load_board_file",
    "load_cluster",
]
