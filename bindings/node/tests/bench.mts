/** Prints what a call of this language costs at least, and an acquire with its complete: nanoseconds. */

import { readFileSync } from "node:fs";
import { Engine } from "libgrate";
import { version } from "../dist/calls.js";
import { inRepository } from "./support.mjs";

const engine = new Engine(readFileSync(inRepository("bindings/bench.json")));
let sum = 0;

const work = {
  empty(times: number): void {
    for (let i = 0; i < times; i++) sum += version();
  },
  cycle(times: number): void {
    for (let i = 0; i < times; i++) {
      engine.acquire("chat", { tokens: 100 }).complete({ httpStatus: 200, tokens: 100 });
    }
  },
};

const BATCH = 500; // as few as in bench.c
const ROUNDS = 2001;

function nanoseconds(run: (times: number) => void): number {
  const start = process.hrtime.bigint();
  run(BATCH);
  return Number(process.hrtime.bigint() - start) / BATCH;
}

const times = { empty: [] as number[], cycle: [] as number[] };
for (let round = -200; round < ROUNDS; round++) {
  for (const name of ["empty", "cycle"] as const) {
    const took = nanoseconds(work[name]);
    if (round >= 0) times[name].push(took); // before, the compiler is at work
  }
}
const median = (list: number[]): string => list.sort((a, b) => a - b)[list.length >> 1]!.toFixed(1);
if (sum <= 0) throw new Error("no version");
console.log(`bench\tNode\t${median(times.empty)}\t${median(times.cycle)}`);
