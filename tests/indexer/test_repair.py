"""`repair`: what was damaged is again what it was, to the bit, or it is told of and no worse."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalens import (
    CatalensError,
    Hit,
    Query,
    Retriever,
    Writer,
    build_index,
    learn_alignment,
    rebuild_index,
    repair_index,
)
from indexer import IndexLayout, Store, tune_generation, verify_index
from indexer.environment import Environment
from indexer.errors import CorruptIndexError, IndexLockedError, NotAnIndexError, RefitNeededError
from tests.catalogs import Opened, build_toy, build_vectors, clustered, png, toy_rows
from tests.processes import run_command, run_python, start_python
from tests.toy_encoders import ToyEncoder

FILES = (
    *("manifest.json", "index.faiss", "rows.f16", "rows.crc32", "row_numbers.u32", "ids.bin"),
    *("mask.u8", "fusion.safetensors", "heads.safetensors"),
)
FIRST = Path("generations/000001")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound indexes, by name: `toy`, `int8`, `codes`, `learned`, and `changed`, which has fresh
    rows and dead ones."""
    root = tmp_path_factory.mktemp("built")
    build_toy(root / "toy", toy_rows(40))
    build_toy(root / "int8", toy_rows(40), profile="memory")
    build_vectors(root / "codes", clustered(1200, 16))
    a = clustered(200, 12, seed=1, clusters=200)
    b = a @ np.random.default_rng(2).standard_normal((12, 8))
    pairs = [{"id": f"v{n}", "a": a[n]} | ({"b": b[n]} if n % 5 else {}) for n in range(200)]
    build_index(pairs, root / "learned", vector={"a": "a", "b": "b"}, device="cpu")
    learn_alignment(root / "learned")
    rebuild_index(root / "learned", missing="impute")
    tune_generation(root / "learned", target=0.9)
    shutil.copytree(root / "toy", root / "changed")
    with Writer.open(root / "changed", device="cpu") as writer:
        writer.add([{"id": f"n{n}", "text": f"red {n}"} for n in range(5)])
        writer.delete(["item-2", "item-7"])
    return root


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    return copied(built, "toy", tmp_path)


def copied(built: Path, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built / name, tmp_path / name))


def asked(name: str) -> Query:
    if name in ("codes", "learned"):
        return Query(like="v3")
    return Query(text="red green")


def hits(index: Path, query: Query, k: int = 30) -> list[Hit]:
    with Retriever.open(index, device="cpu") as shop:
        return shop.search(query, k)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "flip" and data:
        place = len(data) // 2
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    elif how == "cut":
        path.write_bytes(data[:-1])


def folder_of(index: Path) -> Path:
    store = Store.open(IndexLayout(index))
    try:
        current = store.current()
    finally:
        store.close()
    assert current is not None
    return IndexLayout(index).generation(current.generation).root


def check_restored(index: Path, original: Path, query: Query) -> None:
    """A sound index whose files, but for the generation's number, are those of another."""
    assert verify_index(index, all_items=True).problems == []
    before, after = content(folder_of(original)), content(folder_of(index))
    assert {n: h for n, h in before.items() if n != "manifest.json"} == {
        n: h for n, h in after.items() if n != "manifest.json"
    }
    numbered = {"generation": Opened(original).manifest.generation}
    assert Opened(index).manifest.model_copy(update=numbered) == Opened(original).manifest
    assert hits(index, query) == hits(original, query)
    assert len(list(IndexLayout(index).generations.iterdir())) == 1


@pytest.mark.parametrize("how", ["delete", "flip", "cut"])
@pytest.mark.parametrize("name", FILES)
def test_each_damaged_file_is_restored(built: Path, index: Path, name: str, how: str) -> None:
    damaged(index / FIRST / name, how)
    assert verify_index(index).problems
    summary = repair_index(index)
    assert (summary.restored, summary.changed, summary.lost) == ((name,), (), ())
    assert len(summary.damaged) == 1 and name in summary.damaged[0]
    check_restored(index, built / "toy", asked("toy"))


@pytest.mark.parametrize("name", ["toy", "int8", "codes", "learned"])
def test_lost_generation_is_restored(built: Path, tmp_path: Path, name: str) -> None:
    index = copied(built, name, tmp_path)
    shutil.rmtree(index / "generations")
    with pytest.raises(CatalensError, match="catalens repair"):
        Retriever.open(index)
    summary = repair_index(index)
    assert set(summary.restored) == {path.name for path in folder_of(index).iterdir()}
    assert (summary.changed, summary.lost) == ((), ())
    check_restored(index, built / name, asked(name))


