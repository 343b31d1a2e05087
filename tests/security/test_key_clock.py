"""Rule E8: keys are replaced at 90 days by the scheduler; people are warned from 75 on and alerted from 90 on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from clawdbot_site.security import doctor, key_clock, key_keeping, key_providers, key_ring, signing_keys
from clawdbot_site.security.key_keeping import look_after_keys
from clawdbot_site.security.models.keys import DataKey
from clawdbot_site.security.models.tokens import SigningKey
from monitoring import audit, metrics, sealer, signing
from monitoring.models import Alert, AuditKey, AuditLog
from tests import factories
from tests.monitoring.alerting.made import told_by

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_ring() -> Iterator[None]:
    key_ring.forget()
    signing_keys.ring.forget()
    yield
    key_ring.forget()
    signing_keys.ring.forget()


def grow_old(days: int) -> None:
    """All keys that there are, by so many days."""
    made_at = timezone.now() - timedelta(days=days)
    DataKey.objects.update(created_at=made_at)
    SigningKey.objects.update(created_at=made_at)
    SigningKey.objects.filter(state="current").update(signs_since=made_at)
    audit.record("bot.changed")  # something to sign
    sealer.run()
    AuditKey.objects.update(created_at=made_at)


def told() -> set[str]:
    return {line.what.partition(" is ")[0] for line in doctor.ages() if line.level == "warning" and "key" in line.what}


def own_ages() -> dict[str, float]:
    return {kind: age for kind, age in key_clock.ages().items() if kind in ("data", "token_signing", "audit_signing")}


@pytest.mark.rule("E8")
@pytest.mark.parametrize(("days", "state"), [(0, "fresh"), (74, "fresh"), (75, "due"), (89, "due"), (90, "overdue")])
def test_the_clock_warns_at_75_and_is_up_at_90_days(days: int, state: str) -> None:
    made_at = timezone.now() - timedelta(days=days)

    assert key_clock.Dated.by_itself("data", "x", "The key", made_at).state() == state


@pytest.mark.rule("E8")
def test_the_scheduler_replaces_every_key_of_ninety_days_and_moves_the_secrets() -> None:
    credential = factories.credential()
    old = key_ring.primary_id(), signing_keys.ring.signing_key()[0], signing.signer().fingerprint
    grow_old(90)
    look_after_keys()
    key_ring.forget()
    signing_keys.ring.forget()

    new = key_ring.primary_id(), signing_keys.ring.signing_key()[0], signing.signer().fingerprint
    assert not set(old) & set(new)
    assert DataKey.objects.get(key_id=old[0]).state == "retired"
    credential.refresh_from_db()
    assert credential.app_secret
    assert own_ages() == {"data": 0.0, "token_signing": 0.0, "audit_signing": 0.0}
    assert not Alert.objects.open().filter(rule=key_keeping.RULE).exists()
    assert told_by("keys.age") == []
    actions = {"keys.rotated", "keys.reencrypted", "signing_key.rotated", "auditlog.key_changed"}
    assert set(AuditLog.objects.filter(action__in=actions).values_list("action", flat=True)) == actions


@pytest.mark.rule("E8")
def test_keys_of_89_days_stay_and_doctor_and_the_metric_tell() -> None:
    old = key_ring.primary_id(), signing_keys.ring.signing_key()[0]
    grow_old(89)
    look_after_keys()
    key_ring.forget()
    signing_keys.ring.forget()

    assert (key_ring.primary_id(), signing_keys.ring.signing_key()[0]) == old
    assert told() == {
        f"The data key {old[0]:08x}",
        "The key that signs access tokens",
        "The key that signs the audit log",
    }
    assert own_ages() == {"data": 89.0, "token_signing": 89.0, "audit_signing": 89.0}
    assert metrics._registered.callbacks["clawdbot_key_age_days"] is key_clock.ages
    assert told_by("keys.age") == [
        ("data", ""),
        ("token_signing", ""),
        ("audit_signing", ""),
    ]  # they are due


@pytest.mark.rule("E8")
def test_a_key_that_could_not_be_replaced_opens_an_alert_that_closes_again(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_ring.primary_id()
    key_ring._uncommitted.clear()
    key_ring._load()
    grow_old(90)
    keks, settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS, []  # as a Vault that is down
    look_after_keys()

    assert dict(Alert.objects.open().values_list("rule", "severity")) == {key_keeping.RULE: "critical"}
    assert told_by("keys.age") == [("data", "critical")]
    assert own_ages()["token_signing"] == 0.0  # what does not need the wrapping key was replaced all the same
    settings.FIELD_ENCRYPTION_KEYS = keks
    look_after_keys()
    assert not Alert.objects.open().exists()
    assert told_by("keys.age") == []


@pytest.mark.rule("E8")
def test_a_key_that_sealed_nearly_two_to_the_thirty_times_is_replaced() -> None:
    old = key_ring.primary_id()
    DataKey.objects.filter(key_id=old).update(uses=2**30 * 3 // 4)
    look_after_keys()
    key_ring.forget()

    assert key_ring.primary_id() != old
    assert DataKey.objects.get(key_id=old).uses < 2**30


def test_a_new_wrapping_key_is_followed_by_the_scheduler(settings: Any) -> None:
    key_ring.primary_id()
    settings.FIELD_ENCRYPTION_KEYS = ["NbG8m3xq1ZPpTzXWwF6c0kq8H5r2y7uJv9sLdQeRtYI=", *settings.FIELD_ENCRYPTION_KEYS]
    look_after_keys()

    assert set(DataKey.objects.values_list("kek_id", flat=True)) == {key_providers.wrapping().wrapping_keys()[0]}


def test_private_halves_of_token_keys_that_nobody_believes_are_erased() -> None:
    signing_keys.rotate_signing_keys()
    SigningKey.objects.filter(state="previous").update(not_after=timezone.now() - timedelta(seconds=1))
    look_after_keys()

    assert [row.private_pem for row in SigningKey.objects.filter(state="retired")] == [""]


@pytest.mark.rule("A3")
def test_a_token_key_that_was_published_just_now_does_not_sign_yet() -> None:
    signing_keys.rotate_signing_keys()

    with pytest.raises(signing_keys.TooSoon, match=r"Try again in 1[12]\d s"):
        signing_keys.rotate_by_hand()
    SigningKey.objects.filter(state="next").update(created_at=timezone.now() - signing_keys.PUBLISHED_FOR)
    signing_keys.rotate_by_hand()
