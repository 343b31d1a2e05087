"""What a configuration file can say of bots, where they are reached, and what they do not take or say.

Groups are not among it: bots learn of them from the platforms.
"""

from __future__ import annotations

from bots.models import Bot, Endpoint, WordList
from monitoring.configuration.kinds import Kind, register

register(
    Kind(
        "bots",
        Bot,
        key=("slug",),
        fields=(
            "name",
            "team",
            "model",
            "fallback_model",
            "choosable_models",
            "system_prompt",
            "welcome_text",
            "ai_notice",
            "temperature",
            "top_p",
            "max_tokens",
            "history_messages",
            "context_scope",
            "group_policy",
            "reply_mode",
            "answers_together",
            "access",
            "allowed_users",
            "allowed_departments",
            "allowed_chats",
            "allowed_link_hosts",
            "moderator",
            "moderation_instruction",
            "moderates",
            "moderation_failure",
            "moderation_timeout_s",
            "too_late_after_s",
            "max_waiting",
            "rate_limit_per_user_per_minute",
            "daily_messages_per_user",
            "daily_tokens_per_user",
            "max_parallel_per_user",
            "daily_messages",
            "daily_tokens",
            "max_parallel",
            "keep_messages_days",
            "is_enabled",
        ),
        refers={"team": "teams"}
        | dict.fromkeys(("model", "fallback_model", "choosable_models", "moderator"), "models"),
    ),
    Kind(
        "endpoints",
        Endpoint,
        key=("bot", "credential"),
        fields=("mode", "unconfirmed_policy", "rate_limit_per_minute", "is_enabled"),
        refers={"bot": "bots", "credential": "credentials"},
    ),
    Kind(
        "word_lists",
        WordList,
        key=("name",),
        fields=("action", "place", "text", "whole_words", "is_for_all", "bots", "is_enabled", "note"),
        refers={"bots": "bots"},
    ),
)
