"""Word vectors out of files: GloVe, word2vec (text and binary) and fastText (.vec and .bin).

A file is read once, word by word, and what nobody asked for is passed over: memory is that of the
words kept, whatever the file says of its own size. Only fastText's own `.bin` is read by a library
(gensim), and as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import WordFileError

Floats = NDArray[np.float32]

_FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")
# Magic, version, dimension and 12 more settings, the last a double; then of the dictionary:
# entries, words, labels, tokens, pruned.
_FASTTEXT_HEADER = struct.Struct("<14id" + "iiiqq")
# Whether it is quantised, rows, columns.
_FASTTEXT_MATRIX = struct.Struct("<?qq")
_MAX_DIMENSION = 10_000
# The longest line of a text file: 10,000 values of 25 characters, and a word.
_MAX_LINE = 300_000
_MAX_WORD = 2_000


class WordVector(NamedTuple):
    """A word as the file has it, and its vector, float32 (d,)."""

    word: str
    vector: Floats


def read_word_vectors(
    path: Path, wanted: Callable[[str], bool], unlisted: Callable[[], list[str]]
) -> Iterator[WordVector]:
    """Read the vectors of the words that are wanted, in the order of the file.

    The form is told by the first bytes. In text files a line is a word and d numbers; the first may
    hold the number of words and d instead (word2vec, fastText's `.vec`), or not (GloVe).

    Args:
        path: the file.
        wanted: asked of each word once; in order, which is usually that of their frequency.
        unlisted: asked after the last word, for others: a `.bin` of fastText makes their vectors
            out of parts of them.

    Raises:
        WordFileError: no such file, a line or record that is broken, or of another dimension; the
            message names its number.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            stream.seek(0)
            if start == _FASTTEXT_MAGIC:
                yield from _fasttext(path, wanted, unlisted)
                return
            first = stream.readline(_MAX_LINE)
            fields = first.split()
            if len(fields) == 2 and all(field.isdigit() for field in fields):
                dimension = _dimension(path, int(fields[1]))
                if _is_binary(stream, dimension):
                    yield from _binary(path, stream, int(fields[0]), dimension, wanted)
                else:
                    yield from _text(path, _lines(path, stream, 2), dimension, wanted)
                return
            dimension = _dimension(path, len(fields) - 1)
            lines = chain([(1, first)], _lines(path, stream, 2))
            yield from _text(path, lines, dimension, wanted)
    except OSError as error:
        raise broken(path, "a file that reads", error.strerror or str(error)) from error


def broken(path: Path, expected: str, got: str) -> WordFileError:
    """The error for this file."""
    return WordFileError(
        f"word vectors {path}",
        expected=expected,
        got=got,
        remedy="Take a whole file in the form of GloVe, word2vec or fastText.",
    )


def _dimension(path: Path, dimension: int) -> int:
    if not 0 < dimension <= _MAX_DIMENSION:
        raise broken(
            path, f"1 to {_MAX_DIMENSION:,} numbers behind the first word", f"{dimension:,}"
        )
    return dimension


def _lines(path: Path, stream: BinaryIO, first: int) -> Iterator[tuple[int, bytes]]:
    number = first
    while line := stream.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise broken(path, f"at most {_MAX_LINE:,} bytes in line {number:,}", "more")
        yield number, line
        number += 1


def _text(
    path: Path,
    lines: Iterator[tuple[int, bytes]],
    dimension: int,
    wanted: Callable[[str], bool],
) -> Iterator[WordVector]:
    number = 0
    for number, line in lines:
        # GloVe's largest file has words with spaces in them: numbers are counted from the end.
        fields = line.rstrip().rsplit(b" ", dimension)
        if (
            len(fields) != dimension + 1
            or not fields[0]
            or (b" " in fields[0] and _is_numeric(fields[0].rsplit(b" ", 1)[1]))
        ):
            got = len(line.split()) - 1
            raise broken(path, f"{dimension} numbers in line {number:,}", f"{got:,}")
        word = fields[0].decode("utf-8", "replace")
        if not _is_numeric(fields[1]):
            raise broken(path, f"{dimension} numbers in line {number:,}", f"{fields[1]!r:.40}")
        if wanted(word):
            yield WordVector(word, _numbers(path, number, fields[1:]))
    if not number:
        raise broken(path, "at least one word", "none")


def _is_numeric(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _numbers(path: Path, number: int, fields: list[bytes]) -> Floats:
    try:
        vector = np.array(fields, dtype=np.float64)
    except ValueError as error:
        raise broken(path, f"numbers in line {number:,}", str(error)) from error
    return _finite(path, f"line {number:,}", vector)


def _finite(path: Path, where: str, vector: NDArray[np.float64] | Floats) -> Floats:
    # What float16 cannot hold is no word vector either.
    if not np.abs(vector).max() < 6e4:  # NaN compares false
        raise broken(path, f"numbers of usual size in {where}", f"{vector.tolist()[:3]}...")
    return vector.astype(np.float32)


def _is_binary(stream: BinaryIO, dimension: int) -> bool:
    """Whether a record, not a line, follows: judged by whether text decodes to numbers."""
    place = stream.tell()
    line = stream.readline(_MAX_LINE)
    stream.seek(place)
    fields = line.rsplit(b" ", dimension)
    return not all(_is_numeric(field) for field in fields[1:]) or len(fields) < 2


def _binary(
    path: Path, stream: BinaryIO, count: int, dimension: int, wanted: Callable[[str], bool]
) -> Iterator[WordVector]:
    size = 4 * dimension
    for number in range(1, count + 1):
        word = bytearray()
        # Some writers end each record with a line feed, which then begins the next word.
        while (byte := stream.read(1)) not in (b" ", b""):
            word += byte
            if len(word) > _MAX_WORD:
                raise broken(path, f"a word and a space in record {number:,}", "no space")
        data = stream.read(size)
        if len(data) < size:
            raise broken(path, f"{count:,} records of {dimension} values", f"{number - 1:,}")
        text = bytes(word).lstrip(b"\n").decode("utf-8", "replace")
        if wanted(text):
            vector = np.frombuffer(data, dtype="<f4")
            yield WordVector(text, _finite(path, f"record {number:,}", vector))


def _fasttext(
    path: Path, wanted: Callable[[str], bool], unlisted: Callable[[], list[str]]
) -> Iterator[WordVector]:
    _check_fasttext(path)
    try:
        from gensim.models.fasttext import load_facebook_vectors

        keyed = load_facebook_vectors(str(path))
    except Exception as error:
        # A damaged file makes the library raise nearly anything, MemoryError among it.
        raise broken(path, "a model of fastText, and gensim", f"{error!r:.200}") from error
    for number, word in enumerate(keyed.index_to_key, start=1):
        if wanted(word):
            yield WordVector(word, _finite(path, f"word {number:,}", keyed[word]))
    for word in unlisted():
        if word in keyed:  # Of one that is too short, no part is known.
            yield WordVector(word, _finite(path, f"the parts of {word!r}", keyed[word]))


def _check_fasttext(path: Path) -> None:
    """Walk a `.bin` of fastText as far as its first matrix: the library that reads it believes what
    it says, and waits for ever for a word that a file that was cut does not end.

    The form is that of fastText's `FastText::saveModel` and `Dictionary::save`.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = stream.read(_FASTTEXT_HEADER.size)
        if len(header) < _FASTTEXT_HEADER.size:
            raise broken(path, f"a header of {_FASTTEXT_HEADER.size} bytes", f"{len(header)}")
        told = _FASTTEXT_HEADER.unpack(header)
        dimension, buckets, entries, pruned = told[2], told[10], told[15], told[19]
        _dimension(path, dimension)
        if pruned > 0 or not 0 <= buckets < 2**31 or not 0 < entries <= size:
            raise broken(
                path,
                "a model that is not pruned, with words",
                f"{entries:,} entries, {buckets:,} buckets, {pruned:,} pruned",
            )
        for number in range(1, entries + 1):
            word = _until_nul(stream)
            if word is None or len(stream.read(9)) < 9:
                raise broken(path, f"{entries:,} words", f"{number - 1:,}")
        matrix = stream.read(_FASTTEXT_MATRIX.size)
        rows, columns = 0, 0
        if len(matrix) == _FASTTEXT_MATRIX.size:
            _, rows, columns = _FASTTEXT_MATRIX.unpack(matrix)
        left = size - stream.tell()
        if columns != dimension or rows < 1 or rows * columns * 4 > left:
            raise broken(
                path,
                f"a matrix of {dimension} columns, whole",
                f"{rows:,} x {columns:,} in {left:,} bytes",
            )


def _until_nul(stream: BinaryIO) -> bytes | None:
    word = bytearray()
    while byte := stream.read(1):
        if byte == b"\0":
            return bytes(word)
        word += byte
        if len(word) > _MAX_WORD:
            break
    return None
