/* Copy buttons: data-copy names the field whose value is copied. */
(() => {
  "use strict";

  /* Without https (or localhost) browsers offer no clipboard, only the old command. */
  function copyByHand(text) {
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "cb-sr" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  window.clawdbotCopy = (text) => (navigator.clipboard ? navigator.clipboard.writeText(text).catch(() => copyByHand(text)) : copyByHand(text));

  document.addEventListener("click", async (event) => {
    const button = event.target.closest && event.target.closest("[data-copy]");
    if (!button) return;
    await window.clawdbotCopy(document.querySelector(button.dataset.copy).value);
    const label = button.querySelector("[data-copy-text]");
    const before = label.textContent;
    label.textContent = button.dataset.copied;
    setTimeout(() => { label.textContent = before; }, 1500);
  });
})();
