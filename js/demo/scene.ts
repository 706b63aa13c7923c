/** A picture made of pebbles: drawn once, and each pebble knows which pixels it covers. */

export interface Pebble {
  x: number;
  y: number;
  radius: number;
  squash: number;
  turn: number;
  wobble: number;
  colour: [number, number, number];
}

export const WIDTH = 1200;
export const HEIGHT = 800;

export const PEBBLES: Pebble[] = [
  { x: 250, y: 230, radius: 150, squash: 0.72, turn: 0.3, wobble: 1, colour: [196, 178, 152] },
  { x: 590, y: 180, radius: 110, squash: 0.8, turn: -0.5, wobble: 2, colour: [112, 118, 126] },
  { x: 900, y: 220, radius: 165, squash: 0.66, turn: 0.1, wobble: 3, colour: [171, 124, 96] },
  { x: 180, y: 560, radius: 120, squash: 0.86, turn: 0.8, wobble: 4, colour: [84, 92, 104] },
  { x: 470, y: 520, radius: 160, squash: 0.7, turn: -0.2, wobble: 5, colour: [214, 206, 194] },
  { x: 760, y: 530, radius: 105, squash: 0.9, turn: 0.4, wobble: 6, colour: [136, 146, 128] },
  { x: 1010, y: 560, radius: 135, squash: 0.74, turn: -0.7, wobble: 7, colour: [188, 160, 120] },
  { x: 640, y: 690, radius: 62, squash: 0.84, turn: 1.1, wobble: 8, colour: [98, 82, 76] },
];

/** 0 in the middle of a pebble, 1 on its rim, more outside; Infinity where it is far away. */
export function pebbleDistance(p: Pebble, x: number, y: number): number {
  const reach = 1.4 * p.radius; // saves most of the work: this runs for every pixel
  if (Math.abs(x - p.x) > reach || Math.abs(y - p.y) > reach) return Number.POSITIVE_INFINITY;
  const cos = Math.cos(p.turn);
  const sin = Math.sin(p.turn);
  const u = ((x - p.x) * cos + (y - p.y) * sin) / p.radius;
  const v = (-(x - p.x) * sin + (y - p.y) * cos) / (p.radius * p.squash);
  const angle = Math.atan2(v, u);
  const rim = 1 + 0.05 * Math.sin(3 * angle + p.wobble) + 0.03 * Math.sin(5 * angle - 2 * p.wobble);
  return Math.hypot(u, v) / rim;
}

export function pebbleAt(x: number, y: number): number {
  return PEBBLES.findIndex((p) => pebbleDistance(p, x, y) < 1);
}

/** Cheap repeatable noise, −1 … 1. */
function grain(x: number, y: number, seed: number): number {
  const s = Math.sin(x * 12.9898 + y * 78.233 + seed * 37.719) * 43758.5453;
  return 2 * (s - Math.floor(s)) - 1;
}

function smoothGrain(x: number, y: number, size: number, seed: number): number {
  const gx = Math.floor(x / size);
  const gy = Math.floor(y / size);
  const fx = x / size - gx;
  const fy = y / size - gy;
  const mix = (a: number, b: number, t: number) => a + (b - a) * t * t * (3 - 2 * t);
  return mix(
    mix(grain(gx, gy, seed), grain(gx + 1, gy, seed), fx),
    mix(grain(gx, gy + 1, seed), grain(gx + 1, gy + 1, seed), fx),
    fy,
  );
}

/** The picture as PNG bytes. */
export async function drawPicture(): Promise<Uint8Array<ArrayBuffer>> {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(WIDTH, HEIGHT);
  for (let y = 0, at = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++, at += 4) {
      const [r, g, b] = shade(x, y);
      image.data.set([r, g, b, 255], at);
    }
  }
  context.putImageData(image, 0, 0);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  return new Uint8Array(await blob!.arrayBuffer());
}

function shade(x: number, y: number): [number, number, number] {
  const sand = 12 * smoothGrain(x, y, 90, 1) + 6 * smoothGrain(x, y, 14, 2) + 9 * grain(x, y, 3);
  let colour: [number, number, number] = [176 + sand, 158 + sand, 132 + sand];
  for (const p of PEBBLES) {
    const d = pebbleDistance(p, x, y);
    if (d === Number.POSITIVE_INFINITY) continue;
    const shadow = pebbleDistance(p, x - 0.07 * p.radius, y - 0.1 * p.radius);
    if (d >= 1) {
      const dark = shadow < 1.12 ? 0.52 + 0.48 * Math.max(0, (shadow - 0.8) / 0.32) : 1;
      if (dark < 1) colour = colour.map((c) => c * dark) as typeof colour;
      continue;
    }
    const height = Math.sqrt(Math.max(0, 1 - d * d));
    const light = 0.5 + 0.42 * height - 0.2 * ((x - p.x) / p.radius + (y - p.y) / p.radius) * d;
    const vein = 16 * smoothGrain(x, y, 26, p.wobble) + 9 * smoothGrain(x + y, y - x, 7, p.wobble);
    const speck = 6 * grain(x, y, p.wobble);
    colour = p.colour.map((c) => c * light * 1.15 + vein * light + speck) as typeof colour;
  }
  return colour;
}
