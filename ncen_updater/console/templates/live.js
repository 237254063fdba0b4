// Keeps the page of what goes on up to date. Words come from the console, whole; they are put into
// places that are there, as text. Without this script the page loads itself again.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const SILENT_MS = 15000;
  const one = (name) => live.querySelector(`[data-live-${name}]`);
  const lost = one("lost");
  const said = one("said");
  const words = lost.textContent;
  let heard = Date.now();
  let before = null;

  function put(place, text) {
    if (place && place.textContent !== text) place.textContent = text;
  }

  function step(row) {
    const item = document.createElement("li");
    item.className = ["now", "done", "undone"].includes(row.look) ? row.look : "";
    for (const [name, text] of [["is", row.state], ["name", row.name], ["took", row.took]]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      item.append(part);
    }
    return item;
  }

  // Only what changed is touched: who reads, or has it read out, is not thrown back.
  function steps(rows) {
    const list = one("steps");
    rows.forEach((row, place) => {
      const made = step(row);
      const there = list.children[place];
      if (!there) list.append(made);
      else if (!there.isEqualNode(made)) there.replaceWith(made);
    });
    while (list.children.length > rows.length) list.lastElementChild.remove();
    one("section").hidden = rows.length === 0;
  }

  function bar(done, total) {
    const place = one("bar");
    place.hidden = !total;
    if (total) {
      place.max = total;
      place.value = done || 0;
    }
  }

  function show(view) {
    for (const name of ["headline", "now", "alive", "out", "clock", "predicted"]) {
      put(live.querySelector(`[data-live="${name}"]`), view[name]);
    }
    const tone = ["good", "wait", "bad"].includes(view.tone) ? view.tone : "wait";
    one("tone").className = `hero ${tone}`;
    one("clock").hidden = !view.clock;
    bar(view.done, view.total);
    steps(view.steps);
    const at = view.steps.findLast((row) => row.look === "now");
    const words = at ? `${at.name}: ${at.state}` : view.headline;
    if (before !== null && words !== before) put(said, words); // a change of step is read out
    before = words;
    if (view.watched && !document.querySelector('form[action="/confirm"], .who-may')) {
      location.reload(); // there is something to decide, which the page has a form for
    }
  }

  const source = new EventSource(live.dataset.events);
  source.addEventListener("live", (message) => {
    heard = Date.now();
    lost.hidden = true;
    show(JSON.parse(message.data));
  });
  source.addEventListener("alive", () => {
    heard = Date.now();
  });
  source.addEventListener("away", (message) => {
    heard = Date.now();
    put(lost, JSON.parse(message.data));
    lost.hidden = false;
  });
  source.addEventListener("open", () => {
    heard = Date.now();
  });
  source.addEventListener("error", () => {
    put(lost, words);
    lost.hidden = false; // what is shown stays; the browser tries again by itself
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
  setInterval(() => {
    if (Date.now() - heard <= SILENT_MS) return;
    put(lost, words);
    lost.hidden = false;
  }, 1000);
})();
