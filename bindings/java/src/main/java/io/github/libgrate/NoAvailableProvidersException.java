package io.github.libgrate;

import java.time.Duration;
import java.util.Optional;

/** No provider can take the request now. {@link #decision()} has all that is known, the other methods what matters most. */
public final class NoAvailableProvidersException extends GrateException {
    private static final long serialVersionUID = 1;

    /** The decision that says so. */
    private final Decision decision;

    NoAvailableProvidersException(String message, Decision decision) {
        super(LibGrate.ERR_NO_PROVIDER_AVAILABLE, message);
        this.decision = decision;
    }

    /**
     * The provider that frees first.
     *
     * @return its name; empty if the capability has no providers
     */
    public Optional<String> provider() {
        return Optional.ofNullable(decision.provider());
    }

    /**
     * How long until then.
     *
     * @return the wait; empty if waiting does not help, as for a request that is larger than the limit
     */
    public Optional<Duration> retryAfter() {
        return decision.retryAfter();
    }

    /**
     * What holds that provider.
     *
     * @return the reason; {@link HeldBy#NOTHING} only if the capability has no providers
     */
    public HeldBy reason() {
        return decision.heldBy();
    }

    /**
     * The whole decision: what holds the provider in detail, and all candidates if the request asked to explain.
     *
     * @return the decision
     */
    public Decision decision() {
        return decision;
    }
}
