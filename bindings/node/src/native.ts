/** The C library: where it is found, and its functions. Nothing here is public. */

import { endianness } from "node:os";

// Its types are those of an ES module, and this package is CommonJS, which both kinds of consumers can load.
type Koffi = typeof import("koffi", { with: { "resolution-mode": "import" } });
const koffi: Koffi = require("koffi");

/** `GRATE_VERSION` of the header that `layout.ts` mirrors. */
export const HEADER_VERSION = 1000;

/**
 * An address, as a number: user space ends at 2^47, or 2^52 with the largest page tables, below 2^53. koffi takes
 * numbers and buffers as pointers; a number takes half the time.
 */
export type Address = number;

export const NULL: Address = 0;

/** A function that returns a `grate_status`. */
type Call<Arguments extends (number | bigint | Uint8Array)[]> = (...given: Arguments) => number;

interface Library {
  grate_version(): number;
  grate_version_string(): Address;
  grate_status_name(status: number): Address;
  grate_clock_mock_new(unixMs: number | bigint): Address;
  grate_clock_free(clock: Address): void;
  grate_clock_advance_ms: Call<[Address, number | bigint]>;
  grate_clock_advance_secs: Call<[Address, number | bigint]>;
  grate_clock_set_ns: Call<[Address, number | bigint]>;
  grate_clock_now_ns(clock: Address): number | bigint;
  grate_engine_new: Call<[config: Address, out: Address, err: Address]>;
  grate_engine_free(engine: Address): void;
  grate_engine_configure_json: Call<[engine: Address, json: Uint8Array, len: number, err: Address]>;
  grate_engine_remove_provider: Call<[engine: Address, name: Address, err: Address]>;
  grate_engine_remove_capability: Call<[engine: Address, name: Address, err: Address]>;
  grate_engine_select: Call<[engine: Address, capability: Address, request: Address, out: Address, err: Address]>;
  grate_engine_acquire: Call<[engine: Address, capability: Address, request: Address, out: Address, err: Address]>;
  grate_engine_complete: Call<[engine: Address, lease: bigint, response: Address, err: Address]>;
  grate_engine_cancel: Call<[engine: Address, lease: bigint, err: Address]>;
  grate_engine_observe: Call<[engine: Address, provider: Address, response: Address, err: Address]>;
  grate_engine_provider_health: Call<[engine: Address, provider: Address, out: Address, err: Address]>;
  grate_engine_provider_in_cooldown: Call<[engine: Address, provider: Address, out: Address, err: Address]>;
  grate_engine_remaining_quota: Call<
    [engine: Address, provider: Address, dimension: number, out: Address, err: Address]
  >;
  grate_engine_provider_state: Call<[engine: Address, provider: Address, out: Address, err: Address]>;
  grate_engine_metrics: Call<[engine: Address, out: Address, err: Address]>;
  grate_engine_prometheus: Call<[engine: Address, buffer: Uint8Array, capacity: number, len: Address, err: Address]>;
  grate_parse_headers: Call<
    [fields: Address, len: number, receivedAtUnixMs: number | bigint, out: Address, err: Address]
  >;
}

const P = "uintptr_t";
const SIGNATURES: Record<keyof Library, [result: string, ...given: string[]]> = {
  grate_version: ["uint32_t"],
  grate_version_string: [P],
  grate_status_name: [P, "int32_t"],
  grate_clock_mock_new: [P, "uint64_t"],
  grate_clock_free: ["void", P],
  grate_clock_advance_ms: ["int32_t", P, "uint64_t"],
  grate_clock_advance_secs: ["int32_t", P, "uint64_t"],
  grate_clock_set_ns: ["int32_t", P, "uint64_t"],
  grate_clock_now_ns: ["uint64_t", P],
  grate_engine_new: ["int32_t", P, P, P],
  grate_engine_free: ["void", P],
  grate_engine_configure_json: ["int32_t", P, "void *", "uint64_t", P],
  grate_engine_remove_provider: ["int32_t", P, P, P],
  grate_engine_remove_capability: ["int32_t", P, P, P],
  grate_engine_select: ["int32_t", P, P, P, P, P],
  grate_engine_acquire: ["int32_t", P, P, P, P, P],
  grate_engine_complete: ["int32_t", P, "uint64_t", P, P],
  grate_engine_cancel: ["int32_t", P, "uint64_t", P],
  grate_engine_observe: ["int32_t", P, P, P, P],
  grate_engine_provider_health: ["int32_t", P, P, P, P],
  grate_engine_provider_in_cooldown: ["int32_t", P, P, P, P],
  grate_engine_remaining_quota: ["int32_t", P, P, "int32_t", P, P],
  grate_engine_provider_state: ["int32_t", P, P, P, P],
  grate_engine_metrics: ["int32_t", P, P, P],
  grate_engine_prometheus: ["int32_t", P, "void *", "uint64_t", P, P],
  grate_parse_headers: ["int32_t", P, "uint64_t", "uint64_t", P, P],
};

function fileNames(): string[] {
  const fromEnvironment = process.env["GRATE_LIBRARY"];
  if (fromEnvironment) return [fromEnvironment];
  if (process.platform === "win32") return ["grate.dll"];
  if (process.platform === "darwin") return ["libgrate.0.dylib", "libgrate.dylib"];
  return ["libgrate.so.0"];
}

interface Loaded {
  library: Library;
  file: string;
  addressOfFunction(name: keyof Library): Address;
}

function load(): Loaded {
  if (endianness() !== "LE" || koffi.sizeof("void *") !== 8) throw new Error("libgrate needs a 64-bit little-endian machine");
  const failures: string[] = [];
  for (const file of fileNames()) {
    let handle;
    try {
      handle = koffi.load(file);
    } catch (error) {
      failures.push(`${file}: ${(error as Error).message}`);
      continue;
    }
    const functions: Record<string, unknown> = {};
    for (const [name, [result, ...given]] of Object.entries(SIGNATURES)) {
      try {
        functions[name] = handle.func(name, result, given);
      } catch (cause) {
        throw new Error(`${file} is not a libgrate that this package can use: it has no ${name}`, { cause });
      }
    }
    const found = handle;
    const addressOfFunction = (name: string): Address => Number(koffi.address(found.symbol(name)));
    return { library: functions as unknown as Library, file, addressOfFunction };
  }
  throw new Error(
    "the libgrate library was not found. Install it (`make install` in the libgrate sources, then `ldconfig`), or set " +
      `the environment variable GRATE_LIBRARY to the path of libgrate.so. Tried: ${failures.join("; ")}`,
  );
}

const { library, file, addressOfFunction } = load();

/** Text of the library: NUL-terminated UTF-8. */
export function readText(address: Address): string {
  return koffi.decode.string(address);
}

/** Where the bytes of a buffer are. They stay there, outside of the JavaScript heap, as long as the buffer lives. */
export function addressOf(bytes: ArrayBuffer | Uint8Array): Address {
  return Number(koffi.address(bytes));
}

/** The version of the library that is loaded, such as `"0.1.0"`. */
export function libraryVersion(): string {
  return readText(library.grate_version_string());
}

const version = library.grate_version();
if (version < HEADER_VERSION || Math.floor(version / 1_000_000) !== Math.floor(HEADER_VERSION / 1_000_000)) {
  throw new Error(`${file} is libgrate ${libraryVersion()}, and this package needs 0.1.0 or a later 0.x`);
}

export { addressOfFunction, library };
