import { describe, expect, it } from "vitest";
import { type Loops, thin, traceContours } from "../src/contour";
import { encodeRuns, type LabelMap } from "../src/rle";

function ready(width: number, height: number, labels: Uint8Array): LabelMap {
  return { width, height, labels, lengths: encodeRuns(labels).lengths };
}

function map(rows: string[]) {
  const width = rows[0]!.length;
  const labels = Uint8Array.from(rows.join("").split("").map(Number));
  return ready(width, rows.length, labels);
}

function area(loop: Loops[number]): number {
  let sum = 0;
  for (let i = 0; i < loop.length; i += 2) {
    const j = (i + 2) % loop.length;
    sum += loop[i]! * loop[j + 1]! - loop[j]! * loop[i + 1]!;
  }
  return sum / 2;
}

/** Number of pixel edges of a loop that was not thinned. */
function straight(loop: Loops[number]): number {
  let edges = 0;
  for (let i = 0; i < loop.length; i += 2) {
    const j = (i + 2) % loop.length;
    edges += Math.abs(loop[j]! - loop[i]!) + Math.abs(loop[j + 1]! - loop[i + 1]!);
  }
  return edges;
}

describe("contours", () => {
  it("go once around every part and every hole", () => {
    const { loops } = traceContours(map(["0000000", "0111102", "0100102", "0111100", "0000000"]));
    const one = loops.get(1)!;
    expect(one).toHaveLength(2);
    const areas = one.map(area).sort((a, b) => a - b);
    expect(areas[0]).toBeLessThan(0); // the hole runs the other way round
    expect(areas[1]).toBeGreaterThan(10);
    expect(loops.get(2)).toHaveLength(1);
  });

  it("cover an area close to the pixel count", () => {
    const size = 200;
    const labels = new Uint8Array(size * size);
    let pixels = 0;
    for (let at = 0; at < labels.length; at++) {
      if (Math.hypot((at % size) - 100, Math.floor(at / size) - 90) < 60) {
        labels[at] = 3;
        pixels++;
      }
    }
    const [whole] = traceContours(ready(size, size, labels)).loops.get(3)!;
    const [coarse, fine] = [thin(whole!, 0.9), thin(whole!, 0.45)];
    for (const loop of [whole!, fine, coarse]) {
      expect(Math.abs(area(loop) - pixels) / pixels).toBeLessThan(0.01);
    }
    expect(fine.length / 2).toBeLessThan(120); // the staircase had 480 corners
    expect(coarse.length).toBeLessThan(fine.length);
  });

  it("handle single pixels, edges of the map and diagonal neighbours", () => {
    expect(traceContours(map(["1"])).loops.get(1)).toHaveLength(1);
    expect(traceContours(map(["10", "01"])).loops.get(1)).toHaveLength(2);
    expect(traceContours(map(["12", "34"])).loops.size).toBe(4);
    expect(traceContours(map(["000", "000"])).loops.size).toBe(0);
  });

  it("find every border of a ragged map once", () => {
    let state = 7;
    const random = () => {
      state = (state * 1103515245 + 12345) & 0x7fffffff;
      return (state >> 8) % 3;
    };
    for (const [width, height] of [
      [1, 9],
      [9, 1],
      [13, 17],
    ] as const) {
      const labels = Uint8Array.from({ length: width * height }, random);
      const pixels = new Map<number, number>();
      for (const id of labels) if (id) pixels.set(id, (pixels.get(id) ?? 0) + 1);
      const { loops } = traceContours(ready(width, height, labels));
      expect([...loops.keys()].sort()).toEqual([...pixels.keys()].sort());
      const edges = (at: number, step: number, there: boolean) =>
        labels[at] && (!there || labels[at + step] !== labels[at]) ? 1 : 0;
      let borders = 0;
      labels.forEach((_, at) => {
        const [x, y] = [at % width, Math.floor(at / width)];
        borders += edges(at, -1, x > 0) + edges(at, 1, x < width - 1);
        borders += edges(at, -width, y > 0) + edges(at, width, y < height - 1);
      });
      // Each unit edge is a middle, except those inside straight stretches.
      const length = [...loops.values()].flat().reduce((sum, loop) => sum + straight(loop), 0);
      expect(length).toBe(borders);
    }
  });

  it("give up on noise instead of freezing the page", () => {
    const labels = Uint8Array.from({ length: 10_000 }, (_, i) => (i + Math.floor(i / 100)) % 2);
    const contours = traceContours(ready(100, 100, labels), 1000);
    expect(contours).toMatchObject({ truncated: true });
    expect(contours.loops.size).toBe(0);
  });

  it("thin out straight lines and keep corners", () => {
    const square: number[] = [];
    for (let i = 0; i < 20; i++) square.push(i, 0);
    for (let i = 0; i < 20; i++) square.push(20, i);
    for (let i = 20; i > 0; i--) square.push(i, 20);
    for (let i = 20; i > 0; i--) square.push(0, i);
    expect(thin(square, 0.4)).toHaveLength(8);
  });
});
