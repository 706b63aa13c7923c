import { describe, expect, it } from "vitest";
import { decodeLabels, encodeRuns, expandRuns, fromBase64 } from "../src/rle";

function random(size: number, ids: number, seed: number): Uint16Array {
  const labels = new Uint16Array(size);
  let state = seed;
  let id = 0;
  for (let at = 0; at < size; at++) {
    state = (state * 1103515245 + 12345) & 0x7fffffff;
    if (state % 7 === 0) id = state % ids;
    labels[at] = id;
  }
  return labels;
}

describe("run lengths", () => {
  it("round-trip", () => {
    for (const [size, ids] of [
      [1, 2],
      [997, 3],
      [4096, 700],
    ] as const) {
      const labels = random(size, ids, size);
      const runs = encodeRuns(labels);
      expect(expandRuns(runs.lengths, runs.ids, size)).toEqual(labels);
    }
  });

  it("decode from unaligned buffers, as they come from a socket", () => {
    const lengths = Uint32Array.of(2, 3, 1);
    const bytes = new Uint8Array(13);
    bytes.set(new Uint8Array(lengths.buffer), 1);
    const view = new DataView(bytes.buffer, 1, 12);
    const map = decodeLabels({ width: 3, height: 2, encoding: "rle", id_bytes: 1 }, [
      view,
      Uint8Array.of(0, 5, 9),
    ]);
    expect([...map.labels]).toEqual([0, 0, 5, 5, 5, 9]);
  });

  it("decode raw and 16-bit ids", () => {
    const raw = decodeLabels({ width: 2, height: 1, encoding: "raw" }, [Uint8Array.of(7, 0)]);
    expect([...raw.labels]).toEqual([7, 0]);
    const wide = decodeLabels({ width: 2, height: 1, encoding: "raw", id_bytes: 2 }, [
      Uint16Array.of(700, 1),
    ]);
    expect([...wide.labels]).toEqual([700, 1]);
  });

  it("refuses what does not fit its header", () => {
    const ids = Uint8Array.of(1);
    const header = { width: 2, height: 2, encoding: "rle" } as const;
    expect(() => decodeLabels(header, [Uint32Array.of(3), ids])).toThrow("4 pixels");
    expect(() => decodeLabels(header, [Uint32Array.of(5), ids])).toThrow("4 pixels");
    expect(() => decodeLabels(header, [Uint32Array.of(4, 0), ids])).toThrow("1 ids");
    expect(() => decodeLabels(header, [Uint32Array.of(4)])).toThrow("two buffers");
    expect(() => decodeLabels({ ...header, encoding: "raw" }, [ids])).toThrow("expected 4");
    expect(() => decodeLabels(header, [Uint8Array.of(1, 2, 3), ids])).toThrow("32-bit");
  });

  it("reads base64", () => {
    expect([...fromBase64("AAEC/w==")]).toEqual([0, 1, 2, 255]);
  });
});
