/** What became of a request, as the library takes it. */

import { invalidArgument } from "./errors";
import { encodeHeaders } from "./headers";
import { Response } from "./layout";
import * as memory from "./memory";
import { OUTCOMES, type Report } from "./types";

// Constants of this module are faster than those of another.
const { RESPONSE, i32, putAmount, putMilliseconds, putNumber, putUsage, putZero } = memory;
const SUCCESS = OUTCOMES.indexOf("success");
const OUTCOME = (RESPONSE + Response.at.outcome) >> 2;
const HTTP_STATUS = (RESPONSE + Response.at.http_status) >> 2;
const LATENCY = RESPONSE + Response.at.latency_ns;
const RETRY_AFTER = RESPONSE + Response.at.retry_after_ns;
const REQUESTS = RESPONSE + Response.at.requests;
const USAGE = RESPONSE + Response.at.tokens;
const HEADERS = RESPONSE + Response.at.headers;
const HEADERS_LEN = RESPONSE + Response.at.headers_len;

/** Writes the report to `RESPONSE`. */
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
  i32[OUTCOME] = outcome !== undefined ? outcomeCode(outcome) : httpStatus === undefined ? SUCCESS : 0;
  i32[HTTP_STATUS] = httpStatus === undefined ? 0 : checkedStatus(httpStatus);
  putMilliseconds(LATENCY, latencyMs, "latencyMs");
  putMilliseconds(RETRY_AFTER, retryAfterMs, "retryAfterMs");
  putAmount(REQUESTS, requests, "requests");
  putUsage(USAGE, tokens, inputTokens, outputTokens, bytes, costMicroUsd);
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
