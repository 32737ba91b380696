"""Catalens and nine other ways to search vectors, on the same vectors, queries and core.

WordNet's glosses, 1,000 of them held out as queries, k = 10, inner product of unit vectors. Every
library has an environment of its own in the cache (made by pip on the first run) and a process of
its own, bound to one and the same core and to one thread by each library's own setting too. All
indexes are built, one after the other; then every setting of every library takes its turn in each
round, each right after the anchor (ScaNN at one setting), so that ratios are of neighbours in time.
Only the call is timed, by the library's own batch call and then query by query; the ids it names
are scored here, against exact similarities in float64. Catalens returns hits with metadata and
explanation, and on a line of its own hits without; the others return ids.

    --vectors DIR   this folder's vectors.npy, queries.npy and, if there, rows.jsonl, not WordNet
    --only NAME     this contestant, and others so named (ScaNN is the anchor: name it too)
    --rounds N      so many rounds in place of 5
    --table         measure nothing: the table of the result that is kept, in markdown
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..harness import Options, Result, command, parse_options
from .contestants import CONTESTANTS
from .run import ROUNDS, Choice, measure
from .table import markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw, print the table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--vectors", type=Path)
    names = [contestant.name for contestant in CONTESTANTS]
    parser.add_argument("--only", action="append", choices=names, default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--table", action="store_true")
    given, rest = parser.parse_known_args(arguments)
    if given.table:
        kept = parse_options("peers", __doc__, rest).out / "peers.json"
        print(markdown(Result.read(kept).figures))
        return 0
    choice = Choice(given.vectors, given.only, given.rounds)

    def run(options: Options) -> Result:
        result = measure(options, choice)
        print(markdown(result.figures))
        return result

    return command("peers", __doc__, run, threads=1, arguments=rest)


if __name__ == "__main__":
    sys.exit(main())
