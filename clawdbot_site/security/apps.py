"""Wires the app: roles after migrations, rules that follow their table, sign-ins into the audit log, checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import m2m_changed, post_delete, post_migrate, post_save
from django.utils.translation import gettext_lazy as _


class SecurityConfig(AppConfig):
    name = "clawdbot_site.security"
    label = "security"
    verbose_name = _("Access")

    def ready(self) -> None:
        # Models are there only now.
        from clawdbot_site.security import (
            alerting,
            authentication,
            checks,
            doctor,
            key_clock,
            key_ring,
            outbound,
            roles,
            rule_book,
            signing_keys,
            suspects,
        )
        from clawdbot_site.security.models import IPRule, User
        from monitoring import audit, outgoing, sinks, vault

        checks.register()
        vault.register(key_ring)
        sinks.register_post(outbound.post_json)
        outgoing.register(outbound.post_json, outbound.guarded_client)
        doctor.register()
        audit.on_refusal(suspects.watch.note)
        key_clock.register_gauges()
        alerting.register_all()
        # In this order: signing keys are sealed with data keys.
        post_migrate.connect(key_ring.after_migrate, sender=self, dispatch_uid="security.data_keys")
        post_migrate.connect(signing_keys.after_migrate, sender=self, dispatch_uid="security.signing_keys")
        post_migrate.connect(roles.ensure_groups_after_migrate, dispatch_uid="security.groups")
        m2m_changed.connect(roles.check_group_change, sender=User.groups.through, dispatch_uid="security.duties")
        for signal in (post_save, post_delete):
            signal.connect(rule_book.rules_changed, sender=IPRule, dispatch_uid="security.rules")
        user_logged_in.connect(authentication.note_sign_in, dispatch_uid="security.sign_in")
        user_logged_out.connect(authentication.note_sign_out, dispatch_uid="security.sign_out")
        user_login_failed.connect(authentication.note_failure, dispatch_uid="security.failure")
