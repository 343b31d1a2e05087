"""Production-safe settings. Every value that a deployment may change is declared in env.py."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from csp.constants import NONE, SELF, UNSAFE_EVAL
from django.core.exceptions import ImproperlyConfigured

from clawdbot_site.settings import admin_look, traces
from clawdbot_site.settings import env as environment
from clawdbot_site.settings.database import databases
from clawdbot_site.settings.env import BASE_DIR, env
from monitoring import logs

EMBEDDED = environment.is_embedded()
DATA_DIR = environment.data_dir()
ENV_FILE = BASE_DIR / ".env"
DEBUG = env("DEBUG")
SECRET_KEY = environment.secret("SECRET_KEY", "secret-key", environment.new_secret_key)
FIELD_ENCRYPTION_KEYS = environment.encryption_keys()
FIELD_ENCRYPTION_KEYS_FILE = environment.encryption_keys_file()  # with KEY_PROVIDER=file; else empty
KEY_PROVIDER = environment.key_provider()
VAULT = environment.vault()
PUBLIC_URL = environment.public_url()
HOST, PORT = env("CLAWDBOT_HOST"), env("CLAWDBOT_PORT")
ADMIN_PASSWORD = env("CLAWDBOT_ADMIN_PASSWORD")
REDIS_URL = env("REDIS_URL")
ALLOWED_HOSTS = [*env("ALLOWED_HOSTS"), urlsplit(PUBLIC_URL).hostname, "127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "unfold.contrib.filters",
    "unfold.apps.BasicAppConfig",  # leaves the choice of the admin site to clawdbot_site.apps
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "clawdbot_site.apps.AdminConfig",
    "rest_framework",
    "rest_framework_api_key",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_prometheus",
    "csp",
    "monitoring",
    "clawdbot_site.security",
    "inference",
    "integrations",
    "bots",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "clawdbot_site.content_policy.AdminScripts",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "clawdbot_site.security.sessions.SessionLimits",
    "monitoring.middleware.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "clawdbot_site.urls"
ASGI_APPLICATION = "clawdbot_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "clawdbot_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = databases(DATA_DIR)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "security.User"
MFA_REQUIRED_ROLES = environment.mfa_required_roles()
COMBINE_DUTIES = env("COMBINE_DUTIES")
SESSION_IDLE_S = environment.session_idle_s()
SESSION_LIFETIME_S = SESSION_COOKIE_AGE = environment.session_lifetime_s()
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
AUTHENTICATION_BACKENDS = ["clawdbot_site.security.authentication.LimitedBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = environment.language()
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "clawdbot_site" / "locale"]
TIME_ZONE = env("TIME_ZONE") or ("Asia/Shanghai" if LANGUAGE_CODE == "zh-hans" else "UTC")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "clawdbot_site" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
MEDIA_ROOT = DATA_DIR / "media"
FILE_UPLOAD_PERMISSIONS = None  # what the process's umask says: `up` keeps the data folder to its owner

# -- cookies and headers (rule A12) --
IS_HTTPS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_ENGINE = "clawdbot_site.security.session_store"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS and env("TRUSTED_PROXIES") else None
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# unsafe-eval (Alpine.js of the admin's look) is added under /admin/ only: see clawdbot_site/content_policy.py
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF, "'unsafe-inline'"],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
ADMIN_SCRIPT_SOURCES = [SELF, UNSAFE_EVAL]
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
APPEND_SLASH = True

# -- who may do what --
TRUSTED_PROXIES = environment.networks("TRUSTED_PROXIES")
AUTO_BLOCK_FAILURES = environment.at_least(0, "AUTO_BLOCK_FAILURES")
AUTO_BLOCK_WINDOW_S = environment.at_least(1, "AUTO_BLOCK_WINDOW_S")
AUTO_BLOCK_FIRST_S = environment.at_least(1, "AUTO_BLOCK_FIRST_S")
AUTO_BLOCK_LONGEST_S = environment.at_least(1, "AUTO_BLOCK_LONGEST_S")
REQUESTS_PER_MINUTE = environment.at_least(0, "REQUESTS_PER_MINUTE")
TOKEN_REQUESTS_PER_MINUTE = environment.at_least(0, "TOKEN_REQUESTS_PER_MINUTE")
METRICS_ALLOWED_NETWORKS = environment.networks("METRICS_ALLOWED_NETWORKS")
METRICS_TOKEN = env("METRICS_TOKEN")
WORKER_METRICS_PORT = env("WORKER_METRICS_PORT")
PROMETHEUS_EXPORT_MIGRATIONS = False
WATCH_ITSELF = True  # every process keeps its minutes, one looks at the alert rules (monitoring/watching.py)
TRACES, TRACE_URL = traces.config(), traces.page()  # TRACES is empty where none are sent
AUDIT_SINKS = env("AUDIT_SINKS") or [f"file:{DATA_DIR / 'audit'}"]
AUDIT_FORWARD_TO = env("AUDIT_FORWARD_TO")
AUDIT_RETENTION_DAYS = environment.audit_retention_days()
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "clawdbot_site.security.authentication.BearerAuthentication",
        "clawdbot_site.security.authentication.ApiKeyAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["clawdbot_site.security.permissions.HasScopes"],
    "DEFAULT_PAGINATION_CLASS": "clawdbot_site.rest.NewestFirst",
    "DEFAULT_FILTER_BACKENDS": ["monitoring.filtering.StrictFilterBackend"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["clawdbot_site.security.parsing.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "clawdbot_site.schema.SchemaWithErrors",
    "EXCEPTION_HANDLER": "clawdbot_site.rest.one_error_shape",
    "NUM_PROXIES": 0,  # addresses come from the gate; DRF must not read X-Forwarded-For by itself
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ClawdBot API",
    "VERSION": "1",
    "DESCRIPTION": "Bots, platform credentials, conversations and the audit log of one ClawdBot site.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "AppPlatform": "integrations.models.Platform",
        "MessageStatus": "bots.models.conversation.Message.Status",
        "ModelStatus": "inference.models.LanguageModel.Status",
    },
}

# -- outgoing calls --
FEISHU_BASE_URL = environment.base_url("FEISHU_BASE_URL")
DINGTALK_API_URL = environment.base_url("DINGTALK_API_URL")
DINGTALK_OAPI_URL = environment.base_url("DINGTALK_OAPI_URL")
PLATFORM_URLS = {  # where each platform's API is, and its second host: one has two
    "feishu": (FEISHU_BASE_URL, FEISHU_BASE_URL),
    "dingtalk": (DINGTALK_API_URL, DINGTALK_OAPI_URL),
}
MODEL_ENDPOINT = environment.base_url("MODEL_ENDPOINT")
MODEL_API_KEY, MODEL_NAME = env("MODEL_API_KEY"), env("MODEL_NAME")
MODEL_PATH = env("MODEL_PATH")
OUTBOUND_PROXY = environment.base_url("OUTBOUND_PROXY")
EMAIL_URL = env("EMAIL_URL")
vars().update(environment.email(EMAIL_URL))
OUTBOUND_ALLOWED_NETWORKS = environment.networks("OUTBOUND_ALLOWED_NETWORKS")
OUTBOUND_TRUSTED_ORIGINS = [
    f"{part.hostname}:{part.port or (443 if part.scheme == 'https' else 80)}"
    for part in map(
        urlsplit,
        [
            *(FEISHU_BASE_URL, DINGTALK_API_URL, DINGTALK_OAPI_URL, MODEL_ENDPOINT, *AUDIT_SINKS),
            TRACES.get("endpoint", ""),
            *(receiver.removeprefix("otlp+") for receiver in (env("LOG_FORWARD_TO"), *AUDIT_FORWARD_TO)),
        ],
    )
    if part.hostname and part.scheme in ("http", "https")
]

# -- doorbells, live updates, cache: Redis, or this process itself --
CELERY_BROKER_URL = REDIS_URL or "memory://localhost/"
# Without ack_emulation Redis keeps no copy of what a worker fetched (two round trips a message): the database knows.
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "ack_emulation": False}
    if REDIS_URL
    else {"polling_interval": 0.01}
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ACKS_LATE = False  # the lease in the database decides who works, not the broker
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Celery would close the thread's database connection before and after every task, which costs more than the task's own
# statements. Kept instead; bots.workers asks old ones whether they are alive.
CELERY_DB_REUSE_MAX = sys.maxsize
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20.0
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 2
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "bots.tasks.sweep", "schedule": 2.0, "options": {"expires": 2.0}},
    "close cards": {"task": "bots.tasks.close_cards", "schedule": 60.0, "options": {"expires": 60.0}},
    "tidy": {"task": "bots.tasks.tidy", "schedule": 3600.0, "options": {"expires": 600.0}},
    "check models": {"task": "inference.tasks.check_models", "schedule": 60.0, "options": {"expires": 60.0}},
    "count costs": {"task": "bots.tasks.count_costs", "schedule": 300.0, "options": {"expires": 300.0}},
    "record what bots did": {"task": "bots.tasks.record_turns", "schedule": 10.0, "options": {"expires": 10.0}},
    "seal the audit log": {"task": "monitoring.tasks.seal", "schedule": 2.0, "options": {"expires": 2.0}},
    "copy audit checkpoints": {
        "task": "monitoring.tasks.copy_checkpoints",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "forward the audit log": {
        "task": "monitoring.tasks.forward_audit",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "purge the audit log": {"task": "monitoring.tasks.purge", "schedule": 86_400.0, "options": {"expires": 3600.0}},
    "retire old secrets": {"task": "bots.tasks.retire_secrets", "schedule": 600.0, "options": {"expires": 600.0}},
    "look after keys": {
        "task": "clawdbot_site.security.tasks.look_after_keys",
        "schedule": 3600.0,
        "options": {"expires": 600.0},
    },
    "review quotas": {"task": "bots.tasks.review_quotas", "schedule": 3600.0, "options": {"expires": 600.0}},
}
CHANNEL_LAYERS = {
    "default": (
        {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
        if REDIS_URL
        else {"BACKEND": "integrations.web.layer.EmbeddedChannelLayer", "CONFIG": {"capacity": 10_000}}
    )
}
CACHES = {
    "default": (
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": "clawdbot",
            "OPTIONS": {"socket_timeout": 1.0, "socket_connect_timeout": 1.0},
        }
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    )
}

SCAN_RESULT = env("SCAN_RESULT")
LOG_DIR, LOG_FORWARD_TO = env("LOG_DIR"), env("LOG_FORWARD_TO")
try:
    LOGGING = logs.config(
        env("LOG_FORMAT"),
        env("LOG_LEVEL"),
        LOG_DIR or None,
        env("LOG_ROTATION"),
        LOG_FORWARD_TO,
        masks_people=env("LOG_MASK_PERSONAL_DATA"),
    )
except ValueError as error:
    raise ImproperlyConfigured(str(error)) from None
UNFOLD = admin_look.UNFOLD
SILENCED_SYSTEM_CHECKS: list[str] = []
