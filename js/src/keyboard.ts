/** Keys of one view. They act only while the focus is inside the widget. */
import { takesText } from "./dom";
import { type Command, commandFor } from "./keys";
import { listen } from "./lifetime";
import type { Store } from "./store";

export function bindKeys(
  root: HTMLElement,
  canvas: HTMLCanvasElement,
  store: Store,
  run: (command: Command) => void,
  signal: AbortSignal,
): void {
  listen(root, "keydown", (event) => onKeyDown(event, canvas, store, run), signal);
  listen(
    root,
    "keyup",
    (event) => {
      if (event.key === " " && store.ui.panning) store.set({ panning: false });
    },
    signal,
  );
  listen(canvas, "focus", () => store.set({ tabReleased: false }), signal);
  // Keys are not seen elsewhere, so nothing may stay held down.
  listen(
    root,
    "focusout",
    () => {
      if (store.ui.panning) store.set({ panning: false });
      store.changed();
    },
    signal,
  );
}

function onKeyDown(
  event: KeyboardEvent,
  canvas: HTMLCanvasElement,
  store: Store,
  run: (command: Command) => void,
): void {
  if (event.isComposing) return;
  delete canvas.dataset.pointer; // from here on the focus ring says where keys go
  const onCanvas = event.target === canvas;
  const inPanel = event.target instanceof Element && event.target.closest(".dmw-panel") !== null;
  if (takesText(event.target) && !(inPanel && event.key === "Escape")) return;
  if (!onCanvas && (event.key === "Enter" || event.key === " ")) return; // presses the button
  if (event.key === " ") {
    take(event);
    if (!store.ui.panning) store.set({ panning: true });
    return;
  }
  const command = commandFor({
    key: event.key,
    ctrl: event.ctrlKey || event.metaKey,
    shift: event.shiftKey,
    alt: event.altKey,
    onCanvas,
  });
  if (!command) return;
  if (event.key === "Tab") {
    // Tab is ours only while it leads somewhere; otherwise, and after Esc, the focus moves on.
    if (store.ui.tabReleased || !store.live || !store.scene.overlay) return;
  } else if (command !== "escape" && store.ui.tabReleased) {
    store.set({ tabReleased: false });
  }
  take(event);
  run(command);
  if (command === "escape" && inPanel) canvas.focus({ preventScroll: true });
}

function take(event: KeyboardEvent): void {
  event.preventDefault();
  event.stopPropagation();
}
