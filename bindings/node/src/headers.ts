/** Header fields as the library takes them. */

import { invalidArgument } from "./errors";
import { Header, HeaderReport as ReportLayout, HeaderQuota as QuotaLayout } from "./layout";
import {
  ERROR_ADDRESS,
  HEADER_QUOTAS,
  HEADER_REPORT,
  at,
  check,
  getNumber,
  getNumberOrNull,
  i32,
  u64Argument,
} from "./memory";
import { type Address, NULL, addressOf, library } from "./native";
import { DIMENSIONS, type Amount, type Dimension, type HeaderFields, type HeaderQuota, type HeaderReport } from "./types";

const TWO_32 = 2 ** 32;

/** An array of `grate_header` and the texts behind it; one per thread, grown to the most that was ever needed. */
let block = Buffer.alloc(0);
let rows = new Uint32Array(0);
let base: Address = NULL;

function reserve(bytes: number): void {
  if (bytes <= block.length) return;
  const memory = new ArrayBuffer(Math.max(2 * block.length, 8192, Math.ceil(bytes / 8) * 8));
  block = Buffer.from(memory);
  rows = new Uint32Array(memory);
  base = addressOf(memory);
}

function flatten(fields: HeaderFields): string[] {
  const texts: string[] = [];
  if (typeof (fields as Iterable<unknown>)[Symbol.iterator] === "function") {
    for (const field of fields as Iterable<readonly [string, string]>) {
      if (typeof field === "string" || field.length !== 2) {
        throw invalidArgument("headers must be an object, or pairs of name and value (not rawHeaders)");
      }
      texts.push(String(field[0]), String(field[1]));
    }
  } else {
    for (const [name, value] of Object.entries(fields)) {
      if (Array.isArray(value)) for (const each of value) texts.push(name, String(each));
      else if (value !== undefined) texts.push(name, String(value));
    }
  }
  return texts;
}

/** Where `encodeHeaders` has put its fields, good for the next call. */
export interface EncodedHeaders {
  readonly address: Address;
  readonly count: number;
}

const NO_HEADERS: EncodedHeaders = { address: NULL, count: 0 };

/** A response has dozens of fields: their bytes are made in one go, and all lengths and places follow from the text. */
export function encodeHeaders(fields: HeaderFields): EncodedHeaders {
  const texts = flatten(fields);
  if (texts.length === 0) return NO_HEADERS;
  // A character is a byte, as HTTP has it. What cannot have come over the wire must not keep a lease from being settled.
  const text = texts.join("").replace(/[^\0-\xff]/g, "?");
  const count = texts.length / 2;
  const start = count * Header.size;
  reserve(start + text.length);
  block.write(text, start, "latin1");
  let address = base + start;
  let word = 0;
  for (const { length } of texts) {
    rows[word] = address;
    rows[word + 1] = address / TWO_32;
    rows[word + 2] = length;
    rows[word + 3] = 0;
    address += length;
    word += 4;
  }
  return { address: base, count };
}

/**
 * Reads rate-limit headers without an engine, as `complete` and `observe` do. `receivedAtUnixMs` is the time of receipt,
 * to which instants in the headers are made relative.
 */
export function parseHeaders(headers: HeaderFields, receivedAtUnixMs: Amount = Date.now()): HeaderReport {
  const { address, count } = encodeHeaders(headers);
  const now = u64Argument(receivedAtUnixMs, "receivedAtUnixMs");
  check(library.grate_parse_headers(address, count, now, at(HEADER_REPORT), ERROR_ADDRESS));
  const quotas: HeaderQuota[] = [];
  const total = getNumber(HEADER_REPORT + ReportLayout.at.quotas_len);
  for (let row = HEADER_QUOTAS; quotas.length < total; row += QuotaLayout.size) {
    quotas.push({
      dimension: DIMENSIONS[i32[(row + QuotaLayout.at.dimension) >> 2]!] as Dimension,
      limit: getNumberOrNull(row + QuotaLayout.at.limit),
      remaining: getNumberOrNull(row + QuotaLayout.at.remaining),
      resetInMs: getNumberOrNull(row + QuotaLayout.at.reset_in_ms),
      windowMs: getNumberOrNull(row + QuotaLayout.at.window_ms),
    });
  }
  return {
    cached: i32[(HEADER_REPORT + ReportLayout.at.cached) >> 2] === 1,
    retryAfterMs: getNumberOrNull(HEADER_REPORT + ReportLayout.at.retry_after_ms),
    quotas,
  };
}
