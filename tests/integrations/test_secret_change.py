"""Changing a secret: the new one is tried beside the old, both are valid meanwhile, nothing is lost in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from bots.models import Endpoint
from clawdbot_site.security import doctor, key_clock
from clawdbot_site.security.models import ApiClient
from inference.models import ModelKey
from integrations import secret_change
from integrations.models import PlatformCredential
from monitoring.models import AuditLog
from tests import factories
from tests.bots.callbacks import feishu_event, path_of, post
from tests.bots.test_dingtalk_door import AES_KEY, keys_of, send_event
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.monitoring.alerting.made import told_by

in_database = database_sync_to_async
OLD, NEW = "secret-of-the-app", "the-new-secret"


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected


@pytest.fixture
def feishu(settings: Any) -> Iterator[FakeFeishu]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def app(db: None, feishu: FakeFeishu) -> PlatformCredential:
    return factories.credential(app_id=feishu.app_id, app_secret=OLD, base_url=feishu.url)


@pytest.fixture
def rest(db: None) -> APIClient:
    client = APIClient()
    key = ApiClient.objects.create_key(name="x", scopes=["bots:write"])[1]
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client


@pytest.fixture
def browser(db: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    return client


def again(row: PlatformCredential) -> PlatformCredential:
    return PlatformCredential.objects.get(pk=row.pk)


# -- the steps --


@pytest.mark.rule("E8")
def test_a_new_secret_is_tried_used_once_it_is_proved_and_takes_the_old_ones_place(
    app: PlatformCredential, feishu: FakeFeishu
) -> None:
    secret_change.enter(app, {"app_secret": NEW})  # the platform does not know it yet
    row = again(app)
    assert (secret_change.state(row), row.values().app_secret) == ("refused", OLD)
    with pytest.raises(secret_change.CannotChange):
        secret_change.retire_old(row, even_unproved=True)

    feishu.app_secret = NEW  # reset in the console
    assert secret_change.try_new(row)
    row = again(app)
    assert (secret_change.state(row), row.values().app_secret, row.values().other.app_secret) == ("proved", NEW, OLD)

    secret_change.retire_old(row)
    row = again(app)
    assert (secret_change.state(row), row.values().app_secret, row.values().other) == ("none", NEW, None)
    assert row.rotate_by == timezone.localdate() + timedelta(days=90)
    entries = AuditLog.objects.filter(target_id=str(app.pk)).order_by("id").values_list("action", "outcome")
    assert [(action.removeprefix("credential.secret_"), outcome) for action, outcome in entries] == [
        ("entered", "success"),
        ("tried", "failure"),
        ("tried", "success"),
        ("retired", "success"),
    ]
    assert not any(secret in str(entry.changes) for entry in AuditLog.objects.all() for secret in (OLD, NEW))


def test_a_new_secret_can_be_given_up(app: PlatformCredential) -> None:
    secret_change.enter(app, {"app_secret": NEW})
    secret_change.withdraw(again(app))

    row = again(app)
    assert (secret_change.state(row), row.values().app_secret, row.next_app_secret) == ("none", OLD, "")


@pytest.mark.parametrize("given", [{}, {"app_secret": ""}, {"app_secret": OLD}])
def test_nothing_and_the_same_secret_are_refused(app: PlatformCredential, given: dict[str, str]) -> None:
    with pytest.raises(secret_change.CannotChange):
        secret_change.enter(app, given)


def test_the_schedule_retires_a_proved_one_when_its_time_is_up(app: PlatformCredential, feishu: FakeFeishu) -> None:
    feishu.app_secret = NEW
    secret_change.enter(app, {"app_secret": NEW}, timedelta(days=7))
    assert secret_change.retire_due() == 0
    PlatformCredential.objects.update(next_retires_at=timezone.now())
    assert secret_change.retire_due() == 1

    assert again(app).values().app_secret == NEW


def test_the_schedule_leaves_one_alone_that_is_not_proved(app: PlatformCredential) -> None:
    secret_change.enter(app, {"encrypt_key": "new-key"}, timedelta(days=7))
    PlatformCredential.objects.update(next_retires_at=timezone.now())

    assert secret_change.retire_due() == 0
    assert secret_change.unproved(again(app)) == ["encrypt_key"]


# -- both are valid at the door --


@pytest.mark.django_db(transaction=True)
async def test_callbacks_by_the_old_and_the_new_keys_are_taken_and_the_new_is_proved(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    place = await in_database(factories.endpoint)()
    given = {"encrypt_key": "new-key", "verification_token": "new-token"}
    old = {name: getattr(place.credential, name) for name in given}
    by_old = feishu_event(place, "by the old")
    await in_database(secret_change.enter)(place.credential, given)
    assert (await post(path_of(place), *by_old))[0] == 200
    assert secret_change.unproved(await in_database(again)(place.credential)) == ["verification_token", "encrypt_key"]

    by_new = feishu_event(_with(place, **given), "by the new")
    assert (await post(path_of(place), *by_new))[0] == 200
    assert secret_change.state(await in_database(again)(place.credential)) == "proved"

    mixed = feishu_event(_with(place, encrypt_key="new-key", verification_token="none"), "forged")
    assert (await post(path_of(place), *mixed))[0] == 401

    await in_database(lambda: secret_change.retire_old(again(place.credential)))()
    assert (await post(path_of(place), *feishu_event(_with(place, **old), "late")))[0] == 401
    assert (await post(path_of(place), *feishu_event(_with(place, **given), "after")))[0] == 200


def _with(place: Endpoint, **secrets: str) -> Endpoint:
    """As the platform's console has it now."""
    for name, text in secrets.items():
        setattr(place.credential, name, text)
    return place


