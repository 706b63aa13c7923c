/**
 * From pointer events to gestures: click, drag, pan, pinch, stroke, double click, long press.
 * A state machine without DOM: `pointer.ts` feeds it, tests do too.
 *
 * A click is reported at once, on release; it does not wait for a possible second one. When the
 * second release follows within 320 ms and 6 px, a `double` with `revoke: true` is reported and
 * whoever listens takes the first click back. So clicks stay fast and a double click leaves none.
 */
import type { Tool } from "./ui";
import type { Point } from "./viewport";

export interface PointerInput extends Point {
  id: number;
  button: number;
  ctrl: boolean;
  shift: boolean;
  alt: boolean;
  time: number;
  kind: "mouse" | "pen" | "touch";
}

/** What the recogniser needs to know about the surface. */
export interface Surface {
  tool(): Tool;
  panning(): boolean;
  zoomed(): boolean;
  /** Key of the marker at a stage point. */
  marker(at: Point, reach: number): string | null;
}

export type Gesture =
  | { type: "click"; at: Point; as: "object" | "background" | "select" }
  | { type: "remove"; marker: string }
  | { type: "tap-marker"; marker: string }
  | { type: "double"; at: Point; revoke: boolean }
  | { type: "drag"; marker: string; at: Point; phase: "move" | "end" | "cancel" }
  | { type: "pan"; dx: number; dy: number }
  | { type: "pinch"; factor: number; at: Point; dx: number; dy: number }
  | { type: "stroke"; at: Point; erase: boolean; phase: "start" | "move" | "end" | "cancel" };

type Mode =
  | "idle"
  | "press"
  | "background"
  | "select"
  | "remove"
  | "marker"
  | "drag"
  | "pan-press"
  | "pan"
  | "stroke"
  | "pinch"
  | "done";

export const LONG_PRESS_MS = 550;
const DOUBLE_MS = 320;
const DOUBLE_PX = 6;

export class GestureRecogniser {
  #mode: Mode = "idle";
  #start: PointerInput | null = null;
  #last: Point = { x: 0, y: 0 };
  #marker = "";
  #erase = false;
  #touches = new Map<number, Point>();
  #lastTap: { at: Point; time: number; clicked: boolean } | null = null;

  constructor(
    readonly surface: Surface,
    readonly emit: (gesture: Gesture) => void,
  ) {}

  /** True while a press could still become a long press. */
  get awaitingLongPress(): boolean {
    return this.#mode === "press" && this.#start?.kind === "touch";
  }

  get active(): boolean {
    return this.#mode !== "idle";
  }

