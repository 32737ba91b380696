"""Real datasets, fetched once into a cache folder as ordinary catalog dumps.

    stamps    952 stamps: titles in 70 languages, pictures, sounds, speech (holes in all)
    clipart   8,121 pictures with titles and keywords
    wordnet   117,659 glosses: a text corpus of 10^5 sentences
    movielens 1,682 films, and 100,000 ratings of them with times

Each function returns a folder with `catalog.jsonl` in it. The cache is `$CATALENS_CACHE`,
or `~/.cache/catalens/datasets`. From the shell, the path is what is printed:

    python -m benchmarks.datasets stamps
    python -m benchmarks.datasets stamps --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoders.errors import CatalensError

from .conversion import Counts, convert_clipart, convert_stamps, convert_wordnet
from .debian import Say, fetch_package
from .errors import DatasetUnavailableError
from .movielens_data import convert_movielens
from .wheels import fetch_wheel

MANIFEST = "dataset.json"
"""Names source, version and counts. Written last: a folder without it is not a dataset."""


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from, and how it becomes a catalog."""

    name: str
    packages: tuple[str, ...]
    megabytes: int
    licence: str
    convert: Callable[[Path, Path], Counts]
    # Counts up with every change of `convert`: a cached dump of another revision is made anew.
    revision: int = 1
    fetch: Callable[..., str] = fetch_package


SOURCES = {
    source.name: source
    for source in (
        Source("stamps", ("tuxpaint-stamps-default",), 160, "GPL-2", convert_stamps),
        Source(
            "clipart",
            ("openclipart-png", "openclipart-svg"),
            155,
            "public domain",
            convert_clipart,
        ),
        Source("wordnet", ("wordnet-base",), 7, "WordNet licence (MIT-like)", convert_wordnet),
        Source(
            "movielens",
            ("recbole",),
            3,
            "MovieLens-100k: for research, not to be passed on (GroupLens)",
            convert_movielens,
            fetch=fetch_wheel,
        ),
    )
}


def stamps(out: Path | None = None) -> Path:
    """Tux Paint's stamps; beside the catalog lie `translations.jsonl` and `spoken.jsonl`."""
    return prepare(SOURCES["stamps"], out)


def clipart(out: Path | None = None) -> Path:
    """The Open Clip Art Library."""
    return prepare(SOURCES["clipart"], out)


def wordnet(out: Path | None = None) -> Path:
    """WordNet 3.0's synsets."""
    return prepare(SOURCES["wordnet"], out)


def movielens(out: Path | None = None) -> Path:
    """MovieLens-100k; beside the catalog lies `interactions.csv`."""
    return prepare(SOURCES["movielens"], out)


def cache_folder() -> Path:
    """`$CATALENS_CACHE`, or `~/.cache/catalens/datasets`."""
    chosen = os.environ.get("CATALENS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "catalens" / "datasets"


def prepare(source: Source, out: Path | None = None, *, say: Say | None = None) -> Path:
    """Return the dataset's folder, fetched and converted where it is not there yet.

    `out` is the folder itself, by default the source's name in the cache. The work is done
    in a temporary folder beside it and renamed, so a folder with a manifest is whole; of
    several processes one works and the others wait for it.
    """
    say = say or _to_stderr
    target = (out or cache_folder() / source.name).expanduser().resolve()
    try:
        if _is_current(target, source):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(target):
            if not _is_current(target, source):
                _check_replaceable(target)
                _build(source, target, say)
    except OSError as error:
        raise DatasetUnavailableError(
            f"the dataset {source.name} cannot be stored",
            expected=f"room for about {3 * source.megabytes} MB at {target.parent}",
            got=f"{error.strerror or error} ({error.filename or target})",
            remedy="Make room, or name another place with --out or CATALENS_CACHE.",
        ) from error
    return target


def _build(source: Source, target: Path, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix=_temporary_prefix(target), dir=target.parent) as temp:
        unpacked, dump = Path(temp, "unpacked"), Path(temp, "dump")
        unpacked.mkdir()
        dump.mkdir()
        say(f"fetching {' and '.join(source.packages)} ({source.megabytes} MB, once)")
        versions = {name: source.fetch(name, unpacked, say=say) for name in source.packages}
        say(f"converting {source.name}")
        counts = source.convert(unpacked, dump)
        for name in source.packages:
            terms = unpacked / f"usr/share/doc/{name}/copyright"
            if terms.is_file():  # a wheel has none of the data it brings
                shutil.copyfile(terms, dump / f"COPYRIGHT.{name}")
        manifest = {
            "name": source.name,
            "revision": source.revision,
            "packages": versions,
            "licence": source.licence,
            "counts": counts,
        }
        (dump / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        if target.exists():
            target.rename(Path(temp, "replaced"))
        dump.rename(target)


def _is_current(target: Path, source: Source) -> bool:
    try:
        manifest = json.loads((target / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return isinstance(manifest, dict) and (
        (manifest.get("name"), manifest.get("revision")) == (source.name, source.revision)
    )


def _check_replaceable(target: Path) -> None:
    """Only a dataset of ours, or an empty folder, is replaced: never somebody's files."""
    if target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir())):
        return
    if target.exists():
        raise DatasetUnavailableError(
            f"{target} cannot be replaced",
            expected=f"a new or empty folder, or a dataset with its {MANIFEST}",
            got="a folder with other files" if target.is_dir() else "a file",
            remedy="Name another folder with --out.",
        )


def _temporary_prefix(target: Path) -> str:
    return f".{target.name}.partial-"


@contextlib.contextmanager
def _exclusive(target: Path) -> Iterator[None]:
    """Hold the dataset's lock; sweep what killed processes left, which nobody holds then."""
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in target.parent.glob(f"{_temporary_prefix(target)}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        yield


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch one dataset and print the path of its folder."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.datasets", description="Fetch a dataset, print its folder."
    )
    parser.add_argument("dataset", choices=sorted(SOURCES))
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder (default: the cache)")
    options = parser.parse_args(arguments)
    try:
        print(prepare(SOURCES[options.dataset], options.out))
    except CatalensError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
