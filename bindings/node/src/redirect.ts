/** What is sent again, and where a redirect leads, by the rules of `fetch`. */

/** Whether a body can be sent more than once: a stream cannot. */
export function isReplayable(body: RequestInit["body"]): boolean {
  return (
    body === undefined ||
    body === null ||
    typeof body === "string" ||
    body instanceof URLSearchParams ||
    body instanceof FormData ||
    body instanceof Blob ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body)
  );
}

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/** As many as `fetch` follows. */
const MAX_REDIRECTS = 20;

/** They describe a body, and go with it. */
const OF_A_BODY = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];

/** They are for one origin only. */
const OF_AN_ORIGIN = ["authorization", "proxy-authorization", "cookie", "host"];

/** A request on its way. */
export interface Hop {
  readonly url: string;
  readonly init: RequestInit;
  /** How many redirects have led to it. */
  readonly redirects: number;
  /** Whether one of them has turned it into a GET: what was asked for was done then, and this asks for the result. */
  readonly turned: boolean;
}

/** What comes after this answer; undefined if it is no redirect. Throws what `fetch` does if it cannot be followed. */
export function nextHop({ url, init, redirects, turned }: Hop, response: Response): Hop | undefined {
  const { status } = response;
  const location = REDIRECTS.includes(status) ? response.headers.get("location") : null;
  if (location === null) return undefined;
  if (redirects === MAX_REDIRECTS) throw failed("redirect count exceeded");
  if (status !== 303 && !isReplayable(init.body)) throw failed("the body cannot be sent again after a redirect");
  const to = URL.canParse(location, url) ? new URL(location, url) : undefined;
  if (to?.protocol !== "http:" && to?.protocol !== "https:") throw failed(`a redirect to '${location}'`);
  const headers = new Headers(init.headers);
  const next: RequestInit = { ...init, headers };
  const method = init.method?.toUpperCase() ?? "GET";
  const turns = status === 303 ? method !== "GET" && method !== "HEAD" : status < 303 && method === "POST";
  if (turns) {
    next.method = "GET";
    delete next.body;
    for (const name of OF_A_BODY) headers.delete(name);
  }
  if (to.origin !== new URL(url).origin) for (const name of OF_AN_ORIGIN) headers.delete(name);
  return { url: to.href, init: next, redirects: redirects + 1, turned: turned || turns };
}

function failed(reason: string): TypeError {
  return new TypeError("fetch failed", { cause: new Error(reason) });
}
