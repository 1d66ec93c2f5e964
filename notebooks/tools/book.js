/* What the pages of the book do by themselves: copy code, keep formulas inside, show where a search hit. */
"use strict";

function addCopyButtons() {
  for (const block of document.querySelectorAll("article div.highlight")) {
    if (block.closest(".cell_output")) continue;
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector("pre").innerText);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block.querySelector("pre"));
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    block.append(button);
  }
}

/** Let the inline formulas scroll that reach over the text's edge; MathJax breaks the others into lines. */
function keepInside() {
  const formulas = [...document.querySelectorAll("article mjx-container:not([display])")];
  for (const formula of formulas) formula.classList.remove("wide");
  const edge = document.querySelector("article")?.getBoundingClientRect().right;
  const over = formulas.filter((formula) => !formula.closest("table") &&
    [...formula.querySelectorAll("mjx-math, mjx-math *")].some((part) => part.getBoundingClientRect().right > edge + 1));
  for (const formula of over) formula.classList.add("wide");
}

// ---------------------------------------------------------------------- search: without a server no page can be fetched

const plain = (text) => text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** A stretch of `text` around the first of `words`, these marked. */
function snippet(text, words) {
  const at = Math.max(0, Math.min(...words.map((word) => text.toLowerCase().indexOf(word)).filter((i) => i >= 0)) - 80);
  const from = at ? text.indexOf(" ", at) + 1 : 0, shown = text.slice(from, from + 220);
  const any = new RegExp(words.map((word) => plain(word).replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "gi");
  return `${from ? "… " : ""}${plain(shown).replace(any, "<mark>$&</mark>")}${from + 220 < text.length ? " …" : ""}`;
}

/** Below a hit: the section of its page with most of the words (or of their stems), and a link there. */
function explain(hit, words) {
  const link = hit.querySelector("a"), [page, anchor] = link.getAttribute("href").split("#");
  const inside = (text) => words.flatMap((forms) => forms.find((form) => text.toLowerCase().includes(form)) || []);
  const held = ([, heading, text]) => inside(`${heading} ${text}`).length;
  const sections = (BOOK_TEXTS[page] || []).filter(([id]) => !anchor || id === anchor);
  const best = sections.reduce((a, b) => (a && held(a) >= held(b) ? a : b), null);
  if (!best || hit.querySelector(".snippet")) return;
  const line = hit.appendChild(document.createElement("p")), found = inside(best[2]);
  line.className = "snippet";
  if (!held(best)) line.textContent = "In its code.";
  else line.innerHTML = `<a href="${page}#${best[0]}">${plain(best[1])}</a>: ${found.length ? snippet(best[2], found) : ""}`;
}

function explainHits(results) {
  const asked = (new URLSearchParams(location.search).get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const stemmer = new Stemmer(), words = asked.map((word) => [word, stemmer.stemWord(word)]); // Sphinx finds stems
  const script = document.head.appendChild(document.createElement("script"));
  const all = () => results.querySelectorAll("ul.search > li").forEach((hit) => explain(hit, words));
  script.src = "_static/texts.js";
  script.onload = () => {
    all();
    new MutationObserver(all).observe(results, { childList: true, subtree: true });
  };
}

/** A playground inside a page wears the page's theme. */
function dressPlaygrounds() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  for (const frame of document.querySelectorAll("iframe.playground")) {
    const say = () => {
      const { theme } = document.body.dataset, now = ["light", "dark"].includes(theme) ? theme : dark.matches ? "dark" : "light";
      frame.contentWindow.postMessage({ theme: now }, "*");
    };
    window.addEventListener("message", ({ source }) => source === frame.contentWindow && say()); // it asks
    new MutationObserver(say).observe(document.body, { attributeFilter: ["data-theme"] });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  addCopyButtons();
  dressPlaygrounds();
  const results = document.getElementById("search-results");
  if (results) explainHits(results);
});
window.addEventListener("load", async () => {
  if (!window.MathJax?.startup) return;
  await MathJax.startup.promise;
  keepInside();
  document.addEventListener("toggle", keepInside, true);
  let waiting;
  window.addEventListener("resize", () => (clearTimeout(waiting), (waiting = setTimeout(keepInside, 200))));
});
