/**
 * Keys and what they do: one table for the keyboard, the tooltips and the sheet of keys.
 * Pure; `view.ts` decides whether the widget is listening.
 */

export type Command =
  | "new"
  | "undo"
  | "redo"
  | "reset"
  | "fit"
  | "zoom-in"
  | "zoom-out"
  | "tool-click"
  | "tool-background"
  | "tool-brush"
  | "tool-eraser"
  | "size-down"
  | "size-up"
  | "opacity-down"
  | "opacity-up"
  | "outlines"
  | "hide"
  | "lock"
  | "heat"
  | "doubtful"
  | "preview"
  | "keys"
  | "look"
  | "escape"
  | "delete"
  | "enter"
  | "enter-background"
  | "enter-select"
  | `move-${"left" | "right" | "up" | "down"}${"" | "-far"}`
  | `class-${number}`;

export interface KeyPress {
  key: string;
  ctrl: boolean;
  shift: boolean;
  alt: boolean;
  /** The picture itself has the focus (not a button beside it). */
  onCanvas: boolean;
}

const LETTERS: Record<string, Command> = {
  n: "new",
  "+": "new",
  v: "tool-click",
  g: "tool-background",
  b: "tool-brush",
  e: "tool-eraser",
  ",": "size-down",
  ".": "size-up",
  "[": "opacity-down",
  "]": "opacity-up",
  o: "outlines",
  h: "hide",
  l: "lock",
  m: "heat",
  p: "preview",
  i: "look",
  "0": "fit",
  "?": "keys",
};

const ARROWS: Record<string, "left" | "right" | "up" | "down"> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
};

/** The command of a key press, or null when the key is not ours. */
export function commandFor(press: KeyPress): Command | null {
  const { key, ctrl, shift, alt, onCanvas } = press;
  if (ctrl) {
    if (alt) return null;
    if (key.toLowerCase() === "z") return shift ? "redo" : "undo";
    if (key.toLowerCase() === "y" && !shift) return "redo";
    return null;
  }
  if (onCanvas) {
    const arrow = ARROWS[key];
    if (arrow && !alt) return `move-${arrow}${shift ? "-far" : ""}`;
    if (key === "Enter") return alt ? "enter-select" : shift ? "enter-background" : "enter";
    if (key === "Tab" && !shift && !alt) return "doubtful";
    if (key === "PageUp") return "zoom-in";
    if (key === "PageDown") return "zoom-out";
  }
  if (alt) return null;
  if (key === "Escape") return "escape";
  if (key === "Delete" || key === "Backspace") return "delete";
  if (/^[1-9]$/.test(key)) return `class-${Number(key)}`;
  return LETTERS[key.toLowerCase()] ?? null;
}

/** Keys (separated by "; ") and what they do. */
export type KeyLine = [keys: string, text: string];

/** The sheet that `?` shows: groups with their titles. */
export const KEY_SHEET: [title: string, lines: KeyLine[]][] = [
  [
    "Clicks",
    [
      ["Click", "Add to the active instance"],
      ["N; +", "New instance, made by the next click"],
      ["Right click; Ctrl+click; long press", "Background"],
      ["Alt+click", "Select the instance there"],
      ["Drag a marker", "Move the click"],
      ["Shift+click; Delete", "Remove the click under the pointer"],
      ["Ctrl+Z; Ctrl+Shift+Z", "Undo, redo"],
      ["1 … 9", "Class of the active instance"],
      ["L", "Lock the active instance"],
    ],
  ],
  [
    "Keyboard only (picture focused)",
    [
      ["Arrows; Shift+arrows", "Move the crosshair"],
      ["Enter", "Click at the crosshair"],
      ["Shift+Enter", "Background click"],
      ["Alt+Enter", "Select the instance there"],
      ["Page up; Page down", "Zoom"],
      ["Tab", "Most doubtful region"],
      ["Esc; Tab", "Leave the picture"],
    ],
  ],
  [
    "View",
    [
      ["Ctrl+wheel; pinch", "Zoom at the pointer"],
      ["Space+drag", "Pan"],
      ["Double click", "Zoom in, again: whole picture"],
      ["0", "Whole picture"],
      ["[; ]", "Opacity"],
      ["O", "Outlines only"],
      ["H", "Hide or show the overlay"],
      ["M", "Where the model is unsure"],
      ["P", "Preview under the pointer"],
      ["I", "Brightness, contrast, gamma"],
    ],
  ],
  [
    "Tools",
    [
      ["V; G", "Object clicks, background clicks"],
      ["B; E", "Brush, eraser"],
      [",; .", "Smaller, larger brush"],
    ],
  ],
];
