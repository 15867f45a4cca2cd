// The list of policies as a form: rows that move, their preview, and saving them.
"use strict";
(() => {
  const NUMBERS = ["keep_days", "delete_after_days"];

  function said(form) {
    return [...form.querySelectorAll("tbody tr")].map((row) => {
      const policy = {};
      for (const field of row.querySelectorAll("input, select")) {
        const value = field.value.trim();
        if (value === "") continue;
        if (field.name === "extensions") policy.extensions = value.split(/[,\s]+/).filter(Boolean);
        else policy[field.name] = NUMBERS.includes(field.name) ? Number(value) : value;
      }
      return policy;
    });
  }

  async function ask(method, path, body) {
    const response = await fetch(path, {
      method, headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `the archive answered ${response.status}`);
    return answer;
  }

  const words = (tally) => {
    const oldest = tally.oldest ? `, the oldest of ${tally.oldest.slice(0, 10)}` : "";
    return `${tally.calls} calls, ${tally.hours.toFixed(1)} hours${oldest}`;
  };

  async function preview(form) {
    const seen = await ask("POST", "/api/v1/policies/preview", { policies: said(form) });
    const lines = [["Goes at once", words(seen)], ["Within 30 days", words(seen.within_30_days)],
      ["Earlier than now", words(seen.earlier)], ["Later than now", words(seen.later)], ["Kept by a hold", words(seen.held)],
      ["Takes", seen.shortens ? "a second person" : "you alone"]];
    form.querySelector("#preview").replaceChildren(...lines.flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      [dt.textContent, dd.textContent] = [name, value];
      return [dt, dd];
    }));
    form.dataset.preview = seen.preview;
  }

  async function save(form) {
    const body = { policies: said(form), reason: form.elements.reason.value, version: Number(form.dataset.version) };
    if (form.dataset.preview) body.preview = form.dataset.preview;
    await ask("PUT", "/api/v1/policies", body);
    window.refreshPage();
  }

  async function tell(form, work) {
    const told = form.querySelector(".told");
    told.textContent = "";
    try {
      await work(form);
    } catch (error) {
      told.textContent = error.message;
    }
  }

  document.addEventListener("click", (event) => {
    const form = event.target.closest("form#policies");
    const button = event.target.closest("button");
    if (!form || !button) return;
    const row = button.closest("tr");
    if ("add" in button.dataset) {
      const made = form.querySelector("#policy-row").content.firstElementChild.cloneNode(true);
      form.querySelector("tbody").append(made);
      made.querySelector("input").focus();
    } else if ("remove" in button.dataset) {
      row.remove();
    } else if (button.dataset.move) {
      if (button.dataset.move === "1") row.nextElementSibling?.after(row);
      else row.previousElementSibling?.before(row);
      button.focus();
    } else if ("preview" in button.dataset) {
      tell(form, preview);
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.id !== "policies") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    tell(form, save);
  }, true);
})();
