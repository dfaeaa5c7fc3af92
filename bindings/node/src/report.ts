/** What became of a request, as the library takes it. */

import { invalidArgument } from "./errors";
import { encodeHeaders } from "./headers";
import { Response } from "./layout";
import * as memory from "./memory";
import { OUTCOMES, type Report } from "./types";

// Constants of this module are faster than those of another.
const { RESPONSE, f64, i32, putAmount, putGiven, putMilliseconds, putNumber, putZero } = memory;
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

/** Writes the report to `RESPONSE`. Long on purpose, as `Engine.#route` is. */
export function putReport(report: Report): void {
  const { outcome, httpStatus, latencyMs, retryAfterMs, requests, headers } = report;
  const { tokens, inputTokens, outputTokens, bytes, costMicroUsd } = report;
  if (headers === undefined) {
    putZero(HEADERS);
    putZero(HEADERS_LEN);
  } else {
    const { address, count } = encodeHeaders(headers);
    putNumber(HEADERS, address);
    putNumber(HEADERS_LEN, count);
  }
  i32[OUTCOME] = outcome !== undefined ? outcomeCode(outcome) : httpStatus === undefined ? successOf(report) : 0;
  i32[HTTP_STATUS] = httpStatus === undefined ? 0 : checkedStatus(httpStatus);
  putMilliseconds(LATENCY, latencyMs, "latencyMs");
  putMilliseconds(RETRY_AFTER, retryAfterMs, "retryAfterMs");
  putAmount(REQUESTS, requests, "requests");
  const doubles = f64;
  doubles[TOKENS >> 3] = 0;
  doubles[INPUT_TOKENS >> 3] = 0;
  doubles[OUTPUT_TOKENS >> 3] = 0;
  doubles[BYTES >> 3] = 0;
  doubles[COST >> 3] = 0;
  if (tokens !== undefined) putGiven(TOKENS, tokens, "tokens");
  if (inputTokens !== undefined) putGiven(INPUT_TOKENS, inputTokens, "inputTokens");
  if (outputTokens !== undefined) putGiven(OUTPUT_TOKENS, outputTokens, "outputTokens");
  if (bytes !== undefined) putGiven(BYTES, bytes, "bytes");
  if (costMicroUsd !== undefined) putGiven(COST, costMicroUsd, "costMicroUsd");
}

/** What says nothing is a success, unless it is the outcome itself, or something else that is no report. */
function successOf(report: Report): number {
  if (typeof report !== "object") {
    throw invalidArgument(`a report is an object such as { outcome: "timeout" }, and not '${String(report)}'`);
  }
  return SUCCESS;
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
