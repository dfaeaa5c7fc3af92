/** CommonJS consumers get the same package. */

import assert = require("node:assert/strict");
import test = require("node:test");
import grate = require("libgrate");

test("require and import give the same classes", async () => {
  const imported = await import("libgrate");
  assert.equal(imported.Engine, grate.Engine);
  assert.deepEqual(Object.keys(grate).filter((name) => !(name in imported)), []);
  const engine = new grate.Engine();
  assert.throws(() => engine.acquire("nope"), imported.UnknownCapabilityError);
});