@pytest.mark.parametrize("how", ["delete", "flip", "cut"])
@pytest.mark.parametrize("name", ["rows.i8", "row_steps.f32", "index.faiss", "rows.crc32"])
def test_int8_rows_are_restored(built: Path, tmp_path: Path, name: str, how: str) -> None:
    index = copied(built, "int8", tmp_path)
    damaged(folder_of(index) / name, how)
    assert repair_index(index).restored == (name,)
    check_restored(index, built / "int8", asked("int8"))


@pytest.mark.parametrize("how", ["flip", "cut"])
@pytest.mark.parametrize("name", ["manifest.json", "fusion.safetensors", "heads.safetensors"])
def test_what_was_learned_and_tuned_is_restored(
    built: Path, tmp_path: Path, name: str, how: str
) -> None:
    index = copied(built, "learned", tmp_path)
    damaged(folder_of(index) / name, how)
    damaged(folder_of(index) / "rows.f16", how)
    assert set(repair_index(index).restored) == {name, "rows.f16"}
    check_restored(index, built / "learned", asked("learned"))


def test_sound_index_is_left_alone(index: Path) -> None:
    before = content(index / FIRST), content(index / "store")["data.mdb"]
    summary = repair_index(index)
    assert (summary.damaged, summary.restored, summary.changed, summary.lost) == ((), (), (), ())
    assert summary.items == 40
    assert (content(index / FIRST), content(index / "store")["data.mdb"]) == before


@pytest.mark.parametrize("name", FILES)
def test_fresh_and_dead_rows_stay_what_they_are(built: Path, tmp_path: Path, name: str) -> None:
    index = copied(built, "changed", tmp_path)
    before = hits(index, asked("toy"), 43)
    damaged(folder_of(index) / name, "flip")
    summary = repair_index(index)
    assert hits(index, asked("toy"), 43) == before
    assert verify_index(index, all_items=True).problems == []
    store = Store.open(IndexLayout(index))
    with store.snapshot() as snapshot:
        left = snapshot.uncompacted()
    store.close()
    # What the dead ones were is known to nobody: without them, all is derived anew.
    of_dead = name in ("rows.f16", "rows.crc32", "row_numbers.u32", "ids.bin", "mask.u8")
    assert tuple(left) == ((0, 0) if of_dead else (5, 2))
    assert bool(summary.changed) == of_dead and bool(summary.restored) != of_dead


def test_index_that_was_folded_is_trained_anew_and_says_so(tmp_path: Path) -> None:
    index = tmp_path / "index"
    x = clustered(5400, 8)
    build_vectors(index, x[:5200])
    with Writer.open(index) as writer:
        writer.add([{"id": f"n{n}", "v": x[n]} for n in range(5200, 5400)])
        writer.commit()
        assert not writer.compact().trained
    before = hits(index, Query(like="v3"))
    rows = (folder_of(index) / "rows.f16").read_bytes()
    (folder_of(index) / "index.faiss").unlink()
    summary = repair_index(index)
    assert summary.restored == () and "trained anew" in summary.changed[0]
    assert (folder_of(index) / "rows.f16").read_bytes() == rows
    assert verify_index(index).problems == []
    assert [hit.id for hit in hits(index, Query(like="v3"))][:5] == [h.id for h in before][:5]


def spoiled(index: Path, database: str, keys: Callable[[bytes], bool] = lambda key: True) -> int:
    """Flip a bit of the values of some keys, under their checksums; return how many."""
    environment = Environment.acquire(IndexLayout(index).store)
    with environment._env.begin(write=True) as raw:
        handle = environment.open_database(database, raw)
        pairs = [(k, v) for k, v in raw.cursor(handle) if keys(k)]
        for key, value in pairs:
            raw.put(key, bytes([value[0] ^ 1]) + value[1:], db=handle)
    environment.release()
    return len(pairs)