  down(p: PointerInput): void {
    if (p.kind === "touch") this.#touches.set(p.id, p);
    if (this.#touches.size === 2) {
      this.#interrupt();
      this.#mode = "pinch";
      return;
    }
    if (this.#mode !== "idle") return;
    this.#start = p;
    this.#last = p;
    this.#mode = this.#modeFor(p);
    if (this.#mode === "stroke") {
      this.emit({ type: "stroke", at: p, erase: this.#erase, phase: "start" });
    }
  }

  #modeFor(p: PointerInput): Mode {
    if (p.button === 1 || (p.button === 0 && this.surface.panning())) return "pan-press";
    if (p.button === 2) return "background";
    if (p.button !== 0 && p.button !== 5) return "done";
    if (p.alt) return "select";
    if (p.ctrl) return "background";
    const tool = this.surface.tool();
    const marker = this.surface.marker(p, p.kind === "touch" ? 18 : 11);
    this.#marker = marker ?? "";
    if (p.shift && marker) return "remove";
    this.#erase = tool === "eraser" || p.button === 5; // 5: the eraser end of a pen
    if (tool === "brush" || tool === "eraser" || p.button === 5) return "stroke";
    return marker ? "marker" : "press";
  }

  move(p: PointerInput): void {
    if (this.#mode === "pinch") {
      this.#pinch(p);
      return;
    }
    if (!this.#start || p.id !== this.#start.id) return;
    const moved = Math.hypot(p.x - this.#start.x, p.y - this.#start.y);
    const slack = p.kind === "touch" ? 9 : 4;
    if (this.#mode === "marker" && moved > slack) this.#mode = "drag";
    if (this.#mode === "pan-press" && moved > 1) this.#mode = "pan";
    // A sloppy click must not get lost: dragging pans only where there is something to pan.
    if (this.#mode === "press" && moved > slack + 2 && this.surface.zoomed()) this.#mode = "pan";
    if (this.#mode === "background" && moved > 12) this.#mode = "done";
    if (this.#mode === "pan") {
      this.emit({ type: "pan", dx: p.x - this.#last.x, dy: p.y - this.#last.y });
    }
    this.#carry(p, "move");
    this.#last = p;
  }

  /** Go on with what is being dragged or painted, if anything is. */
  #carry(at: Point, phase: "move" | "end" | "cancel"): void {
    if (this.#mode === "drag") this.emit({ type: "drag", marker: this.#marker, at, phase });
    if (this.#mode === "stroke") this.emit({ type: "stroke", at, erase: this.#erase, phase });
  }

  #pinch(p: PointerInput): void {
    if (!this.#touches.has(p.id)) return;
    const [a, b] = [...this.#touches.values()] as [Point, Point];
    const before = {
      distance: Math.hypot(a.x - b.x, a.y - b.y),
      x: (a.x + b.x) / 2,
      y: (a.y + b.y) / 2,
    };
    this.#touches.set(p.id, p);
    const [c, d] = [...this.#touches.values()] as [Point, Point];
    const at = { x: (c.x + d.x) / 2, y: (c.y + d.y) / 2 };
    const factor = Math.hypot(c.x - d.x, c.y - d.y) / Math.max(before.distance, 1);
    this.emit({ type: "pinch", factor, at, dx: at.x - before.x, dy: at.y - before.y });
  }

  up(p: PointerInput): void {
    this.#touches.delete(p.id);
    if (this.#mode === "pinch") {
      if (this.#touches.size === 0) this.#reset();
      return;
    }
    const start = this.#start;
    if (!start || p.id !== start.id) return;
    this.#carry(p, "end");
    const mode = this.#mode;
    const marker = this.#marker;
    this.#reset();
    switch (mode) {
      case "press":
      case "marker":
      case "pan-press":
        return this.#tap(start, mode, marker);
      case "background":
      case "select":
        return this.emit({ type: "click", at: start, as: mode });
      case "remove":
        return this.emit({ type: "remove", marker });
    }
  }

  #tap(start: PointerInput, mode: Mode, marker: string): void {
    const last = this.#lastTap;
    const isDouble =
      last !== null &&
      start.button === 0 &&
      start.time - last.time < DOUBLE_MS &&
      Math.hypot(start.x - last.at.x, start.y - last.at.y) < DOUBLE_PX;
    if (isDouble) {
      this.#lastTap = null;
      this.emit({ type: "double", at: start, revoke: last.clicked });
      return;
    }
    this.#lastTap = { at: start, time: start.time, clicked: mode === "press" };
    if (mode === "press") {
      const as = this.surface.tool() === "background" ? "background" : "object";
      this.emit({ type: "click", at: start, as });
    } else if (mode === "marker") {
      this.emit({ type: "tap-marker", marker });
    }
  }

  /** The finger has rested long enough: a background click. */
  longPress(): boolean {
    if (!this.awaitingLongPress) return false;
    this.#mode = "done";
    this.emit({ type: "click", at: this.#start!, as: "background" });
    return true;
  }

  /** The system took the pointer away, or Esc was pressed. */
  cancel(): void {
    this.#interrupt();
    this.#touches.clear();
    this.#reset();
  }

  #interrupt(): void {
    this.#carry(this.#last, "cancel");
    this.#start = null;
  }

  #reset(): void {
    this.#mode = "idle";
    this.#start = null;
  }
}
