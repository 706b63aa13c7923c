// Builds the bundle that the Python package ships: `node build.mjs [--watch]`.
import { context } from "esbuild";
import { INTERNAL } from "./names.mjs";

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
