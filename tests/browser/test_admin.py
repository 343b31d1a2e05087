"""An admin's day in a real browser: look around, set a bot up by clicking, talk to it; at a desk and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.servers.model_service import ModelService, Script
from tests.servers.site import Site

SIZES = pytest.mark.parametrize("size", ["desk", "phone"])
MARKDOWN = ["Sure: ", "**bold**", " and `code`", "\n\n```\n<b>no markup</b>\n```\n", "\n- one\n", "- two"]
LISTS = [
    "bots/bot",
    "bots/endpoint",
    "bots/conversation",
    "bots/message",
    "bots/deadletter",
    "bots/wordlist",
    "inference/languagemodel",
    "integrations/platformcredential",
    "security/user",
    "security/iprule",
    "security/apiclient",
    "monitoring/auditlog",
    "django_celery_beat/periodictask",
]


@pytest.fixture(autouse=True)
def echo_again(service: ModelService) -> None:
    service.script(Script())


def check_width(page: Page) -> None:
    """Nothing sticks out to the right, so a phone never scrolls sideways."""
    width = (page.viewport_size or {})["width"]  # innerWidth grows with a page that is too wide
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def choose(page: Page, field: str, text: str) -> None:
    """Pick from a field that searches as one types."""
    page.click(f".field-{field} .select2-selection")
    page.fill(".select2-container--open .select2-search__field", text)
    page.click(f".select2-results__option:has-text('{text}')")


def save(page: Page) -> None:
    page.click("[name=_save]")
    page.wait_for_load_state()
    expect(page.locator(".errornote, .errorlist")).to_have_count(0)


def open_playground(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/admin/playground/demo/")
    expect(page.locator("#pg-state")).to_have_text("Connected")


def ask(page: Page, text: str) -> None:
    page.fill("#pg-text", text)
    page.press("#pg-text", "Enter")


def last(page: Page, part: str = "") -> str:
    return f".pg-turn:last-of-type {part}".strip()


@pytest.mark.rule("A12")
@SIZES
@pytest.mark.rule("A12")
def test_every_page_opens_without_a_complaint(open_page: OpenPage, site: Site, size: str):
    with open_page(size) as page:
        expect(page.get_by_text("Your way to a bot in the chat")).to_be_visible()
        check_width(page)
        for name in LISTS:
            page.goto(f"{site.url}/admin/{name}/")
            check_width(page)
        for name in ("bots/bot", "bots/endpoint", "inference/languagemodel", "integrations/platformcredential"):
            page.goto(f"{site.url}/admin/{name}/add/")
            check_width(page)
        page.goto(f"{site.url}/admin/monitoring/auditlog/proof/")
        check_width(page)
        page.goto(f"{site.url}/admin/monitoring/auditlog/?action=bot.seeded")
        entry = page.locator("#result_list a[href*='/change/']").first.get_attribute("href")
        page.goto(f"{site.url}/admin/monitoring/auditlog/{(entry or '').partition('/auditlog/')[2]}")
        check_width(page)


@SIZES
def test_the_workers_of_a_model_fit_the_page(open_page: OpenPage, site: Site, size: str):
    with open_page(size) as page:
        open_playground(page, site)
        ask(page, "Hello")  # so that a worker has the model
        expect(page.locator(last(page))).to_have_attribute("data-state", "done")
        page.goto(f"{site.url}/admin/inference/languagemodel/")
        page.locator("#result_list a[href*='/change/']").get_by_text("remote", exact=True).click()
        workers = page.get_by_role("region", name="Workers that run it")
        for _ in range(20):  # it tells every few seconds
            if workers.count():
                break
            page.wait_for_timeout(1000)
            page.reload()
        expect(workers.get_by_text("ready")).to_be_visible()
        check_width(page)


@SIZES
def test_a_bot_is_set_up_by_clicking(open_page: OpenPage, site: Site, service: ModelService, size: str):
    with open_page(size) as page:
        _make_model(page, site, service, f"model-{size}")
        page.goto(f"{site.url}/admin/bots/bot/add/")
        page.locator("[name=name]").press_sequentially(f"Bot {size}")
        expect(page.locator("[name=slug]")).to_have_value(f"bot-{size}")
        choose(page, "model", f"model-{size}")
        save(page)
        _make_credential(page, site, f"App {size}")
        _make_endpoint(page, site, f"Bot {size}", f"App {size}")


def _make_model(page: Page, site: Site, service: ModelService, name: str) -> None:
    page.goto(f"{site.url}/admin/inference/languagemodel/add/")
    page.fill("[name=name]", name)
    expect(page.locator("[name=base_url]")).to_be_hidden()
    page.select_option("[name=engine]", "openai")
    page.fill("[name=base_url]", service.base_url)
    page.fill("[name=model]", "m")
    page.fill("[name=api_key]", service.api_key)
    save(page)
    page.click(f"#result_list >> text={name}")
    page.click("text=Check now")
    expect(page.locator(".cb-panel--ok")).to_be_visible()
    assert service.api_key not in page.content()


def _make_credential(page: Page, site: Site, name: str) -> None:
    page.goto(f"{site.url}/admin/integrations/platformcredential/add/")
    page.fill("[name=name]", name)
    page.select_option("[name=platform]", "feishu")
    page.fill("[name=app_id]", f"cli_{name.replace(' ', '')}")
    for secret in ("app_secret", "verification_token", "encrypt_key"):
        page.fill(f"[name={secret}]", f"secret-{secret}")
    save(page)


def _make_endpoint(page: Page, site: Site, bot: str, credential: str) -> None:
    page.goto(f"{site.url}/admin/bots/endpoint/add/")
    choose(page, "bot", bot)
    choose(page, "credential", credential)
    page.select_option("[name=mode]", "webhook")
    save(page)
    address = page.input_value("#webhook-url")
    assert address.startswith(f"{site.url}/webhooks/feishu/")
    page.click("[data-copy]")
    expect(page.locator("[data-copy-text]")).to_have_text("Copied")
    check_width(page)


@SIZES
def test_an_answer_streams_and_is_shown_safely(open_page: OpenPage, site: Site, service: ModelService, size: str):
    service.script(Script(MARKDOWN, piece_s=0.2))
    with open_page(size) as page:
        open_playground(page, site)
        page.click("#pg-new")
        page.click("[data-say='你好']")
        expect(page.locator(last(page))).to_have_attribute("data-state", "writing")
        expect(page.locator(last(page))).to_have_attribute("data-state", "done")
        expect(page.locator(last(page, "strong"))).to_have_text("bold")
        expect(page.locator(last(page, "pre code"))).to_have_text("<b>no markup</b>")
        expect(page.locator(last(page, "li"))).to_have_text(["one", "two"])
        expect(page.locator(last(page, ".pg-meta"))).to_contain_text("11 → 7 tokens")
        expect(page.locator("#pg-spoken")).to_contain_text("bold")
        expect(page.locator("#pg-text")).to_be_in_viewport()
        check_width(page)


def test_stop_ends_an_answer_and_new_begins_a_conversation(open_page: OpenPage, site: Site, service: ModelService):
    service.script(Script(["word "] * 200, piece_s=0.1))
    with open_page("phone") as page:
        open_playground(page, site)
        ask(page, "Count for me")
        expect(page.locator(last(page, ".pg-answer"))).to_contain_text("word word")
        page.click("#pg-stop")
        expect(page.locator(last(page))).to_have_attribute("data-state", "done")
        expect(page.locator("#pg-stop")).to_be_hidden()
        page.click("#pg-new")
        expect(page.locator(".pg-turn")).to_have_count(0)
        page.reload()
        expect(page.locator("#pg-empty")).to_be_visible()


def test_what_was_missed_arrives_after_a_lost_line(open_page: OpenPage, site: Site, service: ModelService):
    service.script(Script(["one ", "two ", "three ", "four"], piece_s=0.4))
    with open_page("desk") as page:
        open_playground(page, site)
        page.click("#pg-new")
        ask(page, "Count to four")
        expect(page.locator(last(page, ".pg-answer"))).to_contain_text("one")
        page.reload()  # the line is lost, and all that the page knew
        expect(page.locator(last(page, ".pg-answer"))).to_have_text("one two three four")
        expect(page.locator(".pg-turn")).to_have_count(1)
    asked = [one for one in service.requests if "Count to four" in str(one.body)]
    assert len(asked) == 1


def test_enter_that_chooses_a_chinese_word_sends_nothing(open_page: OpenPage, site: Site):
    with open_page("desk") as page:
        open_playground(page, site)
        page.click("#pg-new")
        expect(page.locator("#pg-empty")).to_be_visible()
        page.fill("#pg-text", "nihao")
        composing = {"key": "Enter", "isComposing": True, "keyCode": 229, "bubbles": True, "cancelable": True}
        page.dispatch_event("#pg-text", "keydown", composing)
        page.press("#pg-text", "Shift+Enter")
        expect(page.locator(".pg-turn")).to_have_count(0)
        expect(page.locator("#pg-text")).to_have_value("nihao\n")


def test_dark_pages_are_dark(open_page: OpenPage, site: Site):
    with open_page("desk") as page:
        page.emulate_media(color_scheme="dark")
        page.goto(f"{site.url}/admin/playground/demo/")
        colour = page.evaluate("getComputedStyle(document.querySelector('.pg-form')).backgroundColor")
        luminance = page.evaluate(
            """(colour) => { const c = document.createElement('canvas').getContext('2d'); c.fillStyle = colour;
            c.fillRect(0, 0, 1, 1); return Math.max(...c.getImageData(0, 0, 1, 1).data.slice(0, 3)); }""",
            colour,
        )
        assert luminance < 80
