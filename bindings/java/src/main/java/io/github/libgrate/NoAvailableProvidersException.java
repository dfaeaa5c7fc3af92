package io.github.libgrate;

import java.math.BigDecimal;
import java.time.Duration;
import java.util.Locale;
import java.util.Optional;

/** No provider can take the request now. {@link #decision()} has all that is known, the other methods what matters most. */
public final class NoAvailableProvidersException extends GrateException {
    private static final long serialVersionUID = 1;

    /** The decision that says so. */
    private final Decision decision;

    NoAvailableProvidersException(Decision decision) {
        super(LibGrate.ERR_NO_PROVIDER_AVAILABLE, null);
        this.decision = decision;
    }

    /** Made when it is asked for: under load this is thrown often, caught, and never printed. */
    @Override
    public String getMessage() {
        String provider = decision.provider();
        if (provider == null) {
            return "no provider available: the capability has none";
        }
        String why = decision.heldBy().name().toLowerCase(Locale.ROOT);
        if (decision.heldWindow().isPresent() && decision.heldDimension().isPresent()) {
            String dimension = decision.heldDimension().get().name().toLowerCase(Locale.ROOT);
            String seconds = BigDecimal.valueOf(decision.heldWindow().get().toNanos(), 9).stripTrailingZeros().toPlainString();
            why = "quota of " + dimension + " per " + seconds + " s";
        }
        String start = "no provider available: '" + provider;
        return retryAfter().isPresent()
                ? start + "' frees first, in " + retryAfter().get().toMillis() + " ms (" + why + ")"
                : start + "' is held by its " + why + ", and waiting does not help";
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