def test_what_the_store_keeps_is_taken_from_the_generation(built: Path, index: Path) -> None:
    assert spoiled(index, "derivation") == 3
    problems = verify_index(index).problems
    assert sum("the store does not keep" in problem for problem in problems) == 3
    with pytest.raises(CorruptIndexError, match="catalens repair"):
        Writer.open(index)
    before = content(index / FIRST)
    summary = repair_index(index)
    assert set(summary.restored) == {
        f"{name} in the store" for name in ("manifest.json", *FILES[-2:])
    }
    assert content(index / FIRST) == before and verify_index(index).problems == []


@pytest.mark.parametrize("name", ["fusion.safetensors", "heads.safetensors"])
def test_lost_in_both_places_is_refitted_with_consent_alone(
    built: Path, tmp_path: Path, name: str
) -> None:
    index = copied(built, "learned", tmp_path)
    key = bytes.fromhex(Opened(index).manifest.files[name].sha256)
    spoiled(index, "derivation", lambda one: one == key)
    damaged(folder_of(index) / name, "cut")
    before = content(folder_of(index)), content(index / "store")["data.mdb"]
    with pytest.raises(RefitNeededError, match=f"{name}.*--refit"):
        repair_index(index)
    assert (content(folder_of(index)), content(index / "store")["data.mdb"]) == before
    summary = repair_index(index, refit=True)
    assert "fitted anew" in summary.changed[-1]
    assert ("heads are lost" in summary.changed[0]) == (name == "heads.safetensors")
    assert bool(Opened(index).manifest.spaces[1].heads) == (name != "heads.safetensors")
    assert verify_index(index).problems == []
    assert hits(index, asked("learned"), 1)[0].id != "v3"


def test_manifest_lost_in_both_places(index: Path) -> None:
    spoiled(index, "derivation")
    damaged(index / FIRST / "manifest.json", "flip")
    with pytest.raises(CorruptIndexError, match="Build the index again"):
        repair_index(index)
    assert build_toy(index, toy_rows(40)).encoded == {"text": 0, "image": 0}
    assert verify_index(index).problems == []


@pytest.mark.parametrize("database", ["ids.1", "postings.1", "fields.1"])
def test_secondary_indexes_are_made_of_the_records(index: Path, database: str) -> None:
    with Retriever.open(index, device="cpu") as shop:
        before = shop.search(Query(text="red"), 20, where="number >= 5 and even = true")
    assert spoiled(index, database, lambda key: key[-1] % 2 == 0)
    summary = repair_index(index)
    assert summary.restored == ("ids and postings of the store",) and not summary.lost
    assert verify_index(index).problems == []
    with Retriever.open(index, device="cpu") as shop:
        assert shop.search(Query(text="red"), 20, where="number >= 5 and even = true") == before


def test_fresh_rows_and_tombstones_are_folded_in(built: Path, tmp_path: Path) -> None:
    for database in ("fresh.1", "tombstones.1"):
        index = copied(built, "changed", tmp_path)
        before = hits(index, asked("toy"), 43)
        spoiled(index, database)
        assert repair_index(index).changed
        assert verify_index(index).problems == []
        assert hits(index, asked("toy"), 43) == before
        shutil.rmtree(index)


def test_damaged_embeddings_are_named_and_encoded_by_an_update(index: Path) -> None:
    rows = toy_rows(40)
    of_text = key_of("toy-text", index)
    spoiled(index, "embeddings", lambda key: key[:16] == of_text)
    damaged(index / FIRST / "rows.f16", "cut")
    before = content(index / FIRST)
    summary = repair_index(index)
    assert (
        "40 items ('item-0', 'item-1'" in summary.lost[0] and "catalens update" in summary.lost[0]
    )
    assert "stays as it is" in summary.lost[1]
    assert content(index / FIRST) == before and summary.restored == ()
    ToyEncoder.encoded.clear()
    with Writer.open(index, device="cpu") as writer:
        writer.update(rows)
        assert writer.commit().unchanged == 40
    assert dict(ToyEncoder.encoded) == {"toy-text": 40}
    assert repair_index(index).restored == ("rows.f16",)
    assert verify_index(index, all_items=True).problems == []


def key_of(kind: str, index: Path) -> bytes:
    for space in Opened(index).manifest.spaces:
        for modality, spec in space.spec.encoders.items():
            if spec.kind == kind:
                return bytes.fromhex(space.fingerprints[modality])
    raise AssertionError(kind)


