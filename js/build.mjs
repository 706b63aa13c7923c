// Builds the bundle that the Python package ships: `node build.mjs [--watch]`.
import { context } from "esbuild";

// Property names that never leave the bundle (not on the wire, not in the DOM) and occur often:
// shortening them keeps the bundle, which notebooks store, under its limit.
const INTERNAL = [
  ...["viewport", "store", "scene", "imageWidth", "imageHeight", "stageWidth", "stageHeight"],
  ...["imageVersion", "imageInfo", "imagePixels", "fitted", "readOnly", "brushRadius", "armed"],
  ...["armedClass", "outlinesOnly", "tabReleased", "panning", "previewing", "highlight", "settled"],
  ...["unanswered", "lastHeardAt", "lastRevision", "lastSent", "lastAcked", "sentAt", "wireSeq"],
  ...["sinceT", "silenceMs", "latencyMs", "roundTripMs", "pictureShown", "clearPreview", "trait"],
  ...["setViewport", "setOverlay", "invalidate", "hooks", "dragged", "doubtful"],
  ...["generation", "truncated", "contours", "overlay", "strokes", "ghost", "shown"],
  ...["channel", "clock", "actions", "cancelGesture", "awaitingLongPress", "surface", "onCanvas"],
  ...["intend", "clickPixel", "clickAt", "instanceAt", "moveCursor", "markerInReach"],
  ...["command", "panel", "picture", "marker", "phase", "erase", "hover", "active", "answered"],
  ...["intent", "painted", "madeAt", "decodeMs", "setClass", "setVisible", "setLocked", "reveal"],
  ...["update", "changed", "pending", "labelled", "removeMarker"],
  ...["readOnly", "commit", "question", "refused"],
  ...[
    "attributes",
    "node",
    "tool",
    "emit",
    "front",
    "swatch",
    "later",
    "live",
    "answer",
    "pressed",
  ],
  ...["showSnapshot", "refreshHeat", "nextDoubtful", "dropPaintedStrokes", "dragMarker"],
  ...[
    "strokeTo",
    "revokeClick",
    "setClassByNumber",
    "receive",
    "traitsChanged",
    "resend",
    "longPress",
  ],
];

const shared = { bundle: true, minify: true, target: "es2022", charset: "utf8", logLevel: "info" };
const contexts = await Promise.all([
  context({
    ...shared,
    entryPoints: ["src/index.ts"],
    format: "esm",
    mangleProps: new RegExp(`^(${INTERNAL.join("|")})$`),
    outfile: "../dynamite_widget/static/widget.js",
  }),
  context({
    ...shared,
    entryPoints: ["src/style/widget.css"],
    outfile: "../dynamite_widget/static/widget.css",
  }),
]);

if (process.argv.includes("--watch")) {
  await Promise.all(contexts.map((each) => each.watch()));
} else {
  await Promise.all(contexts.map((each) => each.rebuild()));
  await Promise.all(contexts.map((each) => each.dispose()));
}
