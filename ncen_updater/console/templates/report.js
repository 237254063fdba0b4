// Gives the frame the height of the dossier, so that an approver scrolls past all of it before the
// form. Without this script, the dossier scrolls in its frame.
"use strict";
for (const frame of document.querySelectorAll("iframe")) {
  const fit = () => {
    const shown = frame.contentDocument && frame.contentDocument.documentElement;
    if (shown) frame.style.height = `${Math.ceil(shown.getBoundingClientRect().height) + 2}px`;
  };
  frame.addEventListener("load", fit);
  new ResizeObserver(fit).observe(frame);
  fit();
}
