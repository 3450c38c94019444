"""Damage to Parquet files: other types, values that are none, metadata that lie, and 100 million rows."""

from __future__ import annotations

import io
import random
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from damage_bytes import any_bytes, json_value

ROWS = 1 << 27  # of a bomb: labels of a gigabyte in some kilobytes


def parquet_table(rng: random.Random, content: bytes) -> bytes:
    """The metadata, a column, or a row, with everything else right."""
    try:
        table: Any = pq.read_table(io.BytesIO(content))
        changed = rng.choice([_metadata, _metadata, _column, _rows, _rows, _packing])(rng, table)
        return changed if isinstance(changed, bytes) else _written(changed)
    except Exception:  # damaged before, or nothing that Parquet can hold
        return any_bytes(rng, content)


def parquet_bomb(rng: random.Random, content: bytes) -> bytes:
    return _bomb()


def _metadata(rng: random.Random, table: Any) -> Any:
    known = dict(table.schema.metadata or {b"huggingface": b"{}"})
    key = rng.choice([*known])
    known[key] = json_value(rng, known[key])
    return table.replace_schema_metadata(known)


def _column(rng: random.Random, table: Any) -> Any:
    at, rows = rng.randrange(table.num_columns), table.num_rows
    columns = [
        pa.array([rng.choice([-1, 0, 2**62, -(2**63)])] * rows), pa.array([rng.choice([float("nan"), 1.5])] * rows),
        pa.array(["x\0\x1b[2J"] * rows), pa.array([b"\xff\xfe"] * rows), pa.nulls(rows), pa.array([[1]] * rows),
        pa.array([{"bytes": b"x", "path": "../x"}] * rows), pa.array([{"path": "x"}] * rows), pa.array([True] * rows),
        pa.array([{"bytes": None, "path": None}] * rows), pa.array(["x"] * rows).dictionary_encode(),
        pa.array(np.zeros(rows, "M8[s]")), pa.array(np.arange(rows) + 2**31),
    ]  # fmt: skip
    name = rng.choice([table.column_names[at]] * 3 + ["x", "", "\x1b[2J", "a.b"])
    return table.set_column(at, name, rng.choice(columns))


def _rows(rng: random.Random, table: Any) -> Any:
    """None, or one twice; one in another's place; no columns but one."""
    made = [
        table.slice(0, 0), pa.concat_tables([table, table]), table.take([0] * table.num_rows), table.select([0]),
        table.append_column(table.column_names[0], table.column(0)), table.take([*range(table.num_rows)][::-1]),
    ]  # fmt: skip
    return rng.choice(made)


def _packing(rng: random.Random, table: Any) -> bytes:
    return _written(
        table, compression=rng.choice(["zstd", "gzip", "brotli", "lz4", "none"]), row_group_size=rng.choice([1, 2, 100])
    )


def _written(table: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **how)
    return buffer.getvalue()


@cache
def _bomb() -> bytes:
    """Rows without an image, of one class."""
    groups, buffer = 8, io.BytesIO()
    columns = {"image": pa.nulls(ROWS // groups, pa.binary()), "label": pa.array(np.zeros(ROWS // groups, np.int64))}
    part = pa.table(columns)
    with pq.ParquetWriter(buffer, part.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(part)
    return buffer.getvalue()
