// The player: a media element, and a wave that is drawn from the archive's data. Nothing is decoded here.
"use strict";
(() => {
  const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3];
  // Silence that is skipped has this length at least; this much of it is left on both sides.
  const SKIPPED_MS = 1000, LEFT_MS = 200;

  const clock = (seconds) => {
    const all = Math.max(0, Math.floor(seconds || 0));
    const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
    const two = (n) => String(n).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  };

  class CallPlayer extends HTMLElement {
    connectedCallback() {
      if (this.audio) return;
      this.setAttribute("role", "region");
      this.setAttribute("aria-label", "Player");
      this.audio = document.createElement("audio");
      this.audio.preload = "auto";
      this.append(this.audio, this.build());
      this.reasonForm = this.buildReason();
      this.append(this.reasonForm);
      const audio = this.audio;
      for (const name of ["timeupdate", "seeked", "loadedmetadata", "durationchange"]) audio.addEventListener(name, () => this.tick());
      for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, () => this.state());
      audio.addEventListener("error", () => this.failed());
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
      document.addEventListener("page-shown", () => this.refreshNotes());
    }

    build() {
      const box = document.createElement("div");
      const line = document.createElement("div");
      line.className = "line";
      this.title_ = document.createElement("a");
      this.title_.className = "title";
      this.which = document.createElement("select");
      this.which.setAttribute("aria-label", "Recording");
      this.which.addEventListener("change", () => this.choose(this.which.value, true));
      const button = (text, label, act) => {
        const made = document.createElement("button");
        made.type = "button";
        made.textContent = text;
        made.title = label;
        made.setAttribute("aria-label", label);
        made.addEventListener("click", act);
        return made;
      };
      this.toggle = button("▶", "Play or pause (space)", () => this.playPause());
      this.toggle.dataset.toggle = "";
      this.speed = document.createElement("select");
      this.speed.setAttribute("aria-label", "Speed");
      for (const speed of SPEEDS) this.speed.append(new Option(`${speed}×`, speed, speed === 1, speed === 1));
      this.speed.addEventListener("change", () => { this.audio.playbackRate = Number(this.speed.value); });
      this.skip = button("Skip silence", "Skip silence (S)", () => this.setSkip(!this.isSkipping));
      this.skip.setAttribute("aria-pressed", "false");
      this.clock_ = document.createElement("span");
      this.clock_.className = "clock";
      this.told = document.createElement("span");
      this.told.className = "told";
      this.told.setAttribute("role", "alert");
      line.append(
        this.title_, this.which,
        button("−10", "10 seconds back (J)", () => this.move(-10)),
        button("−5", "5 seconds back (←)", () => this.move(-5)),
        this.toggle,
        button("+5", "5 seconds on (→)", () => this.move(5)),
        button("+10", "10 seconds on (L)", () => this.move(10)),
        this.speed, this.skip,
        button("Note", "A note at this second (N)", () => this.note()),
        this.clock_,
        button("×", "Close the player", () => this.close()),
        this.told,
      );
      this.canvas = document.createElement("canvas");
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "slider");
      this.canvas.setAttribute("aria-label", "Position");
      this.canvas.setAttribute("aria-valuemin", "0");
      const seek = (event) => {
        const box = this.canvas.getBoundingClientRect();
        this.seek((event.clientX - box.left) / box.width * this.duration());
      };
      this.canvas.addEventListener("pointerdown", (event) => {
        this.canvas.setPointerCapture(event.pointerId);
        seek(event);
      });
      this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) seek(event); });
      box.append(line, this.canvas);
      return box;
    }

    buildReason() {
      const form = document.createElement("form");
      form.hidden = true;
      const label = document.createElement("label");
      label.append("Why you listen ");
      this.reason_ = document.createElement("input");
      this.reason_.required = true;
      label.append(this.reason_);
      const button = document.createElement("button");
      button.textContent = "Listen";
      form.append(label, button);
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.reason = this.reason_.value;
        form.hidden = true;
        this.choose(this.recording.id, true, this.wantedAt);
      });
      return form;
    }

    // Plays a call, a recording of it, from a position in ms.
    async play(call, recording, at) {
      this.hidden = false;
      const at_s = at === undefined ? undefined : Number(at) / 1000;
      if (this.call?.id === call && (!recording || recording === this.recording?.id) && !this.audio.error) {
        if (at_s !== undefined) this.seek(at_s);
        this.start();
        return;
      }
      this.told.textContent = "";
      const response = await fetch(`/api/v1/calls/${call}`);
      if (!response.ok) { this.told.textContent = "the call can't be shown"; return; }
      this.call = await response.json();
      const playable = this.call.recordings.filter((one) => one.state !== "missing" && !one.encrypted);
      this.which.replaceChildren(...playable.map((one) => new Option(`${one.source} ${one.codec}`, one.id)));
      this.which.hidden = playable.length < 2;
      this.title_.href = `/calls/${call}`;
      const name = this.call.remote.name || this.call.remote.number || "unknown";
      this.title_.textContent = `${name} · ${new Date(this.call.started).toLocaleString()}`;
      const chosen = playable.find((one) => one.id === recording) ?? playable[0];
      if (!chosen) { this.told.textContent = "there is nothing to play"; return; }
      await this.choose(chosen.id, true, at_s);
    }

    async choose(id, start, at_s) {
      this.recording = this.call.recordings.find((one) => one.id === id);
      this.which.value = id;
      this.wave = null;
      this.isPcm = false;
      this.wantedAt = at_s;
      this.draw();
      const query = this.reason ? `?reason=${encodeURIComponent(this.reason)}` : "";
      const response = await fetch(`/api/v1/recordings/${id}/peaks${query}`);
      if (this.recording?.id !== id) return;
      if (response.status === 403) {
        const problem = await response.json().catch(() => null);
        if (/say why/.test(problem?.detail ?? "")) {
          this.reasonForm.hidden = false;
          this.reason_.focus();
          return;
        }
      }
      if (response.ok) this.wave = await response.json();
      this.source();
      if (start) this.start();
      this.draw();
    }

    source() {
      const query = new URLSearchParams();
      if (this.isPcm) query.set("format", "pcm");
      if (this.reason) query.set("reason", this.reason);
      const text = query.toString();
      this.audio.src = `/api/v1/recordings/${this.recording.id}/audio${text ? `?${text}` : ""}`;
      this.audio.defaultPlaybackRate = this.audio.playbackRate = Number(this.speed.value);
      if (this.wantedAt !== undefined) {
        const at = this.wantedAt;
        this.audio.addEventListener("loadedmetadata", () => { this.audio.currentTime = at; }, { once: true });
      }
    }

    // A browser that has no G.711 takes PCM.
    async failed() {
      if (!this.audio.getAttribute("src")) return;
      if (!this.isPcm) {
        this.isPcm = true;
        this.source();
        this.start();
        return;
      }
      const head = await fetch(this.audio.src, { headers: { range: "bytes=0-0" } }).catch(() => null);
      const problem = head && !head.ok ? await head.json().catch(() => null) : null;
      this.told.textContent = problem?.detail ?? "it can't be played";
    }

    start() { this.audio.play().catch((error) => { if (error.name === "NotAllowedError") this.told.textContent = "press play"; }); }
    playPause() { if (this.audio.paused) this.start(); else this.audio.pause(); }
    close() { this.audio.pause(); this.hidden = true; }
    duration() { return Number.isFinite(this.audio.duration) ? this.audio.duration : (this.wave?.duration_ms ?? 0) / 1000; }
    seek(seconds) { this.audio.currentTime = Math.min(Math.max(0, seconds), this.duration() || seconds); this.tick(); }
    move(seconds) { this.seek(this.audio.currentTime + seconds); }
    setSkip(on) { this.isSkipping = on; this.skip.setAttribute("aria-pressed", String(on)); }
    faster(by) {
      const at = SPEEDS.indexOf(Number(this.speed.value)) + by;
      if (SPEEDS[at] === undefined) return;
      this.speed.value = SPEEDS[at];
      this.audio.playbackRate = SPEEDS[at];
    }

    key(key) {
      if (this.hidden || !this.call) return false;
      switch (key) {
        case " ": this.playPause(); return true;
        case "ArrowLeft": this.move(-5); return true;
        case "ArrowRight": this.move(5); return true;
        case "j": case "J": this.move(-10); return true;
        case "l": case "L": this.move(10); return true;
        case "[": this.faster(-1); return true;
        case "]": this.faster(1); return true;
        case "s": case "S": this.setSkip(!this.isSkipping); return true;
        case "n": case "N": this.note(); return true;
        default: return false;
      }
    }

    // Opens the note field of the call's page, at the second that is heard.
    async note() {
      const at = Math.floor(this.audio.currentTime * 10) / 10;
      if (!document.querySelector(`article[data-call="${this.call.id}"]`)) await window.showPage(`/calls/${this.call.id}`);
      const form = document.querySelector(`article[data-call="${this.call.id}"] form.note`);
      if (!form) return;
      form.elements.at_ms.value = at;
      form.elements.text.focus();
    }

    // Notes that were written while it plays.
    async refreshNotes() {
      if (!this.call || !document.querySelector(`article[data-call="${this.call.id}"]`)) return;
      const notes = [...document.querySelectorAll(".notes [data-at]")].map((one) => ({ at_ms: Number(one.dataset.at) }));
      this.call.notes = notes;
      this.draw();
    }

    tick() {
      const now = this.audio.currentTime;
      if (this.isSkipping && !this.audio.paused) this.skipSilence(now * 1000);
      this.clock_.textContent = `${clock(now)} / ${clock(this.duration())}`;
      this.canvas.setAttribute("aria-valuemax", String(Math.round(this.duration())));
      this.canvas.setAttribute("aria-valuenow", String(Math.round(now)));
      this.canvas.setAttribute("aria-valuetext", `${clock(now)} of ${clock(this.duration())}`);
      this.draw();
    }

    skipSilence(now_ms) {
      if (!this.wave) return;
      const last = this.wave.sound.findLast(([from]) => from <= now_ms);
      if (last && now_ms < last[1] + LEFT_MS) return;
      const next = this.wave.sound.find(([from]) => from > now_ms);
      const to = next ? next[0] - LEFT_MS : this.wave.duration_ms;
      if (to - now_ms >= SKIPPED_MS) this.audio.currentTime = to / 1000;
    }

    state() {
      const isPaused = this.audio.paused;
      this.toggle.textContent = isPaused ? "▶" : "⏸";
      if (this.timer) cancelAnimationFrame(this.timer);
      const step = () => { this.tick(); if (!this.audio.paused) this.timer = requestAnimationFrame(step); };
      step();
    }

    draw() {
      const { canvas, wave } = this;
      const scale = devicePixelRatio || 1;
      const width = Math.max(1, Math.round(canvas.clientWidth * scale)), height = Math.round(72 * scale);
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== height) canvas.height = height;
      const paint = canvas.getContext("2d");
      paint.clearRect(0, 0, width, height);
      const style = getComputedStyle(this);
      const colour = (name) => style.getPropertyValue(`--${name}`).trim();
      const total_ms = this.duration() * 1000;
      if (!wave || !total_ms) return;
      const x = (ms) => ms / total_ms * width;
      // Silence is lighter, so that users see the parts that skipping leaves out.
      paint.fillStyle = colour("silence");
      paint.fillRect(0, 0, width, height);
      paint.fillStyle = colour("card");
      for (const [from, to] of wave.sound) paint.fillRect(x(from), 0, x(to) - x(from), height);
      // One lane a channel.
      const lanes = wave.channels ?? [wave.peaks];
      const played = this.audio.currentTime * 1000;
      lanes.forEach((peaks, lane) => {
        const middle = height * (lane + 0.5) / lanes.length, half = height / lanes.length / 2 - scale;
        const count = Math.max(1, Math.ceil(peaks.length / width));
        for (let at = 0; at < peaks.length; at += count) {
          let low = 0, high = 0;
          for (let i = at; i < Math.min(at + count, peaks.length); i++) {
            low = Math.min(low, peaks[i][0]);
            high = Math.max(high, peaks[i][1]);
          }
          const from = at * wave.step_ms;
          paint.fillStyle = colour(from < played ? "played" : "wave");
          const top = middle - high / 128 * half, bottom = middle - low / 128 * half;
          paint.fillRect(x(from), top, Math.max(scale, x(count * wave.step_ms) - scale / 2), Math.max(scale, bottom - top));
        }
      });
      paint.fillStyle = colour("gap");
      for (const [from, to] of wave.gaps ?? []) paint.fillRect(x(from), height - 5 * scale, Math.max(2 * scale, x(to) - x(from)), 5 * scale);
      paint.fillStyle = colour("pause");
      for (const at of wave.pauses ?? []) paint.fillRect(x(Array.isArray(at) ? at[0] : at) - scale, 0, 2 * scale, height);
      paint.fillStyle = colour("note");
      for (const { at_ms } of this.call?.notes ?? []) {
        if (at_ms === null || at_ms === undefined) continue;
        paint.beginPath();
        paint.moveTo(x(at_ms) - 5 * scale, 0);
        paint.lineTo(x(at_ms) + 5 * scale, 0);
        paint.lineTo(x(at_ms), 9 * scale);
        paint.fill();
      }
      paint.fillStyle = colour("front");
      paint.fillRect(x(played) - scale / 2, 0, Math.max(1, 1.5 * scale), height);
    }
  }
  customElements.define("call-player", CallPlayer);
})();
