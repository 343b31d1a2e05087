"""A real Chromium on the real site. Every page is watched: errors, refused scripts and calls to other hosts fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from playwright.sync_api import Browser, Page, StorageState, ViewportSize, sync_playwright

from tests.servers.model_service import ModelService
from tests.servers.site import PASSWORD, Site

SIZES: dict[str, ViewportSize] = {"desk": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None and os.environ.get("CI"):
        pytest.fail("Chromium is missing in CI: run the tests by `make test`.")
    if path is None:
        pytest.skip("Chromium is not installed: run the tests by `make test`.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service() -> Iterator[ModelService]:
    with ModelService() as running:
        yield running


@pytest.fixture(scope="session")
def site(service: ModelService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    wanted = {"MODEL_ENDPOINT": service.base_url, "MODEL_API_KEY": service.api_key, "MODEL_NAME": "m"}
    running = Site(tmp_path_factory.mktemp("browser") / "var", LANGUAGE_CODE="en", **wanted)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(scope="session")
def session(chromium: Browser, site: Site) -> StorageState:
    """The cookies of somebody who signed in, by the form, without a complaint of the browser."""
    context = chromium.new_context(viewport=SIZES["desk"])
    page, trouble = context.new_page(), list[str]()
    watch(page, site.url, trouble)
    page.goto(f"{site.url}/admin/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.click("#login-form [type=submit]")
    page.wait_for_url(f"{site.url}/admin/")
    kept = context.storage_state()
    context.close()
    assert trouble == []
    return kept


OpenPage = Callable[[str], AbstractContextManager[Page]]


@pytest.fixture
def open_page(chromium: Browser, site: Site, session: StorageState) -> OpenPage:
    """A signed-in page of a size, on the dashboard; nothing may have gone wrong on it when it closes."""

    @contextmanager
    def opened(size: str) -> Iterator[Page]:
        is_phone = size == "phone"
        context = chromium.new_context(
            viewport=SIZES[size], has_touch=is_phone, is_mobile=is_phone, storage_state=session
        )
        page, trouble = context.new_page(), list[str]()
        watch(page, site.url, trouble)
        page.goto(f"{site.url}/admin/")
        yield page
        context.close()
        assert trouble == []

    return opened


def watch(page: Page, home: str, trouble: list[str]) -> None:
    """Refused scripts and styles are console errors in Chromium, too."""
    page.on("console", lambda said: trouble.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda sent: trouble.append(sent.url) if not sent.url.startswith((home, "data:")) else None)
    page.on("response", lambda got: trouble.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    page.on("websocket", lambda line: trouble.append(line.url) if home.partition("//")[2] not in line.url else None)
