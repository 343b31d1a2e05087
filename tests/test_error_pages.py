"""What a browser shows when a page cannot be had: in the reader's language, on a phone too, with what to do."""

from __future__ import annotations

import pytest
from django.test import Client
from django.views.generic import RedirectView

pytestmark = pytest.mark.django_db
CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-CN"}


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/nowhere", {}, 404, "There is no such page"),
        ("/nowhere", CHINESE, 404, "页面不存在"),
        ("/admin/", {"HTTP_HOST": "10.1.2.3"}, 400, "adds the name to ALLOWED_HOSTS"),
    ],
)
def test_a_page_says_what_is_wrong_and_what_to_do(path, headers, status, words):
    answer = Client().get(path, **headers)

    page = answer.content.decode()
    assert (answer.status_code, words in page, 'name="viewport"' in page) == (status, True, True)


def test_a_form_without_its_token_is_told_to_be_loaded_again():
    answer = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "a"})

    assert answer.status_code == 403
    assert "load the page again" in answer.content.decode()


def test_a_page_that_broke_says_so_and_shows_nothing_of_the_inside(monkeypatch):
    monkeypatch.setattr(RedirectView, "get", lambda *_, **__: 1 / 0)

    answer = Client(raise_request_exception=False).get("/")

    page = answer.content.decode()
    assert answer.status_code == 500
    assert "Something went wrong" in page
    assert "ZeroDivisionError" not in page


def test_somebody_without_a_right_is_told_who_gives_it(django_user_model):
    browser = Client()
    browser.force_login(django_user_model.objects.create_user("guest", password="x", is_staff=True))

    answer = browser.get("/admin/security/user/")

    assert answer.status_code == 403
    assert "manages the accounts" in answer.content.decode()
