"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const storeName = `user-study ${data.study} ${data.rater}`;
  const [worst, best] = data.scale;
  const byId = (id) => document.getElementById(id);
  // Text only ever becomes text: no response is parsed as HTML.
  const make = (tag, options = {}, ...children) => {
    const { text, attributes, ...properties } = options;
    const element = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // scores[item][letter][criterion] is a number; what is not rated is absent.
  let state = { current: 0, scores: {} };
  let kept = true;

  const load = () => {
    try {
      const text = localStorage.getItem(storeName);
      if (text) state = JSON.parse(text);
    } catch {
      kept = false;
    }
  };
  const save = () => {
    try {
      localStorage.setItem(storeName, JSON.stringify(state));
    } catch {
      kept = false;
    }
    byId("warning").hidden = kept;
    byId("warning").textContent = kept ? "" : "This browser keeps no answers: export them before you close the page.";
  };

  const scoresOf = (item, letter) => ((state.scores[item.item] ??= {})[letter] ??= {});
  const ratedIn = (item) =>
    item.responses.reduce((sum, response) => sum + Object.keys(scoresOf(item, response.letter)).length, 0);
  const allOf = (item) => item.responses.length * data.criteria.length;
  const total = data.items.reduce((sum, item) => sum + allOf(item), 0);
  const rated = () => data.items.reduce((sum, item) => sum + ratedIn(item), 0);

  const showProgress = () => {
    const done = rated();
    const items = data.items.filter((item) => ratedIn(item) === allOf(item)).length;
    byId("count").textContent = `${done} of ${total} ratings; ${items} of ${data.items.length} items finished`;
    byId("progress").max = total;
    byId("progress").value = done;
    byId("unfinished").disabled = done === total;
    byId("export").textContent = done === total ? "Export ratings" : `Export ratings (${done} of ${total})`;
    byId("export").disabled = done === 0;
  };

  // A score from 1 to 5 in at most two decimals (comma or point), or null.
  const read = (text) => {
    if (!/^\d(?:[.,]\d{0,2})?$/.test(text.trim())) return null;
    const value = Number(text.trim().replace(",", "."));
    return value >= worst && value <= best ? value : null;
  };

  const criterionRow = (item, letter, criterion) => {
    const id = `${item.item}-${letter}-${criterion.name}`;
    const name = criterion.name[0].toUpperCase() + criterion.name.slice(1);
    const label = make("label", { htmlFor: id, text: name }, make("span", { className: "hidden", text: ` of response ${letter}` }));
    const problem = make("span", { className: "problem", id: `${id}-problem` });
    const field = make("input", {
      id, type: "text", inputMode: "decimal", autocomplete: "off", maxLength: 5,
      attributes: { "aria-describedby": `${id}-problem`, placeholder: "1–5" },
    });
    const quick = [];
    for (let value = worst; value <= best; value += 1) {
      const button = make("button", {
        type: "button", className: "quick", text: String(value), tabIndex: -1,
        attributes: { "aria-label": `${name} of response ${letter}: ${value}` },
      });
      button.addEventListener("click", () => set(value));
      quick.push(button);
    }
    const show = (value, rewrite) => {
      if (rewrite) field.value = value === undefined ? "" : value.toFixed(2);
      quick.forEach((button, number) => button.setAttribute("aria-pressed", String(value === worst + number)));
    };
    const keep = (value) => {
      const scores = scoresOf(item, letter);
      if (value === undefined) delete scores[criterion.name];
      else scores[criterion.name] = value;
      save();
      showProgress();
    };
    const set = (value) => {
      field.removeAttribute("aria-invalid");
      problem.textContent = "";
      keep(value);
      show(value, true);
    };
    field.addEventListener("input", () => {
      const value = field.value.trim() === "" ? undefined : read(field.value);
      const wrong = value === null;
      if (!wrong) field.removeAttribute("aria-invalid");
      if (!wrong) problem.textContent = "";
      keep(wrong ? undefined : value);
      show(wrong ? undefined : value, false);
    });
    field.addEventListener("change", () => {
      const value = field.value.trim() === "" ? undefined : read(field.value);
      if (value === null) {
        field.setAttribute("aria-invalid", "true");
        problem.textContent = `Not a score from ${worst.toFixed(2)} to ${best.toFixed(2)}; it is not kept.`;
      } else set(value);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        event.preventDefault();
        const value = read(field.value);
        const step = event.key === "ArrowUp" ? 0.25 : -0.25;
        const moved = value === null ? (worst + best) / 2 : Math.min(best, Math.max(worst, value + step));
        set(Math.round(moved * 100) / 100);
      } else if (event.key === "Enter") {
        event.preventDefault();
        const fields = [...document.querySelectorAll("#responses input")];
        (fields[fields.indexOf(field) + 1] || (byId("next").disabled ? byId("export") : byId("next"))).focus();
      }
    });
    show(scoresOf(item, letter)[criterion.name], true);
    return make("div", { className: "criterion" }, label, ...quick, field, problem);
  };

  const showItem = (focus) => {
    const item = data.items[state.current];
    byId("heading").textContent = `Item ${state.current + 1} of ${data.items.length}`;
    byId("conversation").replaceChildren(
      ...item.conversation.map((turn) =>
        make("div", { className: `turn ${turn.role === "user" ? "user" : "other"}` },
          make("span", { className: "who", text: turn.role === "user" ? "User" : "Assistant" }),
          make("span", { text: turn.content }))));
    byId("responses").replaceChildren(
      ...item.responses.map((response) => {
        const id = `${item.item}-${response.letter}`;
        const text = response.text.trim() === ""
          ? make("p", { className: "text empty", text: "(This response is empty.)" })
          : make("p", { className: "text", text: response.text });
        return make("section", { className: "response", attributes: { "aria-labelledby": id } },
          make("h3", { id, text: `Response ${response.letter}` }), text,
          ...data.criteria.map((criterion) => criterionRow(item, response.letter, criterion)));
      }));
    byId("previous").disabled = state.current === 0;
    byId("next").disabled = state.current === data.items.length - 1;
    showProgress();
    if (focus) {
      byId("heading").focus({ preventScroll: true });
      byId("heading").scrollIntoView();
    }
  };
  const go = (number) => {
    state.current = number;
    save();
    showItem(true);
  };

  byId("who").textContent = `${data.rater}, study ${data.study}`;
  byId("criteria").append(
    ...data.criteria.flatMap((criterion) => [make("dt", { text: criterion.name }), make("dd", { text: criterion.question })]));
  byId("previous").addEventListener("click", () => go(state.current - 1));
  byId("next").addEventListener("click", () => go(state.current + 1));
  byId("unfinished").addEventListener("click", () => go(data.items.findIndex((item) => ratedIn(item) < allOf(item))));
  byId("export").addEventListener("click", () => {
    const ratings = data.items.flatMap((item) =>
      item.responses
        .map((response) => ({ item: item.item, response: response.letter, scores: scoresOf(item, response.letter) }))
        .filter((row) => Object.keys(row.scores).length > 0));
    const content = {
      format: data.format, study: data.study, rater: data.rater, simulated: false,
      exported: new Date().toISOString(), ratings,
    };
    const name = `ratings-${data.study}-${data.rater}.json`;
    const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
    const link = make("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    byId("status").textContent = `Saved as ${name}. Please return this file.`;
    byId("erase").hidden = false;
  });
  byId("erase").addEventListener("click", () => {
    if (!confirm("Delete all ratings from this browser? The exported file stays.")) return;
    state = { current: 0, scores: {} };
    save();
    byId("status").textContent = "Deleted.";
    byId("erase").hidden = true;
    showItem(true);
  });
  // The same page in a second tab.
  window.addEventListener("storage", (event) => {
    if (event.key !== storeName || !event.newValue) return;
    const current = state.current;
    load();
    state.current = current;
    showItem(false);
  });
  window.addEventListener("beforeunload", (event) => {
    if (!kept && rated() > 0) event.preventDefault();
  });

  load();
  byId("intro").open = rated() === 0;
  save();
  showItem(false);
})();
