/**
 * Keys of the annotator: listens on the box around everything, before the picture does. Shows
 * nothing. Keys without Alt or Ctrl belong to the picture, except Enter while there is a proposal.
 */

const COMMANDS = {
  "Alt+ArrowRight": "next",
  "Alt+ArrowLeft": "previous",
  "Alt+ArrowDown": "skip",
  "Alt+ArrowUp": "flag",
  "Alt+Backspace": "reject",
  "Ctrl+Enter": "done",
  Enter: "accept",
};

function commandFor(event, proposals) {
  if (event.isComposing || event.shiftKey) return null;
  const ctrl = event.ctrlKey || event.metaKey;
  if (ctrl && event.altKey) return null;
  const command = COMMANDS[(ctrl ? "Ctrl+" : event.altKey ? "Alt+" : "") + event.key];
  if (!command) return null;
  if (command === "reject" && !proposals) return null;
  const target = event.target;
  const typing = target.closest?.("input, textarea, select, [contenteditable='true']");
  if (typing) return command === "done" ? command : null;
  if (command === "accept") {
    if (!proposals || target.closest?.("button, a")) return null;
    // Whoever steers a crosshair with the keyboard clicks with Enter.
    if (target.classList?.contains("dmw-front") && target.dataset.pointer === undefined) return null;
  }
  return command;
}

function render({ model, el }) {
  const ended = new AbortController();
  el.style.display = "none";

  const start = (box) => {
    box.dataset.lmSuppressShortcuts = "true";
    box.dataset.keys = "1";
    if (box.tabIndex < 0) box.tabIndex = -1;
    box.addEventListener(
      "keydown",
      (event) => {
        const command = commandFor(event, model.get("proposals"));
        if (!command) return;
        event.preventDefault();
        event.stopPropagation();
        // A key that is held down shall not run through the set.
        if (!event.repeat) model.send({ type: "key", command });
      },
      { capture: true, signal: ended.signal },
    );
    const guard = () => {
      const inert = model.get("read_only");
      for (const root of box.querySelectorAll(".dmw-root")) root.inert = inert;
    };
    model.on("change:read_only", guard);
    const watch = new MutationObserver(guard);
    watch.observe(box, { childList: true, subtree: true });
    ended.signal.addEventListener("abort", () => {
      model.off("change:read_only", guard);
      watch.disconnect();
    });
    guard();
  };

  // The element is put into the page after this function.
  const wait = () => {
    if (ended.signal.aborted) return;
    const box = el.closest(".dmw-annotator");
    if (box) start(box);
    else setTimeout(wait, 50);
  };
  wait();
  return () => ended.abort();
}

export default { render };
