"""`make demo`: a real catalog, an index of it, and a question of each kind.

The index is built by the command line, as a user would; the questions go through the
Python API, so that the models are loaded once, and each is shown as both.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

import catalens as cl
from catalens.terminal import hits_table
from encoders.errors import CatalensError

from .datasets import SOURCES, prepare
from .demo_questions import DemoCatalog, Question, stamps_catalog, synthetic_catalog
from .errors import DatasetUnavailableError, DemoFailedError
from .synthetic import make_catalog, make_query_media

_K = 5


def choose_catalog(folder: Path, console: Console, *, synthetic: bool = False) -> DemoCatalog:
    """The stamps; or, where they cannot be fetched, a catalog drawn below `folder`."""
    if not synthetic:
        try:
            return stamps_catalog(prepare(SOURCES["stamps"], say=console.print))
        except DatasetUnavailableError as error:
            console.print(Text(f"No stamps: {error}", style="yellow"))
            console.print("Going on with a catalog of shapes and sounds made here.\n")
    catalog = make_catalog(folder / "synthetic")
    photo, clip = make_query_media(folder / "questions", "star", "blue")
    return synthetic_catalog(catalog, photo, clip)


def build(catalog: DemoCatalog, index: Path, program: Path, console: Console) -> None:
    """Run `catalens build`, with its progress on this terminal."""
    command = [str(program), "build", str(catalog.path), "--out", str(index)]
    for role, columns in catalog.columns.items():
        command += [f"--{role}", ",".join(columns)]
    _show_shell(shlex.join(command), console)
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise DemoFailedError(
            "the index was not built",
            expected=f"the program {program}",
            got=error.strerror or str(error),
            remedy="Run `make install`, then try again.",
        ) from error
    if code != 0:
        raise DemoFailedError(
            "the index was not built",
            expected="`catalens build` to exit with 0",
            got=str(code),
            remedy="Its message stands above.",
        )


def ask(
    shop: cl.Retriever, question: Question, catalog: DemoCatalog, shell: str, console: Console
) -> None:
    """Show a question in all its forms, and the answer."""
    console.print()
    console.print(Rule(Text(question.caption, style="bold"), align="left", style="dim"))
    _show_shell(shell, console)
    console.print(Text(f">>> {question.python(_K)}", style="cyan"), soft_wrap=True)
    hits = shop.search(cl.Query(**question.arguments()), k=_K, where=question.where)
    if hits:
        # What a person knows an item by; the command prints all metadata there is.
        shown = [
            hit._replace(
                metadata={name: hit.metadata.get(name) for name in catalog.columns["text"]}
            )
            for hit in hits
        ]
        console.print(hits_table(shown, console.width), soft_wrap=True)
    else:
        console.print("no item matches", style="yellow")


def show_next_steps(
    catalog: DemoCatalog, index: Path, program: Path, python: Path, console: Console
) -> None:
    """How to ask the next question, ready to paste."""
    console.print()
    console.print(Rule(Text("Your turn", style="bold"), align="left", style="dim"))
    example = Question("", text="something that makes music")
    if catalog.name == "synthetic":
        example = Question("", text="something yellow that rings")
    _show_shell(example.shell(str(program), index, 10), console)
    lines = (
        "import catalens as cl",
        f"with cl.Retriever.open({str(index)!r}) as shop:",
        f"    for hit in {example.python(10)}:",
        "        print(hit.id, hit.score, hit.metadata)",
    )
    console.print(Text(f"or in {python}:"))
    for line in lines:
        console.print(Text(line, style="cyan"), soft_wrap=True)


def _show_shell(command: str, console: Console) -> None:
    console.print(Text(f"$ {command}", style="green"), soft_wrap=True)


def _short(path: Path) -> Path:
    """The path as seen from here, where it lies below; links are kept as they are."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def run(folder: Path, console: Console, *, synthetic: bool = False) -> None:
    """The whole demo; its files lie below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    python = Path(sys.executable)
    program = _short(python.with_name("catalens"))
    catalog = choose_catalog(folder, console, synthetic=synthetic)
    index = folder / f"{catalog.name}.idx"
    build(catalog, index, program, console)
    with cl.Retriever.open(index) as shop:
        for question in catalog.questions:
            ask(shop, question, catalog, question.shell(str(program), index, _K), console)
    show_next_steps(catalog, index, program, _short(python), console)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; errors are one line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where its files go")
    parser.add_argument("--synthetic", action="store_true", help="fetch nothing, draw a catalog")
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        # In a file or a log no terminal says how wide: leave room for every space's bar.
        console = Console(width=120)
    try:
        run(options.folder, console, synthetic=options.synthetic)
    except CatalensError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; `make demo` goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