def test_embeddings_that_nothing_names_are_forgotten(index: Path) -> None:
    with Writer.open(index, device="cpu") as writer:
        writer.delete(["item-0"])  # the only one without a picture among these two
        writer.commit()
        writer.compact(keep_embeddings=True)
    named = {bytes.fromhex(h) for h in hashes_of(index)}
    assert spoiled(index, "embeddings", lambda key: key[16:] not in named) == 1
    assert verify_index(index).problems
    assert not repair_index(index).lost
    assert verify_index(index).problems == []


def hashes_of(index: Path) -> set[str]:
    store = Store.open(IndexLayout(index))
    with store.snapshot() as snapshot:
        found = {
            digest
            for _, inputs in snapshot.scan_inputs()
            for some in inputs.hashes.values()
            for digest in some
        }
    store.close()
    return found


def test_damaged_records_are_named_and_a_build_mends_them(index: Path) -> None:
    spoiled(index, "records.1", lambda key: key == bytes([0, 0, 0, 7]))
    spoiled(index, "inputs.1", lambda key: key == bytes([0, 0, 0, 9]))
    summary = repair_index(index)
    assert "2 items ('item-7', 'item-9')" in summary.lost[0] and "build" in summary.lost[0]
    assert build_toy(index, toy_rows(40)).encoded == {"text": 0, "image": 0}
    assert verify_index(index).problems == [] and not repair_index(index).damaged


@pytest.mark.parametrize("databases", [("records.1",), ("inputs.1",), ("records.1", "inputs.1")])
def test_records_that_are_gone_are_named_and_nothing_is_derived_without_them(
    index: Path, databases: tuple[str, ...]
) -> None:
    store = Store.open(IndexLayout(index))
    for database in databases:
        store.write(lambda t, name=database: t.delete(name, bytes([0, 0, 0, 7])))  # type: ignore[misc]
    store.close()
    before = content(index / FIRST)
    summary = repair_index(index)
    assert "1 items ('item-7')" in summary.lost[0] and not summary.restored
    assert content(index / FIRST) == before
    # Nothing has hidden what is lost: the item is searched as long as it has a record.
    if "records.1" in databases:
        with pytest.raises(CorruptIndexError, match=r"expected 39 items.*got 40"):
            hits_of_ids(index)
    else:
        assert "item-7" in {one.id for one in hits_of_ids(index)}


def hits_of_ids(index: Path) -> list[Hit]:
    with Retriever.open(index, device="cpu") as shop:
        return shop.search(Query(text="red green"), 40, explain=False)


def test_damaged_rejects_are_forgotten(tmp_path: Path) -> None:
    rows = toy_rows(12)
    for row in rows[:5]:
        row["image"] = b"no picture"
    index = tmp_path / "index"
    build_toy(index, rows)
    spoiled(index, "rejects.1", lambda key: key[-1] < 2)
    spoiled(index, "lost.1", lambda key: key == b"item-4")
    summary = repair_index(index)
    assert "2 rejects" in summary.lost[0]
    assert [reject["id"] for reject in Opened(index).rejects] == ["item-2", "item-3", "item-4"]
    assert verify_index(index).problems == []
    with Writer.open(index, device="cpu") as writer:
        writer.update([rows[4] | {"image": png(np.random.default_rng(5))}])
        writer.commit()
    assert [reject["id"] for reject in Opened(index).rejects] == ["item-2", "item-3"]


