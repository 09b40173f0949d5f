"""Which fonts the figures are set in, and whether one of them has Hangul."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager

FALLBACK = "DejaVu Sans"
_HANGUL = "NanumGothic"


def families() -> list[str]:
    """Names the font families to draw with, best first; registers the one that has Hangul.

    Importing koreanize_matplotlib fails on Python 3.12 and later; its font files are all that is
    wanted of it.
    """
    spec = importlib.util.find_spec("koreanize_matplotlib")
    if spec is None or spec.origin is None:
        return [FALLBACK]
    folder = Path(spec.origin).parent / "fonts"
    # The light and the extra-bold face would be taken for the regular and the bold one.
    files = [folder / f"{_HANGUL}{face}.ttf" for face in ("", "Bold")]
    if not all(file.exists() for file in files):
        return [FALLBACK]
    for file in files:
        font_manager.fontManager.addfont(file)
    return [_HANGUL, FALLBACK]


def has_hangul() -> bool:
    """Whether Korean labels can be drawn."""
    return families()[0] == _HANGUL


@contextmanager
def quiet_font_search() -> Iterator[None]:
    """Silences the search for a bold face: NanumGothic's calls itself semibold, DejaVu's does not.

    Whichever weight is asked for, one of the two complains.
    """
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
