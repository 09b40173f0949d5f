"""Libraries are imported without the collector, and without what nobody uses of them."""

import gc
import importlib.util
import sys

import pytest

from batchopt.machine.imports import hidden, without_collector


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_meanwhile_and_everything_later(enabled):
    if not enabled:
        gc.disable()
    try:
        before = gc.get_freeze_count()
        with without_collector():
            assert not gc.isenabled()
            made = [[number] for number in range(1000)]
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() - before >= len(made)
        later = []
        assert any(one is later for one in gc.get_objects())
    finally:
        gc.enable()


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ImportError), without_collector():
        raise ImportError
    assert gc.isenabled()


def test_what_is_hidden_is_not_found_meanwhile_and_stays_where_it_was_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ZeroDivisionError), hidden("colorsys", "json"):
        assert importlib.util.find_spec("colorsys") is None
        with pytest.raises(ImportError):
            import colorsys
        import json

        raise ZeroDivisionError(json)
    import colorsys

    assert colorsys.rgb_to_hls(0, 0, 0) == (0, 0, 0)