@pytest.mark.django_db(transaction=True)
async def test_an_event_is_answered_by_the_keys_that_it_came_with() -> None:
    """DingTalk sends it again when it cannot open the answer."""
    keys = {"verification_token": "exampleToken01", "encrypt_key": AES_KEY}
    place = await in_database(
        lambda: factories.endpoint(credential=factories.credential("dingtalk", app_secret="secret", **keys))
    )()
    old, new_key = keys_of(place), AES_KEY[::-1]
    new = type(old)("exampleToken02", new_key, old.owners)
    given = {"verification_token": "exampleToken02", "encrypt_key": new_key}
    await in_database(secret_change.enter)(place.credential, given)

    for sender in (old, new):
        status, answer = await send_event(place, {"EventType": "something"}, sender)
        assert status == 200
        query = {"signature": answer["msg_signature"], "timestamp": answer["timeStamp"], "nonce": answer["nonce"]}
        assert sender.open(query, answer["encrypt"]) == b"success"


# -- REST and admin --


def test_rest_takes_every_step_and_shows_no_secret(
    rest: APIClient, app: PlatformCredential, feishu: FakeFeishu
) -> None:
    path = f"/api/v1/credentials/{app.pk}/"
    entered = rest.post(f"{path}new-secret/", {"app_secret": NEW, "retire_after_days": None}, format="json")
    assert (entered.status_code, entered.json()["new_secret"]["state"]) == (200, "refused")
    assert entered.json()["new_secret"]["retires_at"] is None
    refused = rest.post(f"{path}retire-old-secret/", {"even_unproved": True}, format="json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    feishu.app_secret = NEW
    assert rest.post(f"{path}try-new-secret/").json()["new_secret"]["state"] == "proved"
    done = rest.post(f"{path}retire-old-secret/", {}, format="json")
    assert (done.status_code, done.json()["new_secret"]["state"]) == (200, "none")
    assert rest.delete(f"{path}new-secret/").status_code == 409
    for answer in (entered, done):
        assert NEW not in answer.content.decode()
        assert OLD not in answer.content.decode()
    assert again(app).app_secret == NEW


def test_the_admin_takes_every_step_with_words_and_shows_no_secret(
    browser: Client, app: PlatformCredential, feishu: FakeFeishu
) -> None:
    address = reverse("admin:integrations_platformcredential_secret", args=[app.pk])
    change = browser.get(reverse("admin:integrations_platformcredential_change", args=[app.pk])).content.decode()
    assert f'href="{address}"' in change
    assert "No secret is being changed." in browser.get(address).content.decode()

    page = browser.post(address, {"step": "enter", "app_secret": NEW, "retire_after_days": "7"}, follow=True)
    text = page.content.decode()
    assert "The platform refuses the new secret. The old one goes on." in text
    assert NEW not in text
    feishu.app_secret = NEW
    browser.post(address, {"step": "try"})
    assert "The new secret is proved and in use" in browser.get(address).content.decode()
    browser.post(address, {"step": "retire"})
    assert again(app).values().app_secret == NEW
    assert "Enter one first" in browser.post(address, {"step": "withdraw"}).content.decode()


def test_the_page_is_for_who_may_change_the_credential(app: PlatformCredential) -> None:
    client = Client()
    client.force_login(get_user_model().objects.create_user("eve", password="x", is_staff=True))

    assert client.get(reverse("admin:integrations_platformcredential_secret", args=[app.pk])).status_code == 403


# -- the clock --


@pytest.mark.rule("E8")
@pytest.mark.parametrize(("days", "severity"), [(74, None), (75, ""), (90, "critical")])
def test_an_old_app_secret_is_told_warned_of_and_alerted(
    app: PlatformCredential, days: int, severity: str | None
) -> None:
    age(app, days)

    assert told_by("secrets.age") == ([] if severity is None else [(f"credential:{app.pk}", severity)])
    assert any(str(app) in line.what for line in doctor.ages()) == (severity is not None)
    assert key_clock.ages()["platform_credential"] == float(days)
    assert key_clock.days_left() == {"platform_credential": 90.0 - days}


def age(app: PlatformCredential, days: int) -> None:
    made_at = timezone.now() - timedelta(days=days)
    PlatformCredential.objects.filter(pk=app.pk).update(
        secret_set_at=made_at, rotate_by=timezone.localdate(made_at + timedelta(days=90))
    )


@pytest.mark.rule("E8")
def test_a_new_secret_ends_the_alert(app: PlatformCredential) -> None:
    age(app, 90)
    before = told_by("secrets.age")
    row = again(app)
    row.app_secret = NEW
    row.save()

    assert (before, told_by("secrets.age")) == ([(f"credential:{app.pk}", "critical")], [])
    assert again(app).rotate_by == timezone.localdate() + timedelta(days=90)


def test_saving_something_else_leaves_the_clock(app: PlatformCredential) -> None:
    age(app, 80)
    row = again(app)
    before = row.secret_set_at
    row.name, row.app_secret = "renamed", row.app_secret
    row.save()

    assert again(app).secret_set_at == before


@pytest.mark.rule("E8")
def test_api_keys_of_models_have_the_same_clock(db: None) -> None:
    model = factories.model(engine="openai", base_url="https://llm.example.com/v1", model="m", api_key="sk-1")
    key = ModelKey.objects.create(model=model, key="sk-2", name="second")
    ModelKey.objects.filter(pk=key.pk).update(rotate_by=timezone.localdate() + timedelta(days=15))

    assert told_by("secrets.age") == [(f"model key:{key.pk}", "")]
    assert model.rotate_by == timezone.localdate() + timedelta(days=90)
