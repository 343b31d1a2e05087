# What the rules of house.yml must find (ruleid), and what they must let pass (ok). It is never run.
import hmac, json, logging, os, pickle, ssl, subprocess
import httpx, requests, torch, urllib.request
from django.db.models.expressions import RawSQL
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from clawdbot_site.security.outbound import guarded_client

logger = logging.getLogger(__name__)

# ruleid: tls-not-verified
client.fetch(url, verify=False)
# ruleid: tls-not-verified
context.verify_mode = ssl.CERT_NONE
# ruleid: tls-not-verified
context.check_hostname = False
# ruleid: tls-not-verified
context = ssl._create_unverified_context()
# ok: tls-not-verified
context = httpx.create_ssl_context(verify=True)
# ok: tls-not-verified
context.verify_mode = ssl.CERT_REQUIRED

# ruleid: http-past-the-guard
client = httpx.Client(timeout=5)
# ruleid: http-past-the-guard
answer = httpx.get(url)
# ruleid: http-past-the-guard
answer = requests.post(url)
# ruleid: http-past-the-guard
answer = urllib.request.urlopen(url)
# ok: http-past-the-guard
with guarded_client(timeout=5) as client:
    answer = client.get(url)


# ok: http-past-the-guard
def send(http: httpx.Client) -> None: ...


# ruleid: html-marked-safe
text = mark_safe(f"<b>{name}</b>")
# ruleid: html-marked-safe
text = SafeString("<b>" + name + "</b>")
# ok: html-marked-safe
text = format_html("<b>{}</b>", name)


# ok: html-marked-safe
def shown(self) -> SafeString: ...


# ruleid: secret-compared-by-equality
if given == credentials.app_secret:
    ...
# ruleid: secret-compared-by-equality
if row.signature != expected:
    ...
# ruleid: secret-compared-by-equality
if password == given:
    ...
# ok: secret-compared-by-equality
if hmac.compare_digest(given, credentials.app_secret):
    ...
# ok: secret-compared-by-equality
if credentials.app_secret == "":
    ...
# ok: secret-compared-by-equality
if signature_kind == expected:
    ...

try:
    work()
# ruleid: broad-except-without-reason
except Exception:
    pass
try:
    work()
# ruleid: broad-except-without-reason
except Exception as error:
    pass
try:
    work()
# ruleid: broad-except-without-reason
except:
    pass
try:
    work()
# ok: broad-except-without-reason
except Exception:  # the outermost loop: the next message must be answered
    pass
try:
    work()
# ok: broad-except-without-reason
except ValueError:
    pass

# ruleid: sql-from-strings
Message.objects.raw("SELECT * FROM bots_message WHERE text = '" + text + "'")
# ruleid: sql-from-strings
Message.objects.filter().extra(where=[text])
# ruleid: sql-from-strings
Message.objects.annotate(x=RawSQL(text, []))
# ruleid: sql-from-strings
cursor.execute(f"SELECT * FROM bots_message WHERE text = '{text}'")
# ruleid: sql-from-strings
cursor.execute("SELECT * FROM bots_message WHERE text = '%s'" % text)
# ruleid: sql-from-strings
cursor.execute("SELECT * FROM bots_message WHERE text = " + text)
# ok: sql-from-strings
cursor.execute("SELECT * FROM bots_message WHERE text = %s", [text])
# ok: sql-from-strings
Message.objects.filter(text=text)

# ruleid: read-before-authentication
event = json.loads(request.body)
# ok: read-before-authentication
event = payload.read(opened)

# ruleid: code-from-data
weights = pickle.loads(data)
# ruleid: code-from-data
weights = torch.load(path)
# ruleid: code-from-data
result = eval(text)
# ruleid: code-from-data
model = AutoModel.from_pretrained(path, trust_remote_code=True)
# ok: code-from-data
model = AutoModel.from_pretrained(path, trust_remote_code=False, local_files_only=True)
# ok: code-from-data
model.eval()

# ruleid: shell-command
subprocess.run(f"cat {path}", shell=True)
# ruleid: shell-command
os.system("cat " + path)
# ok: shell-command
subprocess.run(["cat", path], check=True)

# ruleid: log-message-not-constant
logger.info(f"reply to {name} delivered")
# ruleid: log-message-not-constant
logger.error("reply to " + name + " failed")
# ok: log-message-not-constant
logger.info("reply delivered", extra={"message_id": pk})
