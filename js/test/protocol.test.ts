import { describe, expect, it } from "vitest";
import { isLabelsMessage } from "../src/protocol";

describe("labels messages", () => {
  const message = { type: "labels", revision: 3, width: 2, height: 1, encoding: "rle" };

  it("are known by their fields", () => {
    expect(isLabelsMessage(message)).toBe(true);
    expect(isLabelsMessage({ ...message, revision: 2.5, latency_ms: null })).toBe(true);
  });

  it("are refused without what decoding needs", () => {
    expect(isLabelsMessage(null)).toBe(false);
    expect(isLabelsMessage({ ...message, type: "image" })).toBe(false);
    expect(isLabelsMessage({ ...message, revision: undefined })).toBe(false);
    expect(isLabelsMessage({ ...message, width: "2" })).toBe(false);
    expect(isLabelsMessage({ ...message, encoding: "zip" })).toBe(false);
  });
});
