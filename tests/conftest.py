"""Two workers share the tests file by file; those that use the same finished workflow stay together."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the workers share the machine's cores

TOGETHER = {"test_smoke": "smoke", "test_partial_reruns": "smoke"}  # both use the fixture `smoke`


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of each test: its file, or the fixture that it shares with another file."""
    for item in items:
        stem = item.path.stem
        item.add_marker(pytest.mark.xdist_group(TOGETHER.get(stem, stem)))