def test_damaged_pages_are_refused(index: Path) -> None:
    file = IndexLayout(index).store_data
    data = bytearray(file.read_bytes())
    for number in range(2, len(data) // 4096):
        if data[number * 4096 + 10] == 2:
            data[number * 4096 + 10] = 1
    file.write_bytes(data)
    with pytest.raises(CorruptIndexError, match="backup"):
        repair_index(index)
    assert file.read_bytes() == data


def test_readers_go_on_meanwhile(index: Path) -> None:
    query = asked("toy")
    with Retriever.open(index, device="cpu") as shop:
        before = shop.search(query, 30)
        # Another file in its place: who has it open keeps the bytes.
        rows = index / FIRST / "rows.f16"
        rows.rename(rows.with_name("gone"))
        repair_index(index)
        assert shop.search(query, 30) == before
        assert shop.refresh() and shop.search(query, 30) == before
    repair_index(index)
    with Writer.open(index):  # sweeps what the reader held
        assert len(list(IndexLayout(index).generations.iterdir())) == 1


REPAIR = """
import sys
from pathlib import Path
from catalens import repair_index
from indexer.environment import Environment
import indexer.publish, indexer.derive, indexer.restore
from tests.dying import Dying
dies = Dying(int(sys.argv[2]))
Environment.write = dies(Environment.write)
Path.rename = dies(Path.rename)
for module in (indexer.publish, indexer.derive, indexer.restore):
    module.write_file = dies(module.write_file)
    module.sync_folder = dies(module.sync_folder)
for module in (indexer.publish, indexer.restore):
    module.link_file = dies(module.link_file)
repair_index(sys.argv[1])
"""


@pytest.mark.parametrize("name", ["toy", "changed"])
def test_killed_at_each_step(built: Path, tmp_path: Path, name: str) -> None:
    """In between nothing is other than it was: the files that were there, or all of them sound."""
    states = []
    for steps in range(0, 60, 3):
        index = copied(built, name, tmp_path)
        spoiled(index, "postings.1")
        for file in ("mask.u8", "fusion.safetensors"):
            damaged(folder_of(index) / file, "flip")
        before = content(folder_of(index))
        done = run_python(REPAIR, index, steps)
        states.append(content(folder_of(index)) == before)
        assert states[-1] or verify_index(index).problems == []
        repair_index(index)
        assert verify_index(index).problems == []
        assert hits(index, asked("toy"), 40) == hits(built / name, asked("toy"), 40)
        shutil.rmtree(index)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    else:
        pytest.fail("there are more steps")
    assert len(states) > 4 and states == sorted(states, reverse=True)


def test_refusals(index: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAnIndexError):
        repair_index(tmp_path / "none")
    other = start_python(
        "import sys; from catalens import Writer\n"
        "with Writer.open(sys.argv[1]): print(1, flush=True); input()",
        index,
    )
    assert other.stdout and other.stdout.readline()
    with pytest.raises(IndexLockedError, match=str(other.pid)):
        repair_index(index)
    other.communicate("\n")


def test_command(index: Path) -> None:
    done = run_command("repair", index)
    assert done.returncode == 0 and "nothing is damaged; 40 items" in done.stdout
    (index / FIRST / "mask.u8").unlink()
    assert run_command("verify", index).returncode == 1
    done = run_command("repair", index)
    assert done.returncode == 0 and "restored: mask.u8" in done.stdout, done
    assert run_command("verify", index, "--all").returncode == 0
    spoiled(index, "records.1")
    done = run_command("repair", index, "--json")
    assert done.returncode == 1 and '"lost":["the records of 40 items' in done.stdout
    shutil.rmtree(index / "generations")
    spoiled(index, "derivation")
    done = run_command("repair", index, "--refit")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: manifest: expected")


def test_index_of_before_the_store_kept_them_is_mended(tmp_path: Path) -> None:
    index, rows = tmp_path / "index", toy_rows(12)
    rows[4]["image"] = b"no picture"
    build_toy(index, rows)
    store = Store.open(IndexLayout(index))
    store.write(lambda t: (t.drop("derivation"), t.drop("lost.1")))
    store.close()
    with pytest.raises(CorruptIndexError, match="catalens repair"):
        Writer.open(index)
    assert len(repair_index(index).restored) == 3
    assert verify_index(index).problems == []


@pytest.mark.parametrize("name", ["toy", "changed"])
def test_name_of_what_is_current_is_found_again(built: Path, tmp_path: Path, name: str) -> None:
    index = copied(built, name, tmp_path)
    before = hits(index, asked("toy"), 40)
    assert spoiled(index, "meta") == 1
    for use in (Retriever.open, Writer.open, verify_index):
        with pytest.raises(CorruptIndexError):
            use(index)
    summary = repair_index(index)
    assert summary.restored == ("the name of what is current, in the store",)
    assert not summary.changed and not summary.lost
    assert hits(index, asked("toy"), 40) == before
    with Writer.open(index, device="cpu") as writer:
        writer.add([{"id": f"later{n}", "text": f"green {n}"} for n in range(3)])
        writer.delete(["item-9"])
    assert verify_index(index, all_items=True).problems == []
    spoiled(index, "meta")
    spoiled(index, "derivation")
    with pytest.raises(CorruptIndexError, match="another folder"):
        repair_index(index)
