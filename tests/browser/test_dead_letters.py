"""What an admin does with what failed, in a real browser: try again, discard, put back; and where the time went."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.test_admin import ask, check_width, last, open_playground
from tests.servers.model_service import ModelService, Script
from tests.servers.site import Site

SIZES = pytest.mark.parametrize("size", ["desk", "phone"])


@pytest.fixture(autouse=True)
def echo_again(service: ModelService) -> None:
    service.script(Script())


def fail(page: Page, site: Site, service: ModelService, *texts: str) -> None:
    """Ask what the model refuses to answer."""
    service.script(Script(status=401))
    open_playground(page, site)
    page.click("#pg-new")
    for text in texts:
        ask(page, text)
        expect(page.locator(last(page, ".pg-question"))).to_have_text(text)
        expect(page.locator(last(page))).to_have_attribute("data-state", "failed")
    service.script(Script())


def open_list(page: Page, site: Site, words: str) -> None:
    page.goto(f"{site.url}/admin/bots/deadletter/?q={words}")


def choose_both(page: Page, action: str) -> None:
    boxes = page.locator("#result_list tbody .action-select")
    expect(boxes).to_have_count(2)  # the page may still be on its way
    page.wait_for_load_state("load")  # and its scripts, which watch the boxes
    for box in boxes.all():
        box.check()
    expect(page.locator("select[name=action]")).to_be_visible()
    page.select_option("select[name=action]", label=action)
    page.click("#changelist-actions button[name=index]")


@SIZES
def test_a_failed_message_is_tried_again_by_a_click_and_delivered(
    open_page: OpenPage, site: Site, service: ModelService, size: str
):
    text = f"lost-on-{size}"
    with open_page(size) as page:
        fail(page, site, service, text)
        open_list(page, site, text)
        expect(page.locator("#result_list tbody")).to_contain_text([text])
        check_width(page)
        page.click(".field-received a")
        expect(page.get_by_text("Trying again asks the model again.")).to_be_visible()
        check_width(page)
        message = page.url
        open_list(page, site, text)
        page.get_by_role("button", name=f"Try again: {text}").click()
        expect(page.get_by_text("1 message is tried again.")).to_be_visible()
        expect(page.locator("#result_list")).to_have_count(0)
        _wait_until_delivered(page, message)
        expect(page.locator(".cb-times--whole .cb-times__bar rect").first).to_be_visible()
        expect(page.get_by_text(f"echo: {text}")).to_be_visible()
        check_width(page)


def _wait_until_delivered(page: Page, message: str) -> None:
    for _ in range(50):
        page.goto(message)
        if page.locator(".cb-panel--delivered").count():
            return
        page.wait_for_timeout(200)
    pytest.fail("the message was not delivered within ten seconds")


@SIZES
def test_dead_letters_are_discarded_at_once_and_put_back(
    open_page: OpenPage, site: Site, service: ModelService, size: str
):
    words = f"unneeded-{size}"
    with open_page(size) as page:
        fail(page, site, service, f"{words}-1", f"{words}-2")
        open_list(page, site, words)
        choose_both(page, "Discard")
        expect(page.locator(".cb-list li")).to_have_count(2)
        check_width(page)
        page.get_by_role("button", name="Discard").click()
        expect(page.get_by_text("2 dead letters were discarded.")).to_be_visible()
        expect(page.locator("#result_list")).to_have_count(0)
        page.get_by_role("link", name="Look at them, or put them back").click()
        choose_both(page, "Put discarded ones back")
        expect(page.get_by_text("2 dead letters were put back.")).to_be_visible()
        open_list(page, site, words)
        expect(page.locator("#result_list tbody")).to_have_count(2)
