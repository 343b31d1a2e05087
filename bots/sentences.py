"""The fixed sentences that a bot says to people, in the site's language."""

from __future__ import annotations

from django.utils.translation import gettext as _


def say(what: str) -> str:
    """The sentence of this name."""
    return {
        "model_failed": _("Sorry, I cannot answer right now. Please ask me again later."),
        "bad_question": _("Sorry, I cannot work with this message. It may be too long: please shorten it."),
        "too_late": _("Sorry, I could not answer your message in time. Please ask again if you still need an answer."),
        "unsupported": _("Sorry, I cannot read this kind of message. Please write your question."),
        "not_allowed": _("Sorry, I may not talk to you here. Please ask your administrator."),
        "too_many": _("You are writing faster than I may answer. Please wait a minute."),
        "too_much_today": _("You have used up today's allowance. Please come back tomorrow."),
        "bot_had_enough": _("I have answered as much as I may today. Please come back tomorrow."),
        "blocked": _("Sorry, I may not answer this. Please ask in another way, or ask your administrator."),
        "answer_blocked": _("Sorry, I may not say more about this."),
        "no_tools": _("I can only answer here; I may not do anything else. Please ask me in another way."),
        "not_judged": _("Sorry, I cannot check this message right now. Please ask me again later."),
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
        "reads_files": _("You can send me files, too: text, PDF, Word, Excel and CSV."),
        "reads_images_too": _("You can send me pictures and files, too: text, PDF, Word, Excel and CSV."),
    }[what]


def unreadable(problem: str, name: str) -> str:
    """Why a file could not be used, and what may help. ``name`` may be empty."""
    reason = {
        "too_large": _("it is too large for me."),
        "encrypted": _("it is protected by a password. Please send it without one."),
        "broken": _("it is damaged."),
        "unknown_kind": _("I do not know this kind of file. I can read text, PDF, Word, Excel and CSV."),
        "old_format": _("it is in an old format. Please save it as docx, xlsx or PDF and send it again."),
        "empty": _("I find no text in it. If it was scanned, please send the text."),
        "too_slow": _("reading it takes too long."),
        "gone": _("I could not fetch it. Please send it again."),
        "blind": _("I cannot see pictures. Please describe in words what it shows."),
        "audio": _("I cannot listen to recordings. Please write what you want to know."),
        "video": _("I cannot watch videos. Please write what you want to know."),
    }[problem]
    if problem in ("blind", "audio", "video"):
        return _("About what you sent: %(reason)s") % {"reason": reason}
    if not name:
        return _("I could not read the file: %(reason)s") % {"reason": reason}
    return _("I could not read “%(name)s”: %(reason)s") % {"name": name, "reason": reason}
