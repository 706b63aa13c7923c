"""Fixtures and limits for all tests; nothing heavy is imported here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

TESTS = Path(__file__).resolve().parent


def _limit_threads() -> None:
    """Share the cores among the workers of pytest-xdist, before torch or BLAS are imported."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    threads = str(max(1, min(4, (os.cpu_count() or 1) // workers)))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, threads)


_limit_threads()
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in ``tests/browser`` is a browser test, marked or not."""
    for item in items:
        if TESTS / "browser" in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Folder of the checkout."""
    return TESTS.parent


@pytest.fixture(scope="session")
def playwright_driver() -> Iterator[Playwright]:
    """The one Playwright of this process: its synchronous interface cannot be started twice."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        message = "playwright is not installed (pip install 'dynamite-widget[test]')"
        if os.environ.get("DYNAMITE_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(repository: Path) -> str:
    """Path of a Chromium or Chrome; without one the test is skipped (in CI: fails)."""
    answer = subprocess.run(
        ["bash", str(repository / ".ci" / "find-browser")],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHON": sys.executable},
    )
    if answer.returncode != 0:
        message = "no Chromium or Chrome was found (`make browser` installs one)"
        if os.environ.get("DYNAMITE_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return answer.stdout.strip()
