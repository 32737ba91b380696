"""How damage of the store shows: checksums of values, the header of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.environment import Environment, WriteTransaction
from indexer.errors import CorruptIndexError
from indexer.sealing import seal, unseal
from tests.processes import OPEN_STORE, run_python


def put(env: Environment, database: str, pairs: dict[bytes, bytes]) -> None:
    def work(transaction: WriteTransaction) -> None:
        for key, value in pairs.items():
            transaction.put(database, key, value)

    env.write(work)


@given(key=st.binary(min_size=1, max_size=40), value=st.binary(max_size=60))
def test_every_flipped_bit_of_a_sealed_value_is_found(key: bytes, value: bytes) -> None:
    sealed = seal(key, value)
    assert unseal("db", [(key, sealed)]) == [value]
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptIndexError, match="'db'"):
            unseal("db", [(key, bytes(flipped))])


@given(value=st.binary(max_size=60), cut=st.integers(1, 64))
def test_cut_values_and_swapped_keys_are_found(value: bytes, cut: int) -> None:
    sealed = seal(b"key", value)
    with pytest.raises(CorruptIndexError):
        unseal("db", [(b"kez", sealed)])
    with pytest.raises(CorruptIndexError):
        unseal("db", [(b"key", sealed[: max(0, len(sealed) - cut)])])


@pytest.fixture(scope="module")
def sound_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    env = Environment.acquire(folder, create=True)
    put(env, "db", {number.to_bytes(2): bytes(300) for number in range(1000)})
    env.release()
    return (folder / "data.mdb").read_bytes()


@pytest.mark.parametrize("kept", [0, 1, 4095, 4096, 8191, 8192, 40_960, 0.5, -4096, -1])
def test_cut_store_is_refused_before_it_is_mapped(
    tmp_path: Path, sound_store: bytes, kept: float
) -> None:
    size = int(len(sound_store) * kept) if isinstance(kept, float) else kept
    (tmp_path / "data.mdb").write_bytes(sound_store[:size])
    done = run_python(OPEN_STORE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "CorruptIndexError 1 True\n"), done.stderr


@pytest.mark.parametrize("content", [b"x" * 100_000, bytes(100_000), b"SQLite format 3\0" * 9000])
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    done = run_python(OPEN_STORE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "CorruptIndexError 1 True\n"), done.stderr


def test_whole_store_is_read(tmp_path: Path, sound_store: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(sound_store)
    done = run_python(OPEN_STORE, tmp_path)
    assert done.stdout == "read 1000\n", done.stderr
