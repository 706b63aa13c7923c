/** The stand-in model of the demo: whole pebbles where one is clicked, discs elsewhere. */
import type { ClickRecord } from "../src/protocol";
import { encodeRuns } from "../src/rle";
import { HEIGHT, PEBBLES, pebbleAt, pebbleDistance, WIDTH } from "./scene";

export interface Stroke {
  instance: number;
  erase: boolean;
  radius: number;
  points: [number, number][];
}

const DISC = 46;
/** Label maps are made at this fraction of the picture's size, as for large pictures. */
export const REDUCE = 0.5;

/** Pebbles and discs of the clicks, the newest on top; then the strokes. */
export function labelsOf(clicks: readonly ClickRecord[], strokes: readonly Stroke[]): Uint8Array {
  const labels = new Uint8Array(WIDTH * REDUCE * HEIGHT * REDUCE);
  for (const { x: cx, y: cy, instance } of clicks) {
    const pebble = PEBBLES[pebbleAt(cx, cy)];
    if (pebble && instance) {
      const { x, y, radius } = pebble;
      paint(labels, x, y, 1.2 * radius, instance, (px, py) => pebbleDistance(pebble, px, py) < 1);
    } else {
      paint(labels, cx, cy, DISC, instance, (px, py) => Math.hypot(px - cx, py - cy) < DISC);
    }
  }
  for (const { instance, erase, radius, points } of strokes) {
    for (const [cx, cy] of points) {
      paint(labels, cx, cy, radius, erase ? 0 : instance, (px, py, label) => {
        const near = Math.hypot(px - cx, py - cy) <= radius;
        return near && (!erase || label === instance);
      });
    }
  }
  return labels;
}

/** Set the label of every pixel within `reach` of (cx, cy) that `covers` says belongs. */
function paint(
  labels: Uint8Array,
  cx: number,
  cy: number,
  reach: number,
  value: number,
  covers: (x: number, y: number, label: number) => boolean,
): void {
  const width = WIDTH * REDUCE;
  const range = (centre: number, size: number): [number, number] => [
    Math.max(0, Math.floor((centre - reach) * REDUCE)),
    Math.min(size, Math.ceil((centre + reach) * REDUCE) + 1),
  ];
  const [left, right] = range(cx, width);
  const [top, bottom] = range(cy, HEIGHT * REDUCE);
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const at = row * width + column;
      const x = (column + 0.5) / REDUCE - 0.5;
      const y = (row + 0.5) / REDUCE - 0.5;
      if (covers(x, y, labels[at]!)) labels[at] = value;
    }
  }
}

/** Doubt, 0…255: high along the rims of pebbles. */
export function marginOf(width: number, height: number): Uint8Array {
  const heat = new Uint8Array(width * height);
  for (let at = 0; at < heat.length; at++) {
    const x = ((at % width) * WIDTH) / width;
    const y = (Math.floor(at / width) * HEIGHT) / height;
    const nearest = Math.min(...PEBBLES.map((p) => Math.abs(pebbleDistance(p, x, y) - 1)));
    heat[at] = 255 * Math.max(0, 1 - nearest * 5);
  }
  return heat;
}

/** Fields and buffers of a labels message. */
export function packLabels(labels: Uint8Array) {
  const { lengths, ids } = encodeRuns(labels);
  const fields = { width: WIDTH * REDUCE, height: HEIGHT * REDUCE, encoding: "rle", id_bytes: 1 };
  return { fields, buffers: [lengths, ids] };
}
