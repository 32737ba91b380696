"""Texts as terms: words, and where a script has no spaces, pairs of characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from typing import Literal

from .text import decode_text

Analyzer = Literal["word", "char"]

# Scripts that leave no space between words: Thai, Lao, Myanmar and Khmer; kana; Han, with its
# extensions. Digits and Latin letters among them are words as elsewhere.
_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(f"([{_NO_SPACES}]+)|[^\\W_{_NO_SPACES}]+(?:['\u2019][^\\W_{_NO_SPACES}]+)?")
_SHORTEST, _LONGEST = 3, 5


def words(text: str) -> list[str]:
    """Return the words of a text, in order.

    The text is taken in Unicode form NFKC and lower case, so that the same word is one word
    however it is typed. Of scripts without spaces, each two neighbouring characters are a word (as
    in Lucene's CJKAnalyzer): dictionaries are not needed, and a query matches inside of words.
    """
    return [word for word, _ in _tokens(text)]


def terms(text: str, analyzer: Analyzer) -> list[str]:
    """Return what is counted: words, or runs of three to five characters inside words, spaces at
    their ends included, which forgive endings and slips of the pen. Of scripts without spaces, the
    same pairs of characters as ever."""
    if analyzer == "word":
        return words(text)
    return [term for word, whole in _tokens(text) for term in ([word] if whole else _runs(word))]


def terms_of(analyzer: Analyzer, content: bytes) -> list[str]:
    """Return the terms of an input.

    Raises:
        UndecodableMediaError: not UTF-8.
        EmptyMediaError: blank.
    """
    return terms(decode_text(content), analyzer)


def analyzer_of(analyzer: Analyzer) -> partial[list[str]]:
    """Return `terms` as scikit-learn calls an analyzer."""
    return partial(terms, analyzer=analyzer)


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Words, and of each whether it is one of a script without spaces."""
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text).lower()):
        found = match[0]
        if match[1] is None:
            yield found, False
        elif len(found) == 1:
            yield found, True
        else:
            yield from ((found[n : n + 2], True) for n in range(len(found) - 1))


def _runs(word: str) -> Iterator[str]:
    padded = f" {word} "
    for length in range(_SHORTEST, _LONGEST + 1):
        if len(padded) <= length:
            yield padded
            return
        yield from (padded[n : n + length] for n in range(len(padded) - length + 1))
