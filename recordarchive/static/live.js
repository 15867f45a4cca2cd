// Listening in, and lists that change by themselves.
"use strict";
(() => {
  const REFRESH_MS = 2000;
  // Sound that waits for its turn: less would stutter, more is late for nothing.
  const AHEAD_S = 0.2, MAX_AHEAD_S = 3;
  const PCM_HEADER_OCTETS = 44;
  let bar = null;

  function stop() {
    bar?.ends.abort();
    bar?.remove();
    bar = null;
  }

  // Plays 16-bit PCM as it comes. A media element would wait for seconds of it first.
  async function play(response, clock) {
    const context = new AudioContext();
    const reader = response.body.getReader();
    let head = new Uint8Array(0), rate = 0, odd = null, next = 0, heard = 0;
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        let octets = value;
        if (!rate) {
          const all = new Uint8Array(head.length + octets.length);
          all.set(head);
          all.set(octets, head.length);
          if (all.length < PCM_HEADER_OCTETS) { head = all; continue; }
          rate = new DataView(all.buffer).getUint32(24, true);
          octets = all.subarray(PCM_HEADER_OCTETS);
        }
        if (odd !== null) {
          const all = new Uint8Array(octets.length + 1);
          all[0] = odd;
          all.set(octets, 1);
          octets = all;
        }
        odd = octets.length % 2 ? octets[octets.length - 1] : null;
        const count = Math.floor(octets.length / 2);
        const now = context.currentTime;
        if (!count || next > now + MAX_AHEAD_S) continue;
        const view = new DataView(octets.buffer, octets.byteOffset, count * 2);
        const buffer = context.createBuffer(1, count, rate);
        const samples = buffer.getChannelData(0);
        for (let i = 0; i < count; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(context.destination);
        if (next < now) next = now + AHEAD_S;
        source.start(next);
        next += buffer.duration;
        heard += buffer.duration;
        clock.textContent = `${Math.floor(heard / 60)}:${String(Math.floor(heard) % 60).padStart(2, "0")}`;
      }
    } finally {
      // The audio received plays to its end, unless the user stopped it.
      const left = bar ? Math.max(0, next - context.currentTime) : 0;
      setTimeout(() => context.close(), left * 1000);
    }
  }

  async function listen(id, title) {
    stop();
    document.querySelector("call-player audio")?.pause();
    const mine = bar = document.createElement("div");
    bar.ends = new AbortController();
    bar.className = "live-bar";
    bar.setAttribute("role", "region");
    bar.setAttribute("aria-label", "Listening in");
    const [name, clock, told, end] = ["span", "span", "span", "button"].map((tag) => document.createElement(tag));
    name.className = "title";
    name.textContent = `● ${title}`;
    clock.className = "clock";
    told.className = "told";
    told.setAttribute("role", "alert");
    end.type = "button";
    end.textContent = "Stop";
    end.addEventListener("click", stop);
    bar.append(name, clock, told, end);
    document.body.append(bar);
    try {
      const path = `/api/v1/live/${encodeURIComponent(id)}/audio?format=pcm`;
      const response = await fetch(path, { signal: mine.ends.signal });
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail ?? `the archive answered ${response.status}`);
      await play(response, clock);
      told.textContent = "The call has ended.";
    } catch (error) {
      if (!mine.ends.signal.aborted) told.textContent = `It can't be heard: ${error.message}`;
    }
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
