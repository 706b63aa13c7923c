/** Icons as path data on a 24 × 24 grid, built as SVG nodes. */

const circle = (x: number, y: number, r: number) =>
  `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0-${2 * r} 0`;
const LENS = `${circle(10.5, 10.5, 6)}M20 20l-5.2-5.2M8 10.5h5`;
const BODY =
  "M6.5 11h11a1.5 1.5 0 0 1 1.5 1.5v6a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 18.5v-6A1.5 1.5 0 0 1 6.5 11z";

const PATHS = {
  plus: "M12 5v14M5 12h14",
  point: `${circle(12, 12, 2.6)}M12 3v4M12 17v4M3 12h4M17 12h4`,
  background: "M7 5h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H7a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2zM9 12h6",
  brush:
    "M20 4c-4 1.5-8 5-10.2 8.6l2.6 2.6C16 13 18.7 9 20 4zM8.7 14.2c-2.2 0-3.2 1.5-3.3 3.3-.1 1-.6 1.7-1.4 2 2.6 1.1 6.8.5 7-2.6",
  eraser:
    "M9 19 4.6 14.6a1.5 1.5 0 0 1 0-2.1l7.4-7.4a1.5 1.5 0 0 1 2.1 0l4.8 4.8a1.5 1.5 0 0 1 0 2.1L12 19zM8.3 8.9l6.8 6.8M9 19h11",
  undo: "M8.5 5 4 9.5 8.5 14M4 9.5h10a5.5 5.5 0 0 1 0 11h-3",
  redo: "M15.5 5 20 9.5 15.5 14M20 9.5H10a5.5 5.5 0 0 0 0 11h3",
  reset: "M5 5.5v5h5M5.6 10.5a7.2 7.2 0 1 1-.6 4.5",
  zoomIn: `${LENS}M10.5 8v5`,
  zoomOut: LENS,
  fit: "M4 9V5.5A1.5 1.5 0 0 1 5.5 4H9M15 4h3.5A1.5 1.5 0 0 1 20 5.5V9M20 15v3.5a1.5 1.5 0 0 1-1.5 1.5H15M9 20H5.5A1.5 1.5 0 0 1 4 18.5V15",
  eye: `M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z${circle(12, 12, 2.8)}`,
  eyeOff:
    "M4 4l16 16M9.9 5.8A9 9 0 0 1 12 5.5C18 5.5 21.5 12 21.5 12a17 17 0 0 1-2.7 3.4M6.3 7.4A16 16 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 4.3-1.1M10 10a2.8 2.8 0 0 0 4 4",
  outline: "M12 4.5c4.5 0 7.5 2.8 7.5 7s-2.5 8-7.5 8-7.5-3.5-7.5-8 3-7 7.5-7z",
  heat: "M12 21c-4 0-6.5-2.6-6.5-6.2 0-3 2-4.8 3.4-6.6C10 6.8 10.7 5 10.5 3c3 1.3 4.5 3.6 4.5 6 .8-.4 1.3-1 1.5-1.9 1.3 2 2 4.3 2 7C18.5 18.2 16 21 12 21z",
  doubt:
    "M4 9V6a2 2 0 0 1 2-2h3M15 4h3a2 2 0 0 1 2 2v3M20 15v3a2 2 0 0 1-2 2h-3M9 20H6a2 2 0 0 1-2-2v-3M10 9.7a2.1 2.1 0 1 1 3 1.9c-.7.4-1 .8-1 1.6M12 16v.1",
  preview: "M5 3l6 15 2.2-6.2L19.5 9.5zM15.5 15.5 20 20",
  look: `M4 8h9M17 8h3M4 16h3M11 16h9${circle(15, 8, 2)}${circle(9, 16, 2)}`,
  help: `${circle(12, 12, 8.5)}M9.7 9.6a2.4 2.4 0 1 1 3.5 2.1c-.8.5-1.2 1-1.2 1.9M12 16.6v.1`,
  lock: `${BODY}M7 11V8a5 5 0 0 1 10 0v3`,
  unlock: `${BODY}M7 11V8a5 5 0 0 1 9.6-2`,
  trash:
    "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.9 11.6A1.5 1.5 0 0 0 8.9 20h6.2a1.5 1.5 0 0 0 1.5-1.4L17.5 7M10 11v5M14 11v5",
  close: "M6 6l12 12M18 6 6 18",
} as const;

export type IconName = keyof typeof PATHS;

const SVG = "http://www.w3.org/2000/svg";

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "dmw-icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
