/* The playground's chat over /ws/chat/<slug>/. A question keeps its own id, so after a lost line it is asked again by
   the same id, answered once, and what was missed arrives. */
(() => {
  "use strict";

  const root = document.getElementById("playground");
  const find = (id) => document.getElementById(id);
  const [log, empty, form, input] = ["pg-log", "pg-empty", "pg-form", "pg-text"].map(find);
  const [stopButton, downButton, newButton, spoken] = ["pg-stop", "pg-down", "pg-new", "pg-spoken"].map(find);
  const texts = JSON.parse(find("pg-texts").textContent);
  const line = root.querySelector(".pg-line");
  const slug = root.dataset.slug;
  const UNSENT = `clawdbot-unsent-${slug}`;
  const [SIGNED_OUT, FORBIDDEN, NO_SUCH_BOT] = [4401, 4403, 4404];

  const waiting = new Map(); // own id -> turn
  const asked = new Map(); // the server's message id -> turn
  let socket = null;
  let isReady = false;
  let failures = 0;
  let retryTimer = 0;

  // -- turns on the page --

  function newTurn(ownId, text) {
    const section = document.createElement("section");
    section.className = "pg-turn";
    section.dataset.ownId = ownId;
    for (const name of ["pg-question", "pg-answer"]) {
      const part = document.createElement("div");
      part.className = name;
      section.append(part);
    }
    const meta = document.createElement("p");
    meta.className = "pg-meta";
    section.append(meta);
    section.querySelector(".pg-question").textContent = text;
    log.append(section);
    return turnOf(section, text);
  }

  function turnOf(section, text) {
    return {
      ownId: section.dataset.ownId, text, section, raw: "", sentAt: performance.now(), firstAt: 0, frame: 0,
      answer: section.querySelector(".pg-answer"), meta: section.querySelector(".pg-meta"),
    };
  }

  function show(turn) {
    turn.frame = 0;
    const isNear = isAtEnd();
    turn.answer.replaceChildren(...window.clawdbotMarkdown(turn.raw));
    if (isNear) toEnd();
  }

  function showSoon(turn) {
    if (!turn.frame) turn.frame = turn.raw.length > 8000 ? setTimeout(() => show(turn), 120) : requestAnimationFrame(() => show(turn));
  }

  function addCopyButtons(answer) {
    for (const block of answer.querySelectorAll("pre")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "pg-copy";
      button.textContent = texts.copy;
      button.addEventListener("click", () => {
        window.clawdbotCopy(block.querySelector("code").textContent);
        button.textContent = texts.copied;
        setTimeout(() => { button.textContent = texts.copy; }, 1500);
      });
      block.append(button);
    }
  }

  const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

  function finish(turn, state, { timings = {}, usage = null, text = null } = {}) {
    clearTimeout(turn.frame);
    cancelAnimationFrame(turn.frame);
    if (text !== null) turn.raw = text;
    turn.section.dataset.state = state;
    show(turn);
    addCopyButtons(turn.answer);
    const first = timings.first_token ?? (turn.firstAt ? turn.firstAt - turn.sentAt : null);
    const parts = [];
    if (state === "done" && first !== null) parts.push(`${texts.first_token} ${duration(first)}`);
    if (timings.total !== undefined) parts.push(`${texts.total} ${duration(timings.total)}`);
    if (usage && usage.total_tokens) parts.push(`${usage.prompt_tokens} → ${usage.completion_tokens} ${texts.tokens}`);
    turn.meta.replaceChildren(...parts.map((part) => Object.assign(document.createElement("span"), { textContent: part })));
    spoken.textContent = turn.answer.textContent;
    forget(turn);
    if (isAtEnd(160)) toEnd();
  }

  function fail(turn, message) {
    finish(turn, "failed", { text: turn.raw || message || texts.failed });
    const again = document.createElement("button");
    again.type = "button";
    again.className = "cb-link";
    again.textContent = texts.again;
    again.addEventListener("click", () => { again.remove(); ask(turn.text); });
    turn.meta.append(again);
  }

  function forget(turn) {
    waiting.delete(turn.ownId);
    keepUnsent();
    stopButton.hidden = waiting.size === 0;
  }

  const isAtEnd = (slack = 80) => log.scrollHeight - log.scrollTop - log.clientHeight < slack;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };

  // -- asking --

  function ask(text) {
    const ownId = crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    empty.hidden = true;
    waitFor(newTurn(ownId, text));
    toEnd();
  }

  function waitFor(turn) {
    turn.section.dataset.state = "waiting";
    waiting.set(turn.ownId, turn);
    keepUnsent();
    stopButton.hidden = false;
    post(turn);
  }

  function post(turn) {
    if (isReady) send({ type: "message", id: turn.ownId, text: turn.text });
  }

  const send = (frame) => socket.send(JSON.stringify(frame));

  /* A reload of the page loses nothing either. */
  function keepUnsent() {
    const kept = [...waiting.values()].map(({ ownId, text }) => ({ ownId, text }));
    try { sessionStorage.setItem(UNSENT, JSON.stringify(kept)); } catch { /* a private window without storage */ }
  }

  function unsent() {
    try { return JSON.parse(sessionStorage.getItem(UNSENT) || "[]"); } catch { return []; }
  }

  // -- the line --

  function say(state, text) {
    line.dataset.state = state;
    find("pg-state").textContent = text;
  }

  function connect() {
    clearTimeout(retryTimer);
    const opened = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws/chat/${slug}/`);
    socket = opened;
    opened.onmessage = (event) => { const frame = JSON.parse(event.data); (handlers[frame.type] || (() => {}))(frame); };
    opened.onclose = (event) => { if (socket === opened) lost(event.code); };
  }

  function lost(code) {
    isReady = false;
    if (code === SIGNED_OUT) return signedOut();
    if (code === FORBIDDEN || code === NO_SUCH_BOT) return say("offline", texts.gone);
    say("offline", texts.offline);
    const wait = Math.min(8000, 400 * 2 ** failures++) * (0.7 + Math.random() * 0.6);
    clearTimeout(retryTimer);
    retryTimer = setTimeout(connect, wait);
  }

  function signedOut() {
    say("offline", "");
    const link = Object.assign(document.createElement("a"), { href: root.dataset.signIn, textContent: texts.signed_out, className: "cb-link" });
    find("pg-state").replaceChildren(link);
  }

  const handlers = {
    ready() {
      [isReady, failures] = [true, 0];
      say("online", texts.online);
      asked.clear();
      waiting.forEach(post);
    },
    accepted(frame) {
      const turn = waiting.get(frame.id);
      if (!turn) return;
      turn.raw = ""; // after a lost line the answer comes again from its beginning
      asked.set(frame.message_id, turn);
    },
    delta(frame) {
      const turn = asked.get(frame.message_id);
      if (!turn) return;
      turn.firstAt ||= performance.now();
      turn.raw += frame.text;
      turn.section.dataset.state = "writing";
      showSoon(turn);
    },
    done(frame) {
      const turn = asked.get(frame.message_id);
      if (turn) finish(turn, "done", { ...frame, text: frame.text || turn.raw || texts.stopped });
    },
    error(frame) {
      const turn = asked.get(frame.message_id) || waiting.get(frame.id);
      if (turn) fail(turn, frame.message);
      else say(line.dataset.state, frame.message);
    },
  };

  // -- the person --

  /* The page is cleared at once: what is asked next belongs to the new conversation already. */
  function beginAnew() {
    if (!isReady) return;
    send({ type: "new" });
    waiting.clear();
    asked.clear();
    keepUnsent();
    log.querySelectorAll(".pg-turn").forEach((turn) => turn.remove());
    stopButton.hidden = true;
    empty.hidden = false;
    input.focus();
  }

  function submit() {
    const text = input.value.trim();
    if (!text) return;
    input.value = "";
    grow();
    ask(text);
  }

  function grow() {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 200)}px`;
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); input.focus(); });
  input.addEventListener("input", grow);
  input.addEventListener("keydown", (event) => {
    const isComposing = event.isComposing || event.keyCode === 229; // an input method's Enter chooses a word
    if (event.key === "Enter" && !event.shiftKey && !isComposing) {
      event.preventDefault();
      submit();
    }
  });
  stopButton.addEventListener("click", () => { if (isReady) send({ type: "stop" }); });
  newButton.addEventListener("click", beginAnew);
  downButton.addEventListener("click", toEnd);
  log.addEventListener("scroll", () => { downButton.hidden = isAtEnd(200); }, { passive: true });
  empty.addEventListener("click", (event) => { const chip = event.target.closest("[data-say]"); if (chip) ask(chip.dataset.say); });
  const hurry = () => { if (!isReady && socket.readyState === WebSocket.CLOSED && failures) connect(); };
  window.addEventListener("online", hurry);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) hurry(); });

  // -- the beginning --

  const left = unsent();
  for (const section of log.querySelectorAll(".pg-turn")) {
    const turn = turnOf(section, section.querySelector(".pg-question").textContent);
    if (section.dataset.state === "waiting") waitFor(turn);
    else {
      turn.raw = turn.answer.textContent;
      show(turn);
      addCopyButtons(turn.answer);
    }
  }
  const known = new Set([...log.querySelectorAll(".pg-turn")].map((section) => section.dataset.ownId));
  for (const { ownId, text } of left.filter((one) => !known.has(one.ownId))) {
    empty.hidden = true;
    waitFor(newTurn(ownId, text));
  }
  keepUnsent();
  toEnd();
  connect();
})();
