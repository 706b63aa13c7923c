import { describe, expect, it } from "vitest";
import { thin, traceContours } from "../src/contour";

function map(rows: string[]) {
  const width = rows[0]!.length;
  const labels = Uint8Array.from(rows.join("").split("").map(Number));
  return { width, height: rows.length, labels };
}

function area(loop: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < loop.length; i += 2) {
    const j = (i + 2) % loop.length;
    sum += loop[i]! * loop[j + 1]! - loop[j]! * loop[i + 1]!;
  }
  return sum / 2;
}

describe("contours", () => {
  it("go once around every part and every hole", () => {
    const { loops } = traceContours(
      map(["0000000", "0111102", "0100102", "0111100", "0000000"]),
      0,
    );
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
    const [loop] = traceContours({ width: size, height: size, labels }).loops.get(3)!;
    expect(Math.abs(area(loop!) - pixels) / pixels).toBeLessThan(0.01);
    expect(loop!.length / 2).toBeLessThan(120); // thinned: the staircase had 480 corners
  });

  it("handle single pixels, edges of the map and diagonal neighbours", () => {
    expect(traceContours(map(["1"]), 0).loops.get(1)).toHaveLength(1);
    expect(traceContours(map(["10", "01"]), 0).loops.get(1)).toHaveLength(2);
    expect(traceContours(map(["12", "34"]), 0).loops.size).toBe(4);
    expect(traceContours(map(["000", "000"])).loops.size).toBe(0);
  });

  it("give up on noise instead of freezing the page", () => {
    const labels = Uint8Array.from({ length: 10_000 }, (_, i) => (i + Math.floor(i / 100)) % 2);
    const contours = traceContours({ width: 100, height: 100, labels }, 0.5, 1000);
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
