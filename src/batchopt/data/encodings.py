"""Which encoding a text file is in: UTF-8, UTF-16, UTF-32 or CP949, found in its bytes.

The candidates are few, so each is tried as a whole and the first that holds is taken. A guess by
the frequency of letters (charset-normalizer) takes a mostly English file with one Hangul word for
cp1252, EUC-JP for CP949 and two encodings in one file for GB18030, each without a word.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HEAD_BYTES = 2**16
BLOCK_BYTES = 2**20

MARKS = (
    # UTF-32 first: its mark begins like that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, and the codec that reads the mark too."""


def find_encoding(path: Path) -> str | None:
    """Finds the encoding of a text file; None where it is none of those, or not clear which.

    A file that is UTF-8 but for a few bytes is UTF-8: its bad rows are told one by one.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:  # no text in UTF-8 or CP949 has any
        return _utf16_without_mark(head)
    if _is_sound(path, "utf-8"):
        return "utf-8"
    if _is_korean(path):
        return "cp949"
    return "utf-8" if _is_mostly_utf8(path) else None


def called(encoding: str) -> str:
    """The name of an encoding as people write it."""
    return {"utf-8-sig": "UTF-8"}.get(encoding, encoding.upper())


def _utf16_without_mark(head: bytes) -> str | None:
    """Says in which order the bytes of UTF-16 are, if one is clear.

    Separators, blanks and line ends are ASCII in every language. Read in the wrong order they are
    other letters, and hardly anything else becomes ASCII.
    """
    whole = head[: len(head) // 2 * 2]
    ascii_in = {
        name: len(re.findall(r"[\t\n\r -~]", whole.decode(name, "replace")))
        for name in ("utf-16-le", "utf-16-be")
    }
    likely, other = sorted(ascii_in, key=ascii_in.__getitem__, reverse=True)
    clear = ascii_in[likely] > len(whole) / 2 / 20 and ascii_in[likely] > 10 * ascii_in[other]
    return likely if clear else None


def _is_korean(path: Path) -> bool:
    """Whether the file is sound CP949 and reads as Korean.

    Much of what is in another encoding of Asia decodes as CP949 too. It gives Chinese characters,
    single jamo, or syllables beyond the 2,350 of KS X 1001 (EUC-KR), which Korean rarely uses.
    """
    if not _is_sound(path, "cp949"):
        return False
    text = next(_decoded(path, "cp949", "strict"), "")  # a block says enough
    syllables = Counter(letter for word in re.findall("[가-힣]+", text) for letter in word)
    # Python's codec makes the others up of their parts, in eight bytes.
    common = sum(n for letter, n in syllables.items() if len(letter.encode("euc_kr")) == 2)
    jamo = len(re.findall(r"([\u3131-\u318e])\1*", text))  # ㅋㅋㅋㅋ is one
    foreign = len(re.findall(r"[\u0370-\u04ff\u3040-\u30ff\u4e00-\u9fff\uf900-\ufaff]", text))
    other = syllables.total() - common + jamo + foreign
    return common > 2 * other


def _is_mostly_utf8(path: Path) -> bool:
    good, bad = 0, 0
    for text in _decoded(path, "utf-8", "surrogateescape"):
        wrong = len(re.findall("[\udc80-\udcff]", text))
        bad += wrong
        good += len(re.findall(r"[^\x00-\x7f]", text)) - wrong
    return good > bad


def _is_sound(path: Path, encoding: str) -> bool:
    try:
        for _ in _decoded(path, encoding, "strict"):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _decoded(path: Path, encoding: str, errors: str) -> Iterator[str]:
    """Yields the text of a file in blocks."""
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield decoder.decode(block)
        yield decoder.decode(b"", final=True)
