"""Who is named in a text. Pure; the same for every platform."""

from __future__ import annotations

import re
from collections.abc import Sequence

from integrations.values import Mention


def resolve(text: str, mentions: Sequence[Mention], own_id: str) -> tuple[str, bool]:
    """Drop the bot's own mention, name the others; say whether the bot was mentioned by its own id.

    Tokens are replaced whole: ``@_user_1`` is a prefix of ``@_user_10``. Never by name: a person may bear the bot's.
    """
    shown = {m.token: "" if own_id and m.id == own_id else f"@{m.name}" for m in mentions}
    is_addressed = bool(own_id) and any(m.id == own_id for m in mentions)
    if shown:
        longest_first = sorted(shown, key=len, reverse=True)
        pattern = "|".join(rf"{re.escape(token)}(?!\d)" for token in longest_first)
        text = re.sub(pattern, lambda found: shown[found[0]], text)
    return re.sub(r" {2,}", " ", text).strip(), is_addressed
