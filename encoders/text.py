"""Text as every text encoder takes it."""

from __future__ import annotations

from .errors import EmptyMediaError, UndecodableMediaError

MAX_CHARACTERS = 20_000
"""Characters kept of a text.

The longest context of the models served is 512 tokens; real words of any script seldom reach 20
characters a token, so the cut is far behind the tokenizer's own truncation, and a 100 MB text
costs no more than a page. (A token can stand for more characters only in runs of blanks, which
are collapsed by the tokenizers after the cut.)
"""


def decode_text(content: bytes) -> str:
    """Return stripped text of at most `MAX_CHARACTERS`.

    UTF-8 is checked over the whole input, strictly; a byte order mark is dropped. What is cut off
    never reaches a tokenizer.

    Raises:
        UndecodableMediaError: not UTF-8.
        EmptyMediaError: nothing but blanks.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UndecodableMediaError(
            "text",
            expected="UTF-8",
            got=f"byte 0x{content[error.start]:02x} at offset {error.start}",
            remedy="Re-encode the text as UTF-8.",
        ) from error
    text = text.removeprefix("\ufeff").strip()[:MAX_CHARACTERS].rstrip()
    if not text:
        raise EmptyMediaError(
            "text",
            expected="at least one character that is not blank",
            got=f"{len(content)} bytes of blanks",
            remedy="Leave the text out of the item instead.",
        )
    return text
