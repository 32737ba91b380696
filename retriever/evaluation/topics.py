"""Judged queries from a file: TREC qrels beside a file of queries, or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.learning.errors import JudgementsError
from indexer.learning.queries import read_judgements

_QREL = 'lines like "12 0 sku-7 1": number of the query, a field without meaning, id, grade'
_QUERY = 'lines like "12<TAB>red shoe"'


@dataclass(frozen=True)
class Topic:
    """A text query, and the grade of each item that was judged; above 0 is relevant."""

    id: str
    text: str
    grades: Mapping[str, int]


def read_topics(qrels: str | Path, queries: str | Path | None = None) -> list[Topic]:
    """Read judged queries.

    Args:
        qrels: JSON lines of {"query": text, "relevant": [ids]}; or, with `queries`, TREC qrels:
            query number, a field without meaning, id of an item and grade, parted by blanks.
        queries: lines of query number, tab, text.

    Returns:
        the queries that have a relevant item, in the order of the file of queries.

    Raises:
        JudgementsError: a file cannot be read, a line is something else, or nothing is left.
    """
    qrels = Path(qrels)
    if queries is None:
        if not _is_json(qrels):
            raise JudgementsError(
                str(qrels),
                expected='JSON lines of {"query": text, "relevant": [ids]}, or TREC qrels together '
                "with a file of queries",
                got="qrels alone",
                remedy="Pass the queries as well: --queries FILE, with lines of number, tab, text.",
            )
        return [
            Topic(str(number), one.text, dict.fromkeys(one.relevant, 1))
            for number, one in enumerate(read_judgements(qrels), start=1)
        ]
    grades = _read_qrels(qrels)
    texts = _read_queries(Path(queries))
    topics = [
        Topic(number, text, grades[number])
        for number, text in texts.items()
        if any(grade > 0 for grade in grades.get(number, {}).values())
    ]
    if not topics:
        raise JudgementsError(
            f"{qrels} and {queries}",
            expected="queries with relevant items: the same numbers in both files",
            got=f"{len(grades):,} numbers in one and {len(texts):,} in the other, with none of "
            "them relevant in both",
            remedy="Check that the files belong together.",
        )
    return topics


def _is_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1 << 12).lstrip().startswith(b"{")
    except OSError as error:
        raise _misread(str(path), "a file that can be read", error.strerror or "no file") from error


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path, _QREL), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            query, _, item, grade = fields
            grades.setdefault(query, {})[item] = int(grade)
        except ValueError:
            raise _misread(f"{path}, line {number}", _QREL, line[:80]) from None
    return grades


def _read_queries(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in enumerate(_lines(path, _QUERY), start=1):
        if line.strip():
            query, tab, text = line.partition("\t")
            if not (tab and text.strip() and query.strip()) or query.strip() in texts:
                raise _misread(
                    f"{path}, line {number}", f"{_QUERY}, each number once", line.strip()[:80]
                )
            texts[query.strip()] = text.strip()
    return texts


def _lines(path: Path, expected: str) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise _misread(str(path), expected, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _misread(str(path), "UTF-8", str(error)) from error


def _misread(where: str, expected: str, got: str) -> JudgementsError:
    return JudgementsError(where, expected=expected, got=repr(got), remedy="Mend the file.")
