/**
 * Compiles fast.c to fast.node, with which `acquire` and `complete` take less time. npm runs this when the package is
 * installed. It never fails: without a C compiler, or the headers of Node-API, the package works without fast.node.
 *
 * From the environment: CC, CFLAGS.
 */
"use strict";

const { spawnSync } = require("node:child_process");
const { existsSync, renameSync, rmSync } = require("node:fs");
const { dirname, join } = require("node:path");

const output = join(__dirname, "fast.node");
const unfinished = join(__dirname, `fast.${process.pid}.node`);

/** Most installations of Node have the headers; koffi brings them, too, to be compiled where there is no binary of it. */
function headers() {
  const folders = [
    join(dirname(require.resolve("koffi")), "vendor", "node-api-headers", "include"),
    join(dirname(process.execPath), "..", "include", "node"),
  ];
  const found = folders.find((folder) => existsSync(join(folder, "node_api.h")));
  if (found === undefined) throw new Error("node_api.h was not found");
  return found;
}

function compile() {
  const [cc, ...flags] = [process.env.CC || "cc", "-O2", process.env.CFLAGS ?? ""].join(" ").trim().split(/\s+/);
  flags.push("-std=c99", "-fPIC", "-shared", "-DNAPI_VERSION=8", "-isystem", headers());
  if (process.platform === "darwin") flags.push("-undefined", "dynamic_lookup");
  const { error, status, stderr } = spawnSync(cc, [...flags, join(__dirname, "fast.c"), "-o", unfinished], { encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.trim() || `${cc} has failed`);
  renameSync(unfinished, output);
}

try {
  rmSync(output, { force: true });
  compile();
} catch (error) {
  rmSync(unfinished, { force: true });
  console.log(`libgrate: fast.node was not compiled, which is slower and nothing else: ${error.message}`);
}
