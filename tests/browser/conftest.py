"""One server, one browser; every test has a page of its own or the shared bench, emptied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser import servers
from browser.chromium import OPTIONS
from browser.lab import Lab
from browser.view import View

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

RESULTS = Path(__file__).parents[2] / "build" / "test-results" / "browser"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a picture of the page when a test fails, and say what the widgets say."""
    report = yield
    if report.when == "call" and report.failed:
        labs = [v for v in getattr(item, "funcargs", {}).values() if isinstance(v, Lab)]
        for lab in labs:
            path = RESULTS / f"{item.name.replace('/', '-')}.png"
            report.sections.append(("page", lab.describe(path)))
    return report


@pytest.fixture(scope="session")
def browser(chromium: str, playwright_driver: Playwright) -> Iterator[Browser]:
    """A headless Chromium for all tests."""
    started = playwright_driver.chromium.launch(executable_path=chromium, args=OPTIONS)
    yield started
    started.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The folder that the servers show: a copy of the notebooks."""
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(repository / "notebooks", root, dirs_exist_ok=True)
    return root


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of `lab_url` keeps settings, runtime files and signatures."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab_url(served: Path, scratch: Path) -> Iterator[str]:
    """Address of a JupyterLab that shows `served`."""
    with servers.jupyter(served, scratch) as url:
        yield url


@pytest.fixture(scope="session")
def new_context(browser: Browser) -> Callable[..., BrowserContext]:
    """Make browser contexts of a fixed size."""

    def make(**options: object) -> BrowserContext:
        options = {"viewport": {"width": 1280, "height": 900}, "device_scale_factor": 1, **options}
        return browser.new_context(**options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def lab(new_context: Callable[..., BrowserContext], lab_url: str, served: Path) -> Iterator[Lab]:
    """A page of its own, nothing opened yet."""
    opened = Lab(new_context(), lab_url, served)
    yield opened
    problems = opened.problems
    opened.close()
    assert problems == []


@pytest.fixture(scope="session")
def _bench_page(
    new_context: Callable[..., BrowserContext], lab_url: str, served: Path
) -> Iterator[Lab]:
    """One notebook whose kernel has the network loaded; tests put their own cells in."""
    opened = Lab(new_context(), lab_url, served)
    opened.write("bench.ipynb", ["from dynamite_widget import DynaMITeWidget"])
    opened.open("bench.ipynb")
    opened.run_all()
    yield opened
    opened.close()


@pytest.fixture
def bench(_bench_page: Lab) -> Iterator[Lab]:
    """The shared notebook, emptied; pages and widgets of earlier tests are gone."""
    _bench_page.problems.clear()
    yield _bench_page
    _bench_page.kernel("w = globals().pop('w', None)\nw is None or w.close()")
    assert _bench_page.problems == []


@pytest.fixture
def cat(bench: Lab) -> View:
    """A widget named `w` with the cat and the bundled model."""
    return bench.show("w = DynaMITeWidget('images/cat.jpg', classes=['cat', 'eye', 'nose'])\nw")
