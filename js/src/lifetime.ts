/** Listeners and timers that end with an AbortSignal. */
import type { Clock } from "./channel";

/** Add a listener that goes away with `signal`. */
export function listen<K extends keyof HTMLElementEventMap>(
  target: EventTarget,
  type: K,
  handler: (event: HTMLElementEventMap[K]) => void,
  signal: AbortSignal,
  options: AddEventListenerOptions = {},
): void {
  target.addEventListener(type, handler as EventListener, { ...options, signal });
}

/** A clock whose timers stop when `signal` aborts. */
export function clockFor(signal: AbortSignal): Clock {
  return {
    now: () => performance.now(),
    later(ms, task) {
      if (signal.aborted) return () => {};
      const stop = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
      };
      const timer = setTimeout(() => {
        stop();
        task();
      }, ms);
      signal.addEventListener("abort", stop, { once: true });
      return stop;
    },
  };
}

/**
 * Calls `draw` once for any number of requests, in the next frame. Frames stop in hidden tabs, so
 * a timer stands in after 150 ms: what the view reports about itself must not depend on focus.
 */
export function frameScheduler(draw: () => void, signal: AbortSignal): () => void {
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const clear = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = 0;
    timer = undefined;
  };
  const run = () => {
    clear();
    draw();
  };
  signal.addEventListener("abort", clear, { once: true });
  return () => {
    if (signal.aborted || timer !== undefined) return;
    frame = requestAnimationFrame(run);
    timer = setTimeout(run, 150);
  };
}
