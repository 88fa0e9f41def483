// Keeps the page live: sections that changed arrive as HTML over /events and are worked into the document, so that what
// is open, selected, focused or scrolled stays so. Nothing that arrives is ever executed.
"use strict";
(() => {
  const body = document.body;
  // Not relative addresses: where the page's own has a password in it, they would have it too, and be refused.
  const urlOf = (path) => location.origin + path;
  const byId = (id) => document.getElementById(id);
  const staleAfter = 6000; // ms without an event after which the page is not live
  const reconnectAfter = 15000; // ms without an event after which the connection is opened anew
  const reloadPause = 10000; // ms: at most one reload in this time
  let lastEvent = Date.now();
  let shownAt = body.dataset.at; // the server's time of what is shown
  let source = null;
  let opened = 0;
  let stale = false;
  let outdated = false; // the worker sends the sections of another build

  // --- what is live, and what is not ---

  const updateTitle = () => {
    const health = byId("health");
    const tone = stale ? "stale" : health.dataset.tone;
    const title = health.dataset.title;
    document.title = stale ? "? Not live – " + title.slice(title.indexOf("–") + 2) : title;
    const icon = body.getAttribute("data-icon-" + tone);
    if (icon && byId("icon").getAttribute("href") !== icon) byId("icon").setAttribute("href", icon);
  };

  const setStale = (now) => {
    if (now !== stale) {
      stale = now;
      body.classList.toggle("is-stale", stale);
      byId("live").hidden = stale;
      byId("stale").hidden = !stale;
      if (stale) {
        byId("stale").firstElementChild.textContent =
          "Not live: this is how it was at " + new Date(shownAt).toLocaleTimeString([], { hour12: false }) + "; trying again…";
      }
    }
    updateTitle();
  };

  const markLive = (at) => {
    if (outdated) return;
    lastEvent = Date.now();
    if (at) shownAt = at;
    if (stale || byId("live").hidden) setStale(false);
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
    source = new EventSource(urlOf("/events"));
    source.addEventListener("beat", (e) => markLive(JSON.parse(e.data).at));
    source.addEventListener("sections", (e) => {
      const update = JSON.parse(e.data);
      if (update.page !== body.dataset.build) {
        outdated = true;
        setStale(true);
        return reload();
      }
      markLive();
      for (const section of update.sections) replace(section.id, section.html);
      updateTitle();
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) refused();
      // A stream that lived is opened again at once: every stream ends some time. Otherwise the browser waits and tries.
      else if (Date.now() - opened > 5000) listen();
    };
  };

  // The browser gives up on a stream that is answered with anything but 200, and does not say with what.
  const refused = async () => {
    const attempt = new AbortController();
    try {
      const answer = await fetch(urlOf("/events"), { signal: attempt.signal, headers: { Accept: "text/event-stream" } });
      if (answer.status === 401 || answer.status === 403) reload();
    } catch {
      // No answer: the next try may get one.
    } finally {
      attempt.abort();
    }
  };

  const checkLive = () => {
    if (outdated) reload();
    const silent = Date.now() - lastEvent;
    if (silent > staleAfter) setStale(true);
    const closed = !source || source.readyState === EventSource.CLOSED;
    const waited = Date.now() - opened;
    if ((closed && waited > 4000) || (silent > reconnectAfter && waited > reconnectAfter)) listen();
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

  const showOutcome = (text, ok) => {
    const outcome = byId("outcome");
    const line = document.createElement("p");
    line.className = ok ? "tone-good" : "tone-bad";
    line.textContent = (ok ? "✓ " : "✕ ") + text;
    outcome.replaceChildren(line);
    clearTimeout(showOutcome.timer);
    showOutcome.timer = setTimeout(() => outcome.replaceChildren(), ok ? 6000 : 15000);
  };

  const showDetails = (title, text) => {
    byId("details-title").textContent = title;
    byId("details-text").textContent = text;
    byId("details").showModal();
  };

  // Resolves the promise of the present question. The event of a closed dialog comes late: it must not answer a question that
  // was asked meanwhile.
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
      const answer = await fetch(urlOf(form.getAttribute("action")), {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams(new FormData(form)),
      });
      const reply = await answer.json().catch(() => ({}));
      if (answer.ok && reply.details) return showDetails(reply.message, reply.details);
      showOutcome(reply.message || reply.error || "The worker answered with " + answer.status + ".", answer.ok);
    } catch {
      showOutcome("The worker does not answer.", false);
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
  setInterval(checkLive, 500);
  document.addEventListener("visibilitychange", checkLive);
  addEventListener("pageshow", checkLive);
})();
