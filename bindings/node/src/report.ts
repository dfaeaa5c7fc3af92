/** What became of a request, as the library takes it. */

import { invalidArgument } from "./errors";
import { encodeHeaders } from "./headers";
import { Response } from "./layout";
import * as memory from "./memory";
import { OUTCOMES, type Report } from "./types";

// Constants of this module are faster than those of another.
const { RESPONSE, i32, putAmount, putMilliseconds, putNumber } = memory;
const SUCCESS = OUTCOMES.indexOf("success");
const OUTCOME = (RESPONSE + Response.at.outcome) >> 2;
const HTTP_STATUS = (RESPONSE + Response.at.http_status) >> 2;
const LATENCY = RESPONSE + Response.at.latency_ns;
const RETRY_AFTER = RESPONSE + Response.at.retry_after_ns;
const REQUESTS = RESPONSE + Response.at.requests;
const TOKENS = RESPONSE + Response.at.tokens;
const INPUT_TOKENS = RESPONSE + Response.at.input_tokens;
const OUTPUT_TOKENS = RESPONSE + Response.at.output_tokens;
const BYTES = RESPONSE + Response.at.bytes;
const COST = RESPONSE + Response.at.cost_micro_usd;
const HEADERS = RESPONSE + Response.at.headers;
const HEADERS_LEN = RESPONSE + Response.at.headers_len;

/** Writes the report to `RESPONSE`. */
export function putReport(report: Report): void {
  const { outcome, httpStatus, latencyMs, retryAfterMs, requests, headers } = report;
  const { tokens, inputTokens, outputTokens, bytes, costMicroUsd } = report;
  const { address, count } = encodeHeaders(headers);
  i32[OUTCOME] = outcome !== undefined ? outcomeCode(outcome) : httpStatus === undefined ? SUCCESS : 0;
  i32[HTTP_STATUS] = httpStatus === undefined ? 0 : checkedStatus(httpStatus);
  putMilliseconds(LATENCY, latencyMs, "latencyMs");
  putMilliseconds(RETRY_AFTER, retryAfterMs, "retryAfterMs");
  putAmount(REQUESTS, requests, "requests");
  putAmount(TOKENS, tokens, "tokens");
  putAmount(INPUT_TOKENS, inputTokens, "inputTokens");
  putAmount(OUTPUT_TOKENS, outputTokens, "outputTokens");
  putAmount(BYTES, bytes, "bytes");
  putAmount(COST, costMicroUsd, "costMicroUsd");
  putNumber(HEADERS, address);
  putNumber(HEADERS_LEN, count);
}

function outcomeCode(outcome: string): number {
  const code = (OUTCOMES as readonly (string | null)[]).indexOf(outcome, SUCCESS);
  if (code < 0) throw invalidArgument(`unknown outcome '${outcome}', expected one of ${OUTCOMES.slice(SUCCESS).join(", ")}`);
  return code;
}

function checkedStatus(httpStatus: number): number {
  // Anything else would be cut silently to 32 bits.
  if ((httpStatus | 0) !== httpStatus) throw invalidArgument(`httpStatus is ${String(httpStatus)}, and must be an integer`);
  return httpStatus;
}
