// Prints the size of the built bundle and fails when it outgrows its limit: the bundle is stored
// once per widget in every notebook that keeps widget state.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 60_000;
const folder = new URL("../dynamite_widget/static/", import.meta.url);
for (const name of ["widget.js", "widget.css"]) {
  const bytes = readFileSync(new URL(name, folder));
  console.log(`${name}: ${bytes.length} bytes, ${gzipSync(bytes, { level: 9 }).length} gzipped`);
  if (name === "widget.js" && bytes.length > LIMIT_BYTES) {
    console.error(`${name} is larger than ${LIMIT_BYTES} bytes`);
    process.exitCode = 1;
  }
}
