"""Rows and blocks of either type: what is written is read, flipped bits are found, odd sizes."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import CorruptIndexError
from indexer.row_codecs import FLOAT16, Int8, RowCodec
from indexer.rows import ROWS_PER_BLOCK, Rows, RowWriter


def codec_of(rows: str, vectors: np.ndarray) -> RowCodec:
    return FLOAT16 if rows == "float16" else Int8.fit([vectors], vectors.shape[1])


both_types = pytest.mark.parametrize("rows_type", ["float16", "int8"])


def write(folder: Path, vectors: np.ndarray, steps: list[int], codec: RowCodec = FLOAT16) -> Rows:
    writer = RowWriter(folder / "rows", folder / "sums", vectors.shape[1], codec)
    start = 0
    for step in steps:
        writer.write(vectors[start : start + step])
        start += step
    assert start == len(vectors)
    (size, _), (sums, _) = writer.close()
    assert size == (folder / "rows").stat().st_size == vectors.size * codec.dtype.itemsize
    assert sums == -(-len(vectors) // ROWS_PER_BLOCK) * 4
    return Rows(folder / "rows", folder / "sums", vectors.shape[1], codec)


@both_types
@pytest.mark.parametrize(
    "steps", [[1], [16], [17], [1, 1, 1], [15, 2, 16, 31, 1], [33, 0, 7], [100], [5] * 13]
)
@pytest.mark.parametrize("dimension", [4, 12, 60])
def test_written_rows_are_read(
    tmp_path: Path, steps: list[int], dimension: int, rows_type: str
) -> None:
    vectors = np.random.default_rng(len(steps)).standard_normal((sum(steps), dimension))
    vectors = vectors.astype(np.float32)
    codec = codec_of(rows_type, vectors)
    rows = write(tmp_path, vectors, steps, codec)
    if rows_type == "float16":
        stored = vectors.astype(np.float16)
        expected = stored.astype(np.float32)
    else:
        step = np.abs(vectors).max(axis=0) / np.float32(127)
        stored = (np.rint(vectors / step) + 128).astype(np.uint8)
        expected = (stored.astype(np.float32) - 128) * step
    assert (tmp_path / "rows").read_bytes() == stored.tobytes() == rows.stored.tobytes()
    assert (rows.dimension, rows.row_bytes) == (dimension, dimension * stored.itemsize)
    sums = [
        zlib.crc32(stored[start : start + ROWS_PER_BLOCK].tobytes())
        for start in range(0, len(stored), ROWS_PER_BLOCK)
    ]
    assert np.fromfile(tmp_path / "sums", dtype="<u4").tolist() == sums
    assert len(rows) == len(vectors)
    order = np.random.default_rng(1).permutation(len(vectors))
    assert np.array_equal(rows.take(order), expected[order])
    pieces = list(rows.chunks(7))
    assert [start for start, _ in pieces] == list(range(0, len(vectors), 7))
    assert np.array_equal(np.concatenate([x for _, x in pieces]), expected)


def test_no_positions_are_no_rows(tmp_path: Path) -> None:
    rows = write(tmp_path, np.ones((3, 4), dtype=np.float32), [3])
    assert rows.take(np.array([], dtype=np.int64)).shape == (0, 4)


@both_types
def test_every_flipped_bit_is_found_in_its_block_alone(tmp_path: Path, rows_type: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    codec = codec_of(rows_type, vectors)
    write(tmp_path, vectors, [40], codec)
    read = codec.decode(codec.encode(vectors))
    sound = (tmp_path / "rows").read_bytes()
    per_block = ROWS_PER_BLOCK * 8 * codec.dtype.itemsize
    places = [0, 1, per_block - 1, per_block, 2 * per_block, len(sound) - 1]
    places += np.random.default_rng(1).integers(len(sound), size=30).tolist()
    for place in places:
        for bit in range(8):
            broken = bytearray(sound)
            broken[place] ^= 1 << bit
            (tmp_path / "rows").write_bytes(broken)
            rows = Rows(tmp_path / "rows", tmp_path / "sums", 8, codec)
            block = place // per_block
            first = block * ROWS_PER_BLOCK
            with pytest.raises(CorruptIndexError, match=f"rows from {first};"):
                rows.take(np.array([first]))
            others = [n for n in range(40) if n // ROWS_PER_BLOCK != block]
            assert np.array_equal(rows.take(np.array(others)), read[others])
            with pytest.raises(CorruptIndexError):  # found again, not remembered as checked
                rows.take(np.array([first]))


def test_many_threads_check_every_block_and_stop_at_damage(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((ROWS_PER_BLOCK * 600, 256))
    write(tmp_path, vectors.astype(np.float32), [len(vectors)])
    file = tmp_path / "rows"
    content = bytearray(file.read_bytes())
    for damaged in (False, True):
        if damaged:
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        rows = Rows(file, tmp_path / "sums", 256)
        # More than there are blocks, from all threads at once.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _, rows=rows: rows.check(1), range(900)))
        assert rows.is_checked is not damaged
        assert rows.check() is not damaged
