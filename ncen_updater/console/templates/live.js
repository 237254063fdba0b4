// Keeps the page Activity up to date: reloads it repeatedly, and replaces only what changed. Without
// this script the whole page reloads itself.
"use strict";
(() => {
  if (!document.getElementById("live")) return;
  const PAUSE_MS = 500;
  const SILENT_MS = 15000;

  // Keep what is displayed, and show above it why it may be outdated.
  let title = document.title;
  function tell(why) {
    const place = document.querySelector("[data-live-lost]");
    document.title = place.dataset[why];
    if (place.textContent !== place.dataset[why]) place.textContent = place.dataset[why];
    place.hidden = false;
  }

  // Replace only what changed, so that reading, typing and screen readers are not interrupted.
  function renew(here, made) {
    if (here.isEqualNode(made)) return;
    if (here.nodeName !== made.nodeName || here.nodeType !== Node.ELEMENT_NODE) {
      here.replaceWith(document.importNode(made, true));
      return;
    }
    for (const { name } of [...here.attributes]) {
      if (!made.hasAttribute(name)) here.removeAttribute(name);
    }
    for (const { name, value } of made.attributes) {
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    }
    const rest = [...here.childNodes];
    [...made.childNodes].forEach((child, place) => {
      if (place < rest.length) renew(rest[place], child);
      else here.append(document.importNode(child, true));
    });
    rest.slice(made.childNodes.length).forEach((child) => child.remove());
  }

  // The response is empty if the page is unchanged.
  function load() {
    const address = new URL(location.href);
    address.searchParams.set("seen", document.getElementById("live").dataset.seen);
    const asked = new XMLHttpRequest();
    asked.open("GET", address);
    asked.responseType = "document";
    asked.timeout = SILENT_MS;
    asked.onload = () => {
      const made = asked.response && asked.response.querySelector("main");
      if (asked.status === 401) location.reload();
      else if (asked.status !== 200) tell("away");
      else if (made) {
        renew(document.querySelector("main"), made);
        title = asked.response.title;
      } else document.querySelector("[data-live-lost]").hidden = true;
      if (asked.status === 200) document.title = title;
    };
    asked.onerror = () => tell("lost");
    asked.ontimeout = () => tell("lost");
    asked.onloadend = () => setTimeout(load, PAUSE_MS);
    asked.send();
  }

  setTimeout(load, PAUSE_MS);
})();
