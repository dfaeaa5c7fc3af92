package io.github.libgrate;

/** What became of a request. */
public enum Outcome {
    /** Served. */
    SUCCESS,
    /** Refused because of a rate limit (HTTP 429). */
    RATE_LIMITED,
    /** Refused because a budget or long quota is spent; retryAfter says for how long, if known. */
    QUOTA_EXHAUSTED,
    /** Refused as not allowed (HTTP 401, 402, 403). */
    FORBIDDEN,
    /** The provider failed (HTTP 5xx), or could not be reached: if nothing was sent, say so with 0 of every amount. */
    SERVER_ERROR,
    /** The provider is overloaded, whoever asks (HTTP 503, 529). */
    OVERLOADED,
    /** No answer in time (HTTP 408, or the caller's own timeout). */
    TIMEOUT,
    /** Refused as wrong (other HTTP 4xx): the caller's fault, so the provider counts as working. */
    CLIENT_ERROR,
    /** Sent, then given up by the caller: says nothing of the provider, but its usage counts. */
    CANCELLED;

    /** The constant of {@code grate.h}. */
    int code() {
        return ordinal() + 1;
    }
}
