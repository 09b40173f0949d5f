"""Libraries are imported without the collector, which is as it was before afterwards."""

import gc

import pytest

from batchopt.machine.imports import without_collector


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
