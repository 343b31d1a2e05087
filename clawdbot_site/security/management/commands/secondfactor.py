"""``manage.py secondfactor reset NAME``: the way back in for an owner whose phone is lost."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clawdbot_site.security import second_factor
from clawdbot_site.security.models import User


class Command(BaseCommand):
    help = "Reset somebody's second factor: it is forgotten, every session ends, and the next sign-in sets up another."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["reset"])
        parser.add_argument("username")

    def handle(self, *args: Any, action: str, username: str, **options: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no account {username}.")
        if not second_factor.remove(user, reason="by command"):
            raise CommandError(f"{username} has no second factor.")
        self.stdout.write(
            f"The second factor of {username} was reset. The next sign-in sets up another where required."
        )
