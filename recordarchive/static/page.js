// Pages change without a reload, so that the player goes on; forms talk to the API.
// Without this file pages can be read and searched; forms need it.
"use strict";
(() => {
  const player = () => document.querySelector("call-player");

  async function show(url, push) {
    let response;
    try {
      response = await fetch(url, { headers: { accept: "text/html" } });
    } catch {
      location.assign(url);
      return;
    }
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.getElementById("main");
    const header = page.querySelector("header");
    // A page without a header is for somebody who has to log in first.
    if (!next || !header || !document.querySelector("header")) {
      location.assign(url);
      return;
    }
    if (push) history.pushState(null, "", response.url);
    document.title = page.title;
    document.querySelector("header").replaceWith(header);
    document.getElementById("main").replaceWith(next);
    next.focus({ preventScroll: true });
    if (push) scrollTo(0, 0);
    document.dispatchEvent(new Event("page-shown"));
  }
  window.showPage = (url) => show(url, true);
  window.refreshPage = () => show(location.href, false);
  addEventListener("popstate", () => show(location.href, false));

  document.addEventListener("click", (event) => {
    const play = event.target.closest("[data-play]");
    if (play) {
      player()?.play(play.dataset.play, play.dataset.recording, play.dataset.at);
      return;
    }
    if (event.target.closest("[data-log-out]")) {
      fetch("/api/v1/session", { method: "DELETE" }).finally(() => location.assign("/login"));
      return;
    }
    const link = event.target.closest("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const href = link.getAttribute("href");
    if (link.hasAttribute("download") || href.startsWith("#") || !document.querySelector("header")) return;
    const url = new URL(href, location.href);
    if (url.origin !== location.origin || url.pathname.startsWith("/api/") || url.pathname.startsWith("/static/")) return;
    event.preventDefault();
    show(url.href, true);
  });

  // The value of a field, in the form of the API.
  function said(field) {
    const value = field.value.trim();
    switch (field.dataset.kind) {
      case "list": return value.split(/[,\s]+/).filter(Boolean);
      case "names": return value.split(",").map((name) => name.trim()).filter(Boolean);
      case "seconds": return value === "" ? null : Math.round(Number(value) * 1000);
      case "number": return value === "" ? null : Number(value);
      case "bool": return field.checked;
      case "json": return JSON.parse(value);
      default: return field.type === "password" ? field.value : value;
    }
  }

  async function send(form) {
    const body = {};
    for (const field of form.elements) {
      if (!field.name || field.disabled) continue;
      const value = said(field);
      const isEmpty = value === "" || value === null || (Array.isArray(value) && value.length === 0);
      if (!(isEmpty && "optional" in field.dataset)) body[field.name] = value;
    }
    const response = await fetch(form.dataset.path, {
      method: form.dataset.method,
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    let answer = null;
    try { answer = JSON.parse(text); } catch { /* an answer without a body */ }
    return { ok: response.ok, answer, status: response.status };
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.method === "get" && !form.dataset.path) {
      if (!document.querySelector("header")) return;
      event.preventDefault();
      const fields = [...new FormData(form)].filter(([, value]) => value !== "");
      show(`${form.getAttribute("action")}?${new URLSearchParams(fields)}`, true);
      return;
    }
    if (!form.dataset.path) return;
    event.preventDefault();
    if (form.dataset.ask && !confirm(form.dataset.ask)) return;
    const told = form.querySelector(".told");
    const button = event.submitter || form.querySelector("button");
    if (button) button.disabled = true;
    try {
      const { ok, answer, status } = await send(form);
      if (!ok) {
        if (told) { told.classList.remove("good"); told.textContent = answer?.detail ?? `the archive answered ${status}`; }
        return;
      }
      if (form.dataset.show) {
        const list = document.getElementById(form.dataset.show);
        list.replaceChildren(...Object.entries(answer ?? {}).flatMap(([name, value]) => {
          const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
          dt.textContent = name.replaceAll("_", " ");
          dd.textContent = value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
          return [dt, dd];
        }));
        return;
      }
      const then = form.dataset.then;
      if ("leave" in form.dataset) location.assign(then || "/");
      else if (then) await show(then, true);
      else await show(location.href, false);
    } catch (error) {
      if (told) told.textContent = `not sent: ${error.message}`;
    } finally {
      if (button) button.disabled = false;
    }
  });

  // To where a call is exported: the one on the page, or the one that is played.
  function exportCall() {
    const field = () => document.querySelector("#export [name=reason]");
    if (field()) {
      field().focus();
      return true;
    }
    const call = player()?.call?.id;
    if (document.querySelector("[data-call]") || !call) return false;
    show(`/calls/${encodeURIComponent(call)}`, true).then(() => field()?.focus());
    return true;
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    if (event.key === "/") {
      const box = document.querySelector("input[type=search]");
      if (box) { event.preventDefault(); box.focus(); }
      return;
    }
    if (event.key === "e" || event.key === "E") {
      if (exportCall()) event.preventDefault();
      return;
    }
    // Space on a button presses it, as everywhere.
    if (event.key === " " && event.target.closest?.("button, a, [role=button]")) return;
    if (player()?.key(event.key)) event.preventDefault();
  });
})();
