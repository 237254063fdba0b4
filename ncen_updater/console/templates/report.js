// Shows the report at its full height, so that an approver passes all of it before the button. Without
// this script it scrolls in its frame.
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
