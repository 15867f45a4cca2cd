// Listening in, and lists that change by themselves.
"use strict";
(() => {
  const REFRESH_MS = 2000;
  let bar = null;

  function stop() {
    const audio = bar?.querySelector("audio");
    if (audio) {
      // What is not played any more is not fetched any more.
      audio.removeAttribute("src");
      audio.load();
    }
    bar?.remove();
    bar = null;
  }

  function listen(id, title) {
    stop();
    document.querySelector("call-player audio")?.pause();
    bar = document.createElement("div");
    bar.className = "live-bar";
    bar.setAttribute("role", "region");
    bar.setAttribute("aria-label", "Listening in");
    const [name, audio, told, end] = ["span", "audio", "span", "button"].map((tag) => document.createElement(tag));
    name.className = "title";
    name.textContent = `● ${title}`;
    told.className = "told";
    told.setAttribute("role", "alert");
    end.type = "button";
    end.textContent = "Stop";
    end.addEventListener("click", stop);
    const source = `/api/v1/live/${encodeURIComponent(id)}/audio`;
    let isStored = true;
    audio.addEventListener("error", () => {
      if (!audio.getAttribute("src")) return;
      // A browser that can't play G.711 gets PCM.
      if (isStored) {
        isStored = false;
        audio.src = `${source}?format=pcm`;
        audio.play().catch(() => {});
      } else {
        told.textContent = "It can't be heard: the call has ended, or the archive does not answer.";
      }
    });
    audio.addEventListener("ended", () => { told.textContent = "The call has ended."; });
    audio.src = source;
    bar.append(name, audio, told, end);
    document.body.append(bar);
    audio.play().catch(() => {});
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-listen]");
    if (button) listen(button.dataset.listen, button.dataset.title || "Live");
    if (event.target.closest("[data-log-out]")) stop();
  });

  async function refresh() {
    const old = document.querySelector("[data-refresh]");
    if (!old || document.hidden) return;
    const address = location.href;
    const response = await fetch(address, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.querySelector("[data-refresh]");
    if (!next || !old.isConnected || location.href !== address || next.innerHTML === old.innerHTML) return;
    // Somebody who is at a button stays at it.
    const at = [...old.querySelectorAll("button, a, input")].indexOf(document.activeElement);
    const id = document.activeElement?.dataset?.listen;
    old.replaceWith(next);
    if (at < 0) return;
    const same = id && next.querySelector(`[data-listen="${CSS.escape(id)}"]`);
    (same || next.querySelectorAll("button, a, input")[at])?.focus({ preventScroll: true });
  }
  setInterval(() => refresh().catch(() => {}), REFRESH_MS);
})();
