/** Brightness, contrast and gamma of the shown picture (the model never sees them). No DOM. */

export interface Adjustment {
  /** −1 … 1, added. */
  readonly brightness: number;
  /** −1 … 1; 0 leaves the picture alone. */
  readonly contrast: number;
  /** 0.25 … 4; above 1 lifts the shadows. */
  readonly gamma: number;
}

export const NO_ADJUSTMENT: Adjustment = { brightness: 0, contrast: 0, gamma: 1 };

export function isIdentity(a: Adjustment): boolean {
  return a.brightness === 0 && a.contrast === 0 && a.gamma === 1;
}

/** One output value per input value of a colour channel. */
export function adjustmentTable(a: Adjustment): Uint8ClampedArray {
  const table = new Uint8ClampedArray(256);
  const slope = a.contrast >= 0 ? 1 + 3 * a.contrast : 1 + a.contrast;
  for (let value = 0; value < 256; value++) {
    const lifted = (value / 255) ** (1 / a.gamma);
    table[value] = 255 * ((lifted - 0.5) * slope + 0.5 + a.brightness);
  }
  return table;
}

/** Apply a table to RGBA pixels in place; alpha stays. */
export function applyTable(pixels: Uint8ClampedArray, table: Uint8ClampedArray): void {
  for (let at = 0; at < pixels.length; at += 4) {
    pixels[at] = table[pixels[at]!]!;
    pixels[at + 1] = table[pixels[at + 1]!]!;
    pixels[at + 2] = table[pixels[at + 2]!]!;
  }
}
