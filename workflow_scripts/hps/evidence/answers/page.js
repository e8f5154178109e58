"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 20; // items shown at a time
  const byId = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Text only ever becomes text. What a reader would not see, and what turns the order of letters, is shown by its number.
  const UNSEEN =
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
  const plain = (text) => {
    const parts = [];
    let last = 0;
    text = text.replaceAll("\r\n", "\n");
    for (const found of text.matchAll(UNSEEN)) {
      const number = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      parts.push(text.slice(last, found.index), make("span", { className: "mark", textContent: `U+${number}` }));
      last = found.index + found[0].length;
    }
    return [...parts, text.slice(last)];
  };

  const number = (value) => (value === null ? "–" : value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−"));
  const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));
  const scoreNumber = () => Number(byId("score").value);
  const scoreOf = (item, loss) => item.answers.find((answer) => answer.loss === loss)?.scores[scoreNumber()] ?? null;
  // HPS less BT in the chosen score; null where one of the two has none.
  const difference = (item) => {
    const [hps, bt] = ["hps", "bt"].map((loss) => scoreOf(item, loss));
    return hps === null || bt === null ? null : hps - bt;
  };
  const gain = (item) => difference(item) * data.scores[scoreNumber()].better;

  const turnOf = (turn) =>
    make("div", { className: `turn ${turn.role}` },
      make("span", { className: "who", textContent: { user: "User", assistant: "Assistant" }[turn.role] || turn.role }),
      ...plain(turn.content));

  const answerOf = (item, answer) => {
    const values = item.answers.map((other) => other.scores);
    const scores = data.scores.map((score, place) => {
      const all = values.map((own) => own[place]).filter((value) => value !== null);
      const best = score.better > 0 ? Math.max(...all) : Math.min(...all);
      const isBest = answer.scores[place] === best && all.some((value) => value !== best);
      return make("div", { className: isBest ? "best" : "" },
        make("dt", { textContent: score.label }),
        make("dd", { textContent: number(answer.scores[place]) + (isBest ? " (best)" : "") }));
    });
    const told = `${answer.tokens} tokens${answer.cut ? ", cut at the limit" : ""}`;
    const flags = answer.flags.map((flag) => make("span", { className: `flag ${flag}`, textContent: flag }));
    const text = answer.text.trim() === ""
      ? make("p", { className: "text empty", textContent: "(no text)" })
      : make("p", { className: "text" }, ...plain(answer.text));
    return make("section", { className: "answer" },
      make("h3", {}, answer.method, ...flags, make("span", { className: "told", textContent: told })),
      make("dl", { className: "scores" }, ...scores), text);
  };

  const articleOf = (item) => {
    const less = difference(item);
    const heading = make("h2", { tabIndex: -1 }, make("span", {}, item.set, ", prompt ", ...plain(item.id)));
    if (less !== null) {
      const label = data.scores[scoreNumber()].label.toLowerCase();
      heading.append(make("span", { className: "difference", textContent: `${label} of HPS less BT: ${signed(less)}` }));
    }
    const earlier = item.turns.slice(0, -1);
    const turns = [turnOf(item.turns.at(-1))];
    if (earlier.length) {
      const summary = earlier.length === 1 ? "1 earlier turn" : `${earlier.length} earlier turns`;
      turns.unshift(make("details", {}, make("summary", { textContent: summary }), ...earlier.map(turnOf)));
    }
    const answers = item.answers.map((answer) => answerOf(item, answer));
    return make("article", {}, heading, ...turns, make("div", { className: "answers" }, ...answers));
  };

  // What the search looks in: the texts, and what is said of an answer (harmful, refuses).
  const textOf = (item) => [
    item.id, ...item.turns.map((turn) => turn.content), ...item.answers.flatMap((answer) => [answer.text, ...answer.flags]),
  ].join("\n").toLowerCase();
  const texts = new Map(data.items.map((item) => [item, textOf(item)]));
  let chosen = [];
  let shown = 0;

  const showMore = (focus) => {
    const articles = chosen.slice(shown, shown + PAGE).map(articleOf);
    byId("items").append(...articles);
    shown += articles.length;
    const left = chosen.length - shown;
    byId("more").hidden = left === 0;
    byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
    if (focus) articles[0].querySelector("h2").focus();
  };
  const filter = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const set = byId("set").value;
    const order = Number(byId("order").value);
    chosen = data.items.filter((item) =>
      (!set || item.set === set) && words.every((word) => texts.get(item).includes(word))
      && (!byId("below").checked || (difference(item) !== null && gain(item) < 0)));
    // Those without a difference come last, in either order.
    if (order) {
      const key = (item) => (difference(item) === null ? Infinity : order * gain(item));
      chosen.sort((a, b) => (key(a) === key(b) ? 0 : key(a) - key(b)));
    }
    byId("count").textContent = `${chosen.length} of ${data.items.length} prompts`;
    byId("items").replaceChildren();
    shown = 0;
    showMore(false);
  };

  const text = [...data.notes, `The first answer of each policy to ${data.counts}. All policies are of the same training seed.`];
  byId("notes").append(...text.map((note) => make("p", { textContent: note })));
  byId("set").append(...data.sets.map((name) => make("option", { value: name, textContent: name })));
  byId("score").append(
    ...data.scores.map((score, place) => make("option", { value: String(place), textContent: score.label })));
  const both = data.items.some((item) => ["hps", "bt"].every((loss) => item.answers.some((one) => one.loss === loss)));
  for (const control of document.querySelectorAll(".compare")) control.hidden = !both;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", filter);
  for (const id of ["set", "score", "order", "below"]) byId(id).addEventListener("change", filter);
  byId("more").addEventListener("click", () => showMore(true));
  byId("show").addEventListener("click", () => {
    byId("warning").hidden = true;
    byId("main").hidden = false;
    byId("search").focus();
  });
  byId("warning").hidden = !data.warn;
  byId("main").hidden = data.warn;
  filter();
})();
