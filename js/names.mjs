// Names of properties that never leave the bundle: build.mjs shortens them, because notebooks store
// the bundle once per widget. `node names.mjs` fails when one of them is also a name of the language,
// of the browser or of the wire, where it must stay.
import { readdirSync, readFileSync } from "node:fs";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";

export const INTERNAL = [
  "actions",
  "answer",
  "answered",
  "armed",
  "armedClass",
  "awaitingLongPress",
  "brushRadius",
  "cancelGesture",
  "clearPreview",
  "clickAt",
  "clickPixel",
  "clock",
  "contours",
  "decodeMs",
  "doubtful",
  "dragMarker",
  "dragged",
  "dropPaintedStrokes",
  "emit",
  "erase",
  "fitted",
  "front",
  "generation",
  "ghost",
  "highlight",
  "hooks",
  "hover",
  "imageInfo",
  "imagePixels",
  "imageVersion",
  "instanceAt",
  "intend",
  "intent",
  "invalidate",
  "labelled",
  "lastAcked",
  "lastHeardAt",
  "lastRevision",
  "lastSent",
  "latencyMs",
  "later",
  "live",
  "longPress",
  "madeAt",
  "markerInReach",
  "moveCursor",
  "nextDoubtful",
  "node",
  "onCanvas",
  "outlinesOnly",
  "overlay",
  "panel",
  "panning",
  "phase",
  "pictureShown",
  "previewing",
  "question",
  "receive",
  "refreshHeat",
  "refused",
  "removeMarker",
  "resend",
  "reveal",
  "revokeClick",
  "roundTripMs",
  "scene",
  "sentAt",
  "setClass",
  "setClassByNumber",
  "setLocked",
  "setOverlay",
  "setVisible",
  "settled",
  "showSnapshot",
  "shown",
  "silenceMs",
  "sinceT",
  "stageHeight",
  "stageWidth",
  "strokeTo",
  "strokes",
  "surface",
  "swatch",
  "tabReleased",
  "tool",
  "trait",
  "traitsChanged",
  "truncated",
  "unanswered",
  "wireSeq",
];

const here = new URL("./", import.meta.url);
const read = (path) => readFileSync(new URL(path, here), "utf8");

/** Property names that declarations of TypeScript mention. */
function declared(text) {
  return Array.from(
    text.matchAll(/^\s*(?:(?:readonly|static|get|set) )*"?(\w+)"?\??\s*[:(<]/gm),
    (m) => m[1],
  );
}

function taken() {
  const compiler = "node_modules/@typescript/";
  const names = new Set(Array.from(read("src/protocol.ts").matchAll(/(\w+)\??:/g), (m) => m[1]));
  const [build] = readdirSync(new URL(compiler, here)).filter((name) => /^typescript-/.test(name));
  const libraries = readdirSync(new URL(`${compiler}${build}/lib/`, here));
  for (const file of libraries.filter((name) => /^lib\..*\.d\.ts$/.test(name))) {
    for (const name of declared(read(`${compiler}${build}/lib/${file}`))) names.add(name);
  }
  return names;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const names = taken();
  const wrong = INTERNAL.filter((name) => names.has(name));
  if (names.size < 3000 || wrong.length) {
    console.error(`not to be shortened: ${wrong.join(", ") || "the libraries were not found"}`);
    process.exitCode = 1;
  }
}
