// Shows the report as high as it is, so that nobody decides without having passed all of it. Without
// this script it is scrolled in its frame.
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
