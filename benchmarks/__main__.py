"""All benchmarks: `python -m benchmarks [NAME ...]`, which is `make bench`.

python -m benchmarks                  run all, print the table of targets
python -m benchmarks recall opening   run these
python -m benchmarks table            the table from the results that are kept
python -m benchmarks figures          draw the pictures anew from them
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from .harness import Options, add_options, options_from, say
from .table import BENCHMARKS, load_results, markdown


def run_each(names: Sequence[str], options: Options) -> list[str]:
    """Run benchmarks, each in a process of its own; return those that failed."""
    extra = ["--out", str(options.out)]
    extra += [] if options.items is None else ["--items", str(options.items)]
    extra += [] if options.plots else ["--json-only"]
    failed = []
    for name in names:
        say(f"== {name}")
        command = [sys.executable, "-m", f"benchmarks.{name}", *extra]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was named; a missed target is a result, not a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    add_options(parser)
    given = parser.parse_args(arguments)
    options = options_from(given)
    known = {*BENCHMARKS, "table", "figures"}
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(sorted(known))}")
    chosen = [name for name in BENCHMARKS if name in given.names or not given.names]
    failed = run_each(chosen, options)
    results = load_results(options.out)
    if "figures" in given.names:
        from .figures import draw

        for result in results:
            for picture in draw(result, options.out):
                say(f"drew {picture}")
    if not given.names or "table" in given.names or chosen:
        print(markdown(results))
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
