package io.github.libgrate;

/**
 * A decision with what it reserved: one request, the estimated usage and a concurrency slot. Settle it with {@link #complete}
 * once the request was sent, whatever became of it, or with {@link #cancel} if it was not.
 *
 * <p>{@link #close} cancels what is still unsettled, so a lease in a try-with-resources block is never forgotten. A lease that
 * is neither settled nor closed expires (after 10 minutes by default): its slot is freed, its usage stays counted.
 *
 * <p>May be settled on any thread; the second time is a {@link StaleLeaseException}.
 */
public final class Lease implements AutoCloseable {
    private final Engine engine;
    private final long number;
    private final Decision decision;
    /** Not volatile: at worst, close calls the library once more and learns it there. */
    private boolean settled;

    Lease(Engine engine, long number, Decision decision) {
        this.engine = engine;
        this.number = number;
        this.decision = decision;
    }

    /**
     * The provider to send the request to.
     *
     * @return its name
     */
    public String provider() {
        return decision.provider();
    }

    /**
     * Why that one.
     *
     * @return the decision
     */
    public Decision decision() {
        return decision;
    }

    /**
     * What {@link Engine#complete} and {@link Engine#cancel} settle.
     *
     * @return the number, not 0; unsigned
     */
    public long number() {
        return number;
    }

    /**
     * Settles the lease of a request that was sent: frees its slot, corrects the estimate to the actual usage, and learns from
     * the outcome.
     *
     * @param response what became of the request
     * @throws StaleLeaseException if it was settled before or has expired; nothing changes then
     * @throws InvalidArgumentException if the response has neither outcome nor HTTP status, or one below 100; the lease stays
     *     unsettled
     * @throws GrateException if the library finds a bug in itself
     * @throws IllegalStateException if the engine is closed
     */
    public void complete(Response response) throws GrateException {
        engine.complete(number, response);
        settled = true;
    }

    /**
     * Gives the lease of a request back that was not sent, with all it reserved.
     *
     * @throws StaleLeaseException if it was settled before or has expired
     * @throws GrateException if the library finds a bug in itself
     * @throws IllegalStateException if the engine is closed
     */
    public void cancel() throws GrateException {
        engine.cancel(number);
        settled = true;
    }

    /**
     * Cancels the lease unless it is settled, has expired, or is gone with its engine. A request that was sent must be settled
     * with {@link #complete} before: giving it back would uncount it.
     *
     * @throws GrateException if the library finds a bug in itself
     */
    @Override
    public void close() throws GrateException {
        if (!settled) {
            try {
                cancel();
            } catch (StaleLeaseException | ClosedException gone) {
                settled = true; // nothing is left to give back
            }
        }
    }

    @Override
    public String toString() {
        return "Lease[" + Long.toHexString(number) + ", " + decision + "]";
    }
}
