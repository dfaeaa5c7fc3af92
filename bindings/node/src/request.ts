/** What a request demands, as the library takes it. */

import { invalidArgument } from "./errors";
import { Candidate, Decision, Request } from "./layout";
import * as memory from "./memory";
import { encodeExcluded, putExcluded } from "./names";
import { type Address, NULL, addressOf } from "./native";

// Constants of this module are faster than those of another.
const { DECISION, REQUEST, f64, putNumber } = memory;
const HEADROOM = (REQUEST + Request.at.headroom) >> 3;
const EXCLUDE = REQUEST + Request.at.exclude;
const EXCLUDE_LEN = REQUEST + Request.at.exclude_len;
const CANDIDATES = DECISION + Decision.at.candidates;
const CANDIDATES_CAPACITY = DECISION + Decision.at.candidates_capacity;

const MAX_CANDIDATES = 1024;

/** Room for the candidates of a decision that explains itself. */
export interface Room {
  readonly rows: DataView;
  readonly address: Address;
}

let made: Room | undefined;
function room(): Room {
  if (made === undefined) {
    const bytes = new ArrayBuffer(MAX_CANDIDATES * Candidate.size);
    made = { rows: new DataView(bytes), address: addressOf(bytes) };
    made.rows.setUint32(Candidate.at.struct_size, Candidate.size, true);
  }
  return made;
}

/** Whether the request before had demands, which are still there. */
export let demanding = false;

/** Writes the demands to `REQUEST`. Returns where the candidates will be, if the decision is to explain itself. */
export function putDemands(headroom = 0, exclude: readonly string[] = [], explain = false): Room | undefined {
  if (typeof headroom !== "number") throw invalidArgument("headroom must be a number");
  const excluded = encodeExcluded(exclude);
  putExcluded(excluded);
  f64[HEADROOM] = headroom;
  putNumber(EXCLUDE, memory.at(memory.EXCLUDED));
  putNumber(EXCLUDE_LEN, excluded.length);
  const candidates = explain ? room() : undefined;
  putNumber(CANDIDATES, candidates === undefined ? NULL : candidates.address);
  putNumber(CANDIDATES_CAPACITY, candidates === undefined ? 0 : MAX_CANDIDATES);
  demanding = headroom !== 0 || excluded.length > 0 || explain;
  return candidates;
}
