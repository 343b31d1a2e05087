/* Markdown of answers as DOM nodes. A model's text only ever becomes text nodes: no innerHTML, no HTML, no images. */
(() => {
  "use strict";

  const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(?=\S)(.+?\S?)\*\*|(?<![\w*])\*(?=[^\s*])(.+?)\*(?![\w*])|~~(?=\S)(.+?)~~|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()"'，。；、）】]+[^\s<>()"'.,;:!?，。；、）】])/;

  function make(name, ...children) {
    const element = document.createElement(name);
    element.append(...children);
    return element;
  }

  function link(address, text) {
    const element = make("a", text);
    Object.assign(element, { href: address, target: "_blank", rel: "noopener noreferrer nofollow", title: address });
    return element;
  }

  function inline(text) {
    const nodes = [];
    for (let rest = text; rest; ) {
      const found = INLINE.exec(rest);
      if (!found) {
        nodes.push(rest);
        break;
      }
      if (found.index) nodes.push(rest.slice(0, found.index));
      const [whole, , code, bold, italic, gone, label, target, bare] = found;
      if (code !== undefined) nodes.push(make("code", code));
      else if (bold !== undefined) nodes.push(make("strong", ...inline(bold)));
      else if (italic !== undefined) nodes.push(make("em", ...inline(italic)));
      else if (gone !== undefined) nodes.push(make("s", ...inline(gone)));
      else if (target !== undefined) nodes.push(link(target, label));
      else nodes.push(link(bare, bare));
      rest = rest.slice(found.index + whole.length);
    }
    return nodes;
  }

  function lines(texts) {
    const nodes = [];
    texts.forEach((text, number) => {
      if (number) nodes.push(make("br"));
      nodes.push(...inline(text));
    });
    return nodes;
  }

  const FENCE = /^\s*(```+|~~~+)\s*([\w+#.-]*)/;
  const HEADING = /^(#{1,6})\s+(.*)$/;
  const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
  const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
  const QUOTE = /^\s*>\s?(.*)$/;
  const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

  const begins = (line) => !line.trim() || [FENCE, HEADING, ITEM, RULE, QUOTE].some((kind) => kind.test(line));

  function codeBlock(source, from) {
    const [, fence, language] = FENCE.exec(source[from]);
    let end = from + 1;
    while (end < source.length && !source[end].trim().startsWith(fence)) end += 1;
    const code = make("code", source.slice(from + 1, end).join("\n"));
    const block = make("pre", code);
    if (language) block.dataset.language = language;
    return [block, end + 1];
  }

  function list(source, from) {
    const [, indent, mark] = ITEM.exec(source[from]);
    const isOrdered = /\d/.test(mark);
    const element = make(isOrdered ? "ol" : "ul");
    if (isOrdered) element.start = parseInt(mark, 10);
    let at = from;
    while (at < source.length) {
      const item = ITEM.exec(source[at]);
      if (item && item[1].length > indent.length + 1 && element.lastChild) {
        const [inner, next] = list(source, at);
        element.lastChild.append(inner);
        at = next;
      } else if (item && item[1].length <= indent.length + 1 && item[1].length >= indent.length && /\d/.test(item[2]) === isOrdered) {
        element.append(make("li", ...inline(item[3])));
        at += 1;
      } else if (!item && source[at].trim() && /^\s{2,}/.test(source[at]) && element.lastChild) {
        element.lastChild.append(make("br"), ...inline(source[at].trim()));
        at += 1;
      } else if (!source[at].trim() && at + 1 < source.length && ITEM.test(source[at + 1])) {
        at += 1;
      } else break;
    }
    return [element, at];
  }

  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

  function table(source, from) {
    const row = (line, name) => make("tr", ...cells(line).map((cell) => make(name, ...inline(cell))));
    const body = make("tbody");
    let at = from + 2;
    for (; at < source.length && source[at].includes("|") && source[at].trim(); at += 1) body.append(row(source[at], "td"));
    const wrapper = make("div", make("table", make("thead", row(source[from], "th")), body));
    wrapper.className = "md-table";
    return [wrapper, at];
  }

  function quote(source, from) {
    let at = from;
    const inner = [];
    for (; at < source.length && QUOTE.test(source[at]); at += 1) inner.push(QUOTE.exec(source[at])[1]);
    return [make("blockquote", ...blocks(inner)), at];
  }

  function paragraph(source, from) {
    let at = from + 1;
    while (at < source.length && !begins(source[at])) at += 1;
    return [make("p", ...lines(source.slice(from, at))), at];
  }

  function block(source, at) {
    const line = source[at];
    if (FENCE.test(line)) return codeBlock(source, at);
    const heading = HEADING.exec(line);
    if (heading) return [make(`h${Math.min(6, heading[1].length + 2)}`, ...inline(heading[2])), at + 1];
    if (RULE.test(line)) return [make("hr"), at + 1];
    if (ITEM.test(line)) return list(source, at);
    if (QUOTE.test(line)) return quote(source, at);
    if (line.includes("|") && at + 1 < source.length && TABLE_RULE.test(source[at + 1]) && source[at + 1].includes("|")) return table(source, at);
    return paragraph(source, at);
  }

  function blocks(source) {
    const nodes = [];
    for (let at = 0; at < source.length; ) {
      if (!source[at].trim()) {
        at += 1;
        continue;
      }
      const [node, next] = block(source, at);
      nodes.push(node);
      at = Math.max(next, at + 1);
    }
    return nodes;
  }

  window.clawdbotMarkdown = (text) => blocks(text.replace(/\r\n?/g, "\n").split("\n"));
})();
