/** Colours: parsing what the kernel sends, readable text on top, the heat map's ramp. No DOM. */

export type Rgb = readonly [number, number, number];

/** `#rrggbb` to numbers; anything else becomes grey. */
export function parseColour(text: string): Rgb {
  const parts = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text)?.slice(1);
  return parts ? (parts.map((part) => Number.parseInt(part, 16)) as never) : [154, 163, 175];
}

export function withAlpha(colour: string, alpha: number): string {
  const [r, g, b] = parseColour(colour);
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

/** WCAG relative luminance, 0 (black) to 1 (white). */
export function luminance([r, g, b]: Rgb): number {
  const linear = (v: number) => {
    const s = v / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}

/** Near-black or white, whichever reads better on `colour`. */
export function inkOn(colour: string): string {
  return luminance(parseColour(colour)) > 0.32 ? "#14161a" : "#ffffff";
}

/** Thin line beside a coloured one that separates it from any background. */
export function casingFor(colour: string): string {
  return luminance(parseColour(colour)) > 0.06
    ? "rgba(10, 12, 16, 0.5)"
    : "rgba(255, 255, 255, 0.7)";
}

/** Heat map ramp: 0 (certain) is clear, 255 (doubtful) glows; RGBA packed for little endian. */
export function heatRamp(): Uint32Array {
  const stops: [number, number, number, number, number][] = [
    [0, 40, 20, 90, 0],
    [0.25, 86, 30, 130, 70],
    [0.55, 200, 50, 90, 160],
    [0.8, 250, 140, 50, 200],
    [1, 255, 240, 150, 225],
  ];
  const ramp = new Uint32Array(256);
  for (let value = 0; value < 256; value++) {
    const at = value / 255;
    let k = 1;
    while (k < stops.length - 1 && at > stops[k]![0]) k++;
    const low = stops[k - 1]!;
    const high = stops[k]!;
    const f = (at - low[0]) / (high[0] - low[0]);
    const mix = (i: 1 | 2 | 3 | 4) => Math.round(low[i] + (high[i] - low[i]) * f);
    ramp[value] = ((mix(4) << 24) | (mix(3) << 16) | (mix(2) << 8) | mix(1)) >>> 0;
  }
  return ramp;
}
