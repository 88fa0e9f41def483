// Keeps the page live: sections that changed arrive as HTML over /events and are worked into the document, so that what
// is open, selected, focused or scrolled stays so. Nothing that arrives is ever executed.
"use strict";
(() => {
  const body = document.body;
  // Not relative addresses: where the page's own has a password in it, they would have it too, and be refused.
  const here = (path) => location.origin + path;
  const byId = (id) => document.getElementById(id);
  const silence = 6000; // ms without a word after which the page is not live
  const patience = 15000; // and after which the connection is given up
  const reloadPause = 10000; // at most one reload in this time
  let heard = Date.now();
  let seen = body.dataset.at; // the server's time of what is shown
  let source = null;
  let opened = 0;
  let stale = false;
  let outdated = false; // the worker speaks of another build's page

  // --- what is live, and what is not ---

  const follow = () => {
    const health = byId("health");
    const tone = stale ? "stale" : health.dataset.tone;
    const title = health.dataset.title;
    document.title = stale ? "? Not live – " + title.slice(title.indexOf("–") + 2) : title;
    const icon = body.getAttribute("data-icon-" + tone);
    if (icon && byId("icon").getAttribute("href") !== icon) byId("icon").setAttribute("href", icon);
  };

  const mark = (now) => {
    if (now !== stale) {
      stale = now;
      body.classList.toggle("is-stale", stale);
      byId("live").hidden = stale;
      byId("stale").hidden = !stale;
      if (stale) {
        byId("stale").firstElementChild.textContent =
          "Not live: this is how it was at " + new Date(seen).toLocaleTimeString([], { hour12: false }) + "; trying again…";
      }
    }
    follow();
  };

  const alive = (at) => {
    if (outdated) return;
    heard = Date.now();
    if (at) seen = at;
    if (stale || byId("live").hidden) mark(false);
    byId("live").hidden = false;
  };

  const reload = () => {
    const last = Number(sessionStorage.getItem("runqy-reload")) || 0;
    if (Math.abs(Date.now() - last) < reloadPause) return;
    sessionStorage.setItem("runqy-reload", String(Date.now()));
    location.reload();
  };

  // --- the stream ---

  const listen = () => {
    if (source) source.close();
    opened = Date.now();
    source = new EventSource(here("/events"));
    source.addEventListener("beat", (e) => alive(JSON.parse(e.data).at));
    source.addEventListener("sections", (e) => {
      const update = JSON.parse(e.data);
      if (update.page !== body.dataset.build) {
        outdated = true;
        mark(true);
        return reload();
      }
      alive();
      for (const section of update.sections) replace(section.id, section.html);
      follow();
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) refused();
      // A stream that lived is opened again at once: every stream ends some time. Otherwise the browser waits and tries.
      else if (Date.now() - opened > 5000) listen();
    };
  };

  // The browser gives up on a stream that is answered with anything but 200, and does not tell with what.
  const refused = async () => {
    const attempt = new AbortController();
    try {
      const answer = await fetch(here("/events"), { signal: attempt.signal, headers: { Accept: "text/event-stream" } });
      if (answer.status === 401 || answer.status === 403) reload();
    } catch {
      // Nobody answers: the next try may find somebody.
    } finally {
      attempt.abort();
    }
  };

  const watch = () => {
    if (outdated) reload();
    const quiet = Date.now() - heard;
    if (quiet > silence) mark(true);
    const closed = !source || source.readyState === EventSource.CLOSED;
    const waited = Date.now() - opened;
    if ((closed && waited > 4000) || (quiet > patience && waited > patience)) listen();
  };

  // --- from the old to the new ---

  const keyOf = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || "" : "");
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

  const replace = (id, html) => {
    const old = byId(id);
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = holder.content.firstElementChild;
    if (!old || !fresh || fresh.id !== id) return;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    morph(old, fresh);
    if (focused && !focused.isConnected) {
      const heading = old.querySelector("[tabindex='-1']");
      if (heading) heading.focus({ preventScroll: true });
    }
  };

  const morph = (old, fresh) => {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    attributes(old, fresh);
    const keyed = new Map();
    for (const child of old.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let match = keyOf(next) ? keyed.get(keyOf(next)) : at;
      if (match && !alike(match, next)) match = undefined;
      if (!match) {
        old.insertBefore(document.importNode(next, true), at);
        continue;
      }
      if (match === at) at = at.nextSibling;
      else old.insertBefore(match, at);
      morph(match, next);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  // Whether details are open is the reader's choice until the server changes its mind.
  const attributes = (old, fresh) => {
    const details = old.nodeName === "DETAILS";
    if (details && old.hasAttribute("data-open") !== fresh.hasAttribute("data-open")) old.open = fresh.open;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(details && name === "open")) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !(details && name === "open")) old.setAttribute(name, value);
    }
  };

  // --- actions ---

  const tell = (text, ok) => {
    const outcome = byId("outcome");
    const line = document.createElement("p");
    line.className = ok ? "tone-good" : "tone-bad";
    line.textContent = (ok ? "✓ " : "✕ ") + text;
    outcome.replaceChildren(line);
    clearTimeout(tell.timer);
    tell.timer = setTimeout(() => outcome.replaceChildren(), ok ? 6000 : 15000);
  };

  // Who waits for the answer to the present question. The event that tells of a closed dialog comes late: it must not answer
  // a question that was asked meanwhile.
  let waiting = null;
  byId("confirm").addEventListener("close", (e) => {
    if (e.target.open || !waiting) return;
    waiting(e.target.returnValue === "yes");
    waiting = null;
  });

  const confirmed = (question, label) =>
    new Promise((resolve) => {
      const dialog = byId("confirm");
      if (waiting) waiting(false);
      waiting = resolve;
      byId("confirm-text").textContent = question;
      byId("confirm-yes").textContent = label;
      dialog.returnValue = "no";
      dialog.showModal();
      byId("confirm-no").focus();
    });

  const act = async (form) => {
    const button = form.querySelector("button");
    if (form.dataset.confirm && !(await confirmed(form.dataset.confirm, button.firstChild.textContent))) return;
    button.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(here(form.getAttribute("action")), {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams(new FormData(form)),
      });
      const said = await answer.json().catch(() => ({}));
      tell(said.message || said.error || "The worker answered with " + answer.status + ".", answer.ok);
    } catch {
      tell("The worker does not answer.", false);
    } finally {
      button.removeAttribute("aria-busy");
    }
  };

  document.addEventListener("submit", (e) => {
    if (e.target.method !== "post") return;
    e.preventDefault();
    if (!e.target.querySelector("[aria-busy]")) act(e.target);
  });

  // --- begin ---

  listen();
  setInterval(watch, 500);
  document.addEventListener("visibilitychange", watch);
  addEventListener("pageshow", watch);
})();
