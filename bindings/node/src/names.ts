/** Names as the library takes them: NUL-terminated UTF-8. */

import { ERR_INVALID_NAME, InvalidNameError, invalidArgument } from "./errors";
import { EXCLUDED, EXCLUDED_NAMES, MAX_EXCLUDED, NAME_SIZE, at, putNumber, u8 } from "./memory";
import { type Address, addressOf } from "./native";

interface Encoded {
  name: string;
  address: Address;
  /** Keeps what is at the address alive. */
  bytes: Uint8Array;
}

// There are few names; should a caller invent one per request, the cache starts anew now and then. A call has one name
// of this cache, so that no other call can drop it meanwhile.
const MAX_CACHED = 4096;
let cache = new Map<string, Encoded>();
// Most often it is the name of the call before.
let latest = find("");

/** The address of a name, good for the next call. */
export function encodeName(name: string): Address {
  if (name !== latest.name) latest = find(name);
  return latest.address;
}

function find(name: string): Encoded {
  const known = cache.get(name);
  if (known !== undefined) return known;
  const bytes = encode(name);
  const encoded = { name, address: addressOf(bytes), bytes };
  if (cache.size >= MAX_CACHED) cache = new Map();
  cache.set(name, encoded);
  return encoded;
}

/** Writes the names of providers to exclude to `EXCLUDED`. */
export function putExcluded(names: readonly Uint8Array[]): void {
  for (const [i, bytes] of names.entries()) {
    const offset = EXCLUDED_NAMES + i * NAME_SIZE;
    u8.set(bytes, offset);
    putNumber(EXCLUDED + i * 8, at(offset));
  }
}

/** Names as a list: the letters of a string would be names, too. */
export function listOf(names: Iterable<string>): Iterable<string> {
  return typeof names === "string" ? [names] : names;
}

/** The names for `putExcluded`. */
export function encodeExcluded(names: readonly string[]): Uint8Array[] {
  const encoded = Array.from(listOf(names), encode);
  if (encoded.length > MAX_EXCLUDED) {
    throw invalidArgument(`${encoded.length} providers are excluded, and at most ${MAX_EXCLUDED} may be`);
  }
  return encoded;
}

/** Whether it stays what it is as UTF-8: half a surrogate pair would become another character. */
export function isUnicode(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function encode(name: string): Uint8Array {
  if (typeof name !== "string") throw new TypeError(`a name must be a string, not ${typeof name}`);
  const bytes = Buffer.from(`${name}\0`);
  const fault =
    bytes.length > NAME_SIZE
      ? "is longer than 128 bytes"
      : bytes.indexOf(0) < bytes.length - 1
        ? "contains a NUL character"
        : !isUnicode(name)
          ? "is not valid Unicode"
          : undefined;
  if (fault !== undefined) {
    throw new InvalidNameError(`the name ${JSON.stringify(name.slice(0, 200))} ${fault}`, ERR_INVALID_NAME);
  }
  return bytes;
}
