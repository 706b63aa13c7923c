/**
 * State that belongs to one view alone: tool, zoom aids, look. Never synced; what is synced lives
 * in the traits. Values are replaced, not changed in place.
 */
import { type Adjustment, NO_ADJUSTMENT } from "./adjust";
import type { Point } from "./viewport";

export type Tool = "click" | "background" | "brush" | "eraser";

export interface UiState extends Adjustment {
  readonly tool: Tool;
  /** The next click makes a new instance. */
  readonly armed: boolean;
  readonly armedClass: string | null;
  readonly opacity: number;
  readonly outlinesOnly: boolean;
  readonly hidden: boolean;
  readonly heat: boolean;
  /** Hover preview; null follows what the kernel recommends (trait `hover_preview`). */
  readonly preview: boolean | null;
  /** Picture pixels. */
  readonly brushRadius: number;
  /** Keyboard crosshair, picture pixel. */
  readonly cursor: Point | null;
  /** Pointer, stage coordinates. */
  readonly hover: Point | null;
  /** Instance pointed at in the list. */
  readonly highlight: number;
  readonly panning: boolean;
  readonly panel: "none" | "keys" | "look";
  /** Tab moves the focus on instead of jumping to a doubtful region. */
  readonly tabReleased: boolean;
  /** A saved result without a kernel is shown. */
  readonly readOnly: boolean;
}

export const INITIAL_UI: UiState = {
  ...NO_ADJUSTMENT,
  tool: "click",
  armed: false,
  armedClass: null,
  opacity: 0.45,
  outlinesOnly: false,
  hidden: false,
  heat: false,
  preview: null,
  brushRadius: 12,
  cursor: null,
  hover: null,
  highlight: 0,
  panning: false,
  panel: "none",
  tabReleased: false,
  readOnly: false,
};

export function stepOpacity(ui: UiState, direction: 1 | -1): Partial<UiState> {
  const opacity = Math.min(1, Math.max(0, Math.round((ui.opacity + direction * 0.1) * 20) / 20));
  return { opacity, hidden: false };
}

export function stepBrush(ui: UiState, direction: 1 | -1, longSide: number): Partial<UiState> {
  const next =
    direction > 0
      ? Math.max(ui.brushRadius + 1, ui.brushRadius * 1.25)
      : Math.min(ui.brushRadius - 1, ui.brushRadius / 1.25);
  return { brushRadius: Math.round(Math.min(Math.max(next, 1), Math.max(4, longSide / 4))) };
}

/** What Esc leaves, one thing at a time; when nothing is left the next Tab leaves the canvas. */
export function stepBack(ui: UiState): Partial<UiState> {
  if (ui.panel !== "none") return { panel: "none" };
  if (ui.armed) return { armed: false, armedClass: null };
  if (ui.tool !== "click") return { tool: "click" };
  if (ui.cursor) return { cursor: null, tabReleased: true };
  return { tabReleased: true };
}
