/**
 * Outlines of a label map as polygons, so that they stay crisp at any zoom.
 *
 * Every border between pixels is followed with its instance on the right-hand side; the polygon
 * goes through the middles of the pixel edges and is then thinned (Douglas-Peucker), which turns
 * staircases into straight lines and stays within a tolerance of the border. No DOM here.
 */
import type { LabelMap } from "./rle";

/** Closed polygons of one instance: x0, y0, x1, y1, … in label-map pixels. */
export type Loops = (readonly number[])[];

export interface Contours {
  loops: Map<number, Loops>;
  /** True when the map was too ragged to trace (noise): draw it as a bitmap instead. */
  truncated: boolean;
}

// By direction: east, south, west, north. The pixels diagonally ahead of a vertex, right and left.
const STEP_X = [1, 0, -1, 0];
const STEP_Y = [0, 1, 0, -1];
const RIGHT_X = [0, -1, -1, 0];
const RIGHT_Y = [0, 0, -1, -1];
const LEFT_X = [0, 0, -1, -1];
const LEFT_Y = [-1, 0, 0, -1];

/** Trace every instance of `map`, not thinned; gives up beyond `maxEdges` pixel edges. */
export function traceContours(map: LabelMap, maxEdges = 600_000): Contours {
  const { width, height, labels, lengths } = map;
  const size = width * height;
  const loops = new Map<number, Loops>();
  const seen = new Uint8Array(size); // top edges that belong to a traced loop
  let edges = 0;
  const start = (at: number) => {
    const id = labels[at]!;
    if (id === 0 || at >= size || seen[at] || (at >= width && labels[at - width] === id)) return;
    const points: number[] = [];
    edges += follow(map, seen, at, id, points);
    const own = loops.get(id);
    if (own) own.push(points);
    else loops.set(id, [points]);
  };
  // A stretch of top edges begins at the left margin, at the start of a run, or below one.
  for (let at = 0; at < size; at += width) start(at);
  for (let run = 0, at = 0; run < lengths.length; at += lengths[run++]!) {
    start(at);
    start(at + width);
    if (edges > maxEdges) return { loops: new Map(), truncated: true };
  }
  return { loops, truncated: false };
}

/** Walk one border, starting along the top edge of pixel `at`; returns its number of edges. */
function follow(map: LabelMap, seen: Uint8Array, at: number, id: number, points: number[]): number {
  const { width, height, labels } = map;
  const x0 = at % width;
  const y0 = (at - x0) / width;
  const inside = (x: number, y: number) =>
    x >= 0 && y >= 0 && x < width && y < height && labels[y * width + x] === id;
  let x = x0;
  let y = y0;
  let direction = 0;
  let previous = -1;
  let edges = 0;
  do {
    if (direction === 0) seen[y * width + x] = 1;
    const nextX = x + STEP_X[direction]!;
    const nextY = y + STEP_Y[direction]!;
    // Turning right means that the pixel ahead on the right is foreign; left, that both are ours.
    let turn = 0;
    if (!inside(nextX + RIGHT_X[direction]!, nextY + RIGHT_Y[direction]!)) turn = 1;
    else if (inside(nextX + LEFT_X[direction]!, nextY + LEFT_Y[direction]!)) turn = 3;
    // Middles inside a straight stretch carry nothing: keep the first and the last one only.
    if (previous !== direction || turn !== 0) points.push((x + nextX) / 2, (y + nextY) / 2);
    previous = direction;
    x = nextX;
    y = nextY;
    direction = (direction + turn) & 3;
    edges++;
  } while (x !== x0 || y !== y0 || direction !== 0);
  return edges;
}

/** Douglas-Peucker on a closed polygon; small polygons are left alone. */
export function thin(points: readonly number[], tolerance: number): readonly number[] {
  const count = points.length / 2;
  if (count <= 8 || tolerance <= 0) return points;
  let far = 0;
  let farthest = -1;
  for (let i = 1; i < count; i++) {
    const d = (points[2 * i]! - points[0]!) ** 2 + (points[2 * i + 1]! - points[1]!) ** 2;
    if (d > farthest) {
      farthest = d;
      far = i;
    }
  }
  const keep = new Uint8Array(count);
  keep[0] = 1;
  keep[far] = 1;
  const stack = [0, far, far, count];
  while (stack.length) {
    const last = stack.pop()!;
    const first = stack.pop()!;
    const index = splitIndex(points, first, last, count, tolerance);
    if (index < 0) continue;
    keep[index] = 1;
    stack.push(first, index, index, last);
  }
  return points.filter((_, i) => keep[i >> 1]);
}

/** Index of the point that deviates most from the chord, or -1 when all are close enough. */
function splitIndex(
  points: readonly number[],
  first: number,
  last: number,
  count: number,
  tolerance: number,
): number {
  const ax = points[2 * first]!;
  const ay = points[2 * first + 1]!;
  const end = last % count;
  const dx = points[2 * end]! - ax;
  const dy = points[2 * end + 1]! - ay;
  let worst = tolerance * (Math.hypot(dx, dy) || 1);
  let index = -1;
  for (let i = first + 1; i < last; i++) {
    const distance = Math.abs((points[2 * i]! - ax) * dy - (points[2 * i + 1]! - ay) * dx);
    if (distance > worst) {
      worst = distance;
      index = i;
    }
  }
  return index;
}
