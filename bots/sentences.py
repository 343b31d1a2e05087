"""The fixed sentences that a bot says to people, in the site's language."""

from __future__ import annotations

from django.utils.translation import gettext as _


def say(what: str) -> str:
    """The sentence of this name."""
    return {
        "model_failed": _("Sorry, I cannot answer right now. Please ask me again later."),
        "bad_question": _("Sorry, I cannot work with this message. It may be too long: please shorten it."),
        "too_late": _("Sorry, I could not answer your message in time. Please ask again if you still need an answer."),
        "unsupported": _("Sorry, I can only read text so far. Please write your question."),
        "too_many": _("You are writing faster than I may answer. Please wait a minute."),
        "too_much_today": _("You have used up today's allowance. Please come back tomorrow."),
        "busy": _("I am busy right now, please wait a few minutes and ask again."),
        "stopped": _("(stopped)"),
        "nothing_to_stop": _("There is nothing to stop."),
        "stopped_for_you": _("Stopped."),
        "new": _("A new conversation begins. I no longer remember what was said before."),
        "help": _(
            "Just write your question. Besides, I understand:\n"
            "- /new: begin a new conversation\n- /stop: stop the answer\n- /status: what I am and how I am\n"
            "- /help: this list"
        ),
    }[what]
