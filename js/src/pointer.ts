/** Pointer, wheel and touch events of the front canvas, turned into gestures. */
import type { Clock } from "./channel";
import {
  type Gesture,
  GestureRecogniser,
  LONG_PRESS_MS,
  type PointerInput,
  type Surface,
} from "./gesture";
import { listen } from "./lifetime";
import type { Point } from "./viewport";

export interface PointerHooks {
  gesture(gesture: Gesture): void;
  hover(at: Point | null): void;
  wheelZoom(factor: number, at: Point): void;
  pressed(): void;
}

/** Stage position of an event; survives CSS transforms on an ancestor. */
export function stagePoint(
  canvas: HTMLElement,
  event: { clientX: number; clientY: number },
): Point {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * canvas.clientWidth) / (box.width || 1),
    y: ((event.clientY - box.top) * canvas.clientHeight) / (box.height || 1),
  };
}

export function bindPointer(
  canvas: HTMLCanvasElement,
  surface: Surface,
  hooks: PointerHooks,
  clock: Clock,
  signal: AbortSignal,
): GestureRecogniser {
  const recogniser = new GestureRecogniser(surface, hooks.gesture);
  let stopLongPress = () => {};

  const input = (e: PointerEvent): PointerInput => ({
    ...stagePoint(canvas, e),
    id: e.pointerId,
    button: e.button,
    ctrl: e.ctrlKey || e.metaKey,
    shift: e.shiftKey,
    alt: e.altKey,
    time: e.timeStamp,
    kind: e.pointerType === "touch" || e.pointerType === "pen" ? e.pointerType : "mouse",
  });

  listen(
    canvas,
    "pointerdown",
    (e) => {
      hooks.pressed();
      // A lost pointer (capture refused, synthetic event) only costs the drag beyond the edge.
      try {
        canvas.setPointerCapture(e.pointerId);
      } catch {}
      recogniser.down(input(e));
      stopLongPress();
      if (recogniser.awaitingLongPress) {
        stopLongPress = clock.later(LONG_PRESS_MS, () => {
          if (recogniser.longPress()) navigator.vibrate?.(12);
        });
      }
      if (e.button === 1) e.preventDefault(); // no autoscroll
    },
    signal,
  );
  listen(
    canvas,
    "pointermove",
    (e) => {
      // Coalesced events keep strokes round when the page is slow.
      const events = e.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [e]) recogniser.move(input(each));
      if (e.pointerType !== "touch") hooks.hover(stagePoint(canvas, e));
    },
    signal,
  );
  listen(
    canvas,
    "pointerup",
    (e) => {
      stopLongPress();
      recogniser.up(input(e));
    },
    signal,
  );
  listen(
    canvas,
    "pointercancel",
    () => {
      stopLongPress();
      recogniser.cancel();
    },
    signal,
  );
  listen(canvas, "pointerleave", () => hooks.hover(null), signal);
  listen(
    canvas,
    "contextmenu",
    (e) => {
      e.preventDefault();
      e.stopPropagation(); // or the host opens its own menu
    },
    signal,
  );
  // Fingers scroll the page over a fitted picture (touch-action), except from a marker.
  listen(
    canvas,
    "touchstart",
    (e) => {
      const touch = e.touches[0];
      if (touch && surface.marker(stagePoint(canvas, touch), 18)) e.preventDefault();
    },
    signal,
    { passive: false },
  );
  listen(
    canvas,
    "wheel",
    (e) => {
      if (!e.ctrlKey && !e.metaKey) return; // a plain wheel scrolls the notebook
      e.preventDefault();
      e.stopPropagation();
      const pixels = e.deltaY * (e.deltaMode === 1 ? 16 : e.deltaMode === 2 ? 400 : 1);
      const step = Math.min(Math.max(pixels, -120), 120);
      hooks.wheelZoom(Math.exp(-step / 240), stagePoint(canvas, e));
    },
    signal,
    { passive: false },
  );
  return recogniser;
}
