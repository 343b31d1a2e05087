"""Word lists in the admin and over REST: written, tried, carried in and out as plain text."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from bots.models import WordList
from clawdbot_site.security.models import ApiClient
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db
API = "/api/v1/word-lists/"


@pytest.fixture
def browser(settings):
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    return client


@pytest.fixture
def rest():
    client = APIClient()
    key = ApiClient.objects.create_key(name="integrator", scopes=["bots:read", "bots:write"])[1]
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client


def form(**values):
    return {"name": "Names", "action": "mask", "place": "both", "text": "", "note": "", "is_enabled": "on", **values}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_list_is_taken_from_a_text_file_and_given_out_as_one(browser, encoding):
    file = SimpleUploadedFile("list.txt", "# 注释\r\n敏感词\r\n/\\d{3}/\r\n".encode(encoding))
    answer = browser.post(reverse("admin:bots_wordlist_add"), form(file=file))
    assert answer.status_code == 302

    row = WordList.objects.get()
    assert row.text == "# 注释\n敏感词\n/\\d{3}/\n"
    given = browser.get(reverse("admin:bots_wordlist_download", args=[row.pk]))
    assert (given.content.decode(), given["Content-Type"]) == (row.text, "text/plain; charset=utf-8")
    assert {"wordlist.created", "wordlist.exported"} <= set(AuditLog.objects.values_list("action", flat=True))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": "good\n/a+/"}, "Line 2: it can match without end"),
        ({"text": " "}, "Write at least one word"),
        ({"file": SimpleUploadedFile("x.txt", b"\xff\xfe\x00\xd8\x81")}, "no text file"),
        ({"file": SimpleUploadedFile("x.txt", b"/(/")}, "Line 1: this is no regular expression"),
        ({"file": SimpleUploadedFile("x.txt", b"x" * 1_000_001)}, "more than 1 MB"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_words(browser, values, words):
    page = browser.post(reverse("admin:bots_wordlist_add"), form(**values)).content.decode()

    assert words in page
    assert WordList.objects.count() == 0


def test_a_text_is_tried_in_the_admin(browser):
    row = WordList.objects.create(name="Names", text="bad\n敏感词", action="mask")
    page = browser.post(
        reverse("admin:bots_wordlist_try_text", args=[row.pk]), {"text": "a <b>BAD</b> day"}
    ).content.decode()

    assert "Line 1, bad: “BAD”" in page
    assert "a &lt;b&gt;＊＊＊&lt;/b&gt; day" in page
    assert AuditLog.objects.filter(action="wordlist.tried").count() == 1


def test_a_list_is_written_tried_and_read_over_rest(rest):
    bot = factories.bot(slug="helper")
    made = rest.post(API, {"name": "Names", "text": "bad", "action": "block", "bots": ["helper"]})
    assert made.status_code == 201, made.content
    address = f"{API}{made.json()['id']}/"

    tried = rest.post(f"{address}try/", {"text": "so bad"}).json()
    assert tried == {"found": [{"line": 1, "rule": "bad", "text": "bad", "start": 3, "end": 6}], "shown": ""}
    assert rest.get(f"{address}text/").content == b"bad"
    assert rest.get("/api/v1/bots/helper/").json()["word_lists"] == ["Names"]
    refused = rest.patch(address, {"text": "/(?=a)b/"})
    assert (refused.status_code, "Line 1" in str(refused.json())) == (400, True)
    assert list(bot.word_lists.values_list("text", flat=True)) == ["bad"]


def test_the_bots_page_names_its_lists(browser):
    bot = factories.bot()
    WordList.objects.create(name="For all", text="x", is_for_all=True)
    WordList.objects.create(name="Switched off", text="x", is_for_all=True, is_enabled=False)

    page = browser.get(reverse("admin:bots_bot_change", args=[bot.pk])).content.decode()

    assert "For all" in page
    assert "Switched off" not in page
