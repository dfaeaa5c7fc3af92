package io.github.libgrate;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.OptionalLong;

/**
 * Providers, capabilities, quotas, health and leases.
 *
 * <p>Any method may be called on any thread at any time, {@link #close} too. No call waits for anything. After {@link #close}
 * all of them throw {@link IllegalStateException}. What is documented for one method holds for all: names are 1 to 128 bytes of
 * UTF-8 without control characters, else {@link InvalidNameException}; nothing has changed when a {@link GrateException} is
 * thrown, but for the count of times that nothing was available; {@link InternalErrorException} is a bug.
 *
 * <p>An engine that is not closed goes with the garbage.
 */
public final class Engine implements AutoCloseable {
    private static final int SOME_QUOTAS = 32;
    private static final int PROMETHEUS_SIZE = 8192;

    private final Names names = new Names();
    private final Handle handle;

    /**
     * An engine with the default settings and the system's clock.
     *
     * @throws GrateException only for a bug
     */
    public Engine() throws GrateException {
        this(EngineConfig.DEFAULT);
    }

    /**
     * An engine.
     *
     * @param config its settings
     * @throws InvalidConfigException if a setting is out of its range
     * @throws StateFileException if the state file cannot be used
     * @throws CapacityExceededException if it is too small, or used by too many
     * @throws GrateException for an empty path or a bug
     */
    public Engine(EngineConfig config) throws GrateException {
        handle = new Handle(this, "engine", create(config), LibGrate::grate_engine_free);
    }

    private static long create(EngineConfig config) throws GrateException {
        Scratch scratch = Scratch.take();
        try {
            long code = config.clock == null ? create(config, scratch, 0) : config.clock.call(at -> create(config, scratch, at));
            scratch.check((int) code);
            return scratch.memory.getLong(Scratch.OUT);
        } finally {
            scratch.give();
        }
    }

    private static int create(EngineConfig config, Scratch scratch, long clock) {
        return LibGrate.grate_engine_new(config.write(scratch, clock), scratch.out(), scratch.error());
    }

    /** Frees the engine, after calls that other threads have under way. Leases need not be settled before. */
    @Override
    public void close() {
        handle.close();
    }

    /**
     * Whether it was closed.
     *
     * @return whether {@link #close} was called
     */
    public boolean isClosed() {
        return handle.isClosed();
    }

    /**
     * Applies a JSON document, whole or not at all. It registers or changes what it names and leaves the rest, or, with
     * {@code "replace": true}, removes what it does not name. Usage, health and leases are kept.
     *
     * @param json the document; the README of libgrate has the format
     * @throws InvalidJsonException if it is malformed; the message gives line and column
     * @throws InvalidConfigException if it contradicts itself or the configuration in force
     * @throws UnknownProviderException if a capability lists a provider that is not registered
     * @throws CapacityExceededException if there are too many providers or quotas
     * @throws GrateException for an invalid name or a bug
     */
    public void configureJson(String json) throws GrateException {
        ByteBuffer document;
        try {
            document = Text.utf8(json);
        } catch (CharacterCodingException error) {
            throw new InvalidJsonException("the document is not valid Unicode");
        }
        int length = document.remaining();
        Scratch scratch = enter();
        try {
            Memory arena = scratch.arena(length);
            arena.bytes.duplicate().put(document);
            scratch.check(LibGrate.grate_engine_configure_json(handle.address, arena.address, length, scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Registers a provider, or changes one: usage, health and leases are kept, and a changed limit applies to what is already
     * counted.
     *
     * @param config the provider
     * @throws InvalidConfigException if a value is out of its range, or it contradicts the configuration in force
     * @throws CapacityExceededException if there are too many providers or quotas
     * @throws GrateException for an invalid name or a bug
     */
    public void upsertProvider(ProviderConfig config) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(
                    LibGrate.grate_engine_upsert_provider(handle.address, config.write(scratch), scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Registers a capability, or replaces its list of providers.
     *
     * @param config the capability
     * @throws UnknownProviderException if it lists a provider that is not registered
     * @throws InvalidConfigException if a priority is out of its range, or a provider is listed twice
     * @throws GrateException for an invalid name or a bug
     */
    public void upsertCapability(CapabilityConfig config) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(
                    LibGrate.grate_engine_upsert_capability(handle.address, config.write(scratch), scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Removes a provider, also from every capability. Its leases can still be settled, and its usage and health are remembered
     * for a provider of that name that is registered later.
     *
     * @param name the provider
     * @throws UnknownProviderException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public void removeProvider(String name) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(LibGrate.grate_engine_remove_provider(handle.address, scratch.name(name), scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Removes a capability; its providers and leases stay.
     *
     * @param name the capability
     * @throws UnknownCapabilityException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public void removeCapability(String name) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(LibGrate.grate_engine_remove_capability(handle.address, scratch.name(name), scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Chooses a provider for a request of unknown size and changes nothing. See {@link #select(String, Request)}.
     *
     * @param capability what is asked for
     * @return the decision
     * @throws NoAvailableProvidersException if nothing is available now
     * @throws UnknownCapabilityException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public Decision select(String capability) throws GrateException {
        return select(capability, Request.UNKNOWN);
    }

    /**
     * Chooses a provider and changes nothing: a look, not a promise. Concurrent callers may get the same answer; {@link
     * #acquire} reserves.
     *
     * @param capability what is asked for
     * @param request what the request will use and demands
     * @return the decision
     * @throws NoAvailableProvidersException if nothing is available now; it says which provider frees first, when, and what
     *     holds it
     * @throws UnknownCapabilityException if it is not registered
     * @throws InvalidArgumentException if the headroom is out of its range, or more than 64 providers are excluded
     * @throws GrateException for an invalid name or a bug
     */
    public Decision select(String capability, Request request) throws GrateException {
        Scratch scratch = enter();
        try {
            Memory rows = prepare(scratch, request);
            return decision(scratch, rows, LibGrate.grate_engine_select(
                    handle.address,
                    scratch.name(capability),
                    scratch.address + Scratch.REQUEST,
                    scratch.address + Scratch.DECISION,
                    scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Reserves a request of unknown size. See {@link #acquire(String, Request)}.
     *
     * @param capability what is asked for
     * @return the lease, to be settled
     * @throws NoAvailableProvidersException if nothing is available now
     * @throws UnknownCapabilityException if it is not registered
     * @throws CapacityExceededException if there are too many leases in flight
     * @throws GrateException for an invalid name or a bug
     */
    public Lease acquire(String capability) throws GrateException {
        return acquire(capability, Request.UNKNOWN);
    }

    /**
     * Chooses a provider and reserves one request, the estimated usage and a concurrency slot on every quota concerned, all or
     * nothing. The lease must be settled; see {@link Lease}.
     *
     * @param capability what is asked for
     * @param request what the request will use and demands
     * @return the lease, to be settled
     * @throws NoAvailableProvidersException if nothing is available now; it says which provider frees first, when, and what
     *     holds it
     * @throws UnknownCapabilityException if it is not registered
     * @throws InvalidArgumentException if the headroom is out of its range, or more than 64 providers are excluded
     * @throws CapacityExceededException if there are too many leases in flight
     * @throws GrateException for an invalid name or a bug
     */
    public Lease acquire(String capability, Request request) throws GrateException {
        Scratch scratch = enter();
        try {
            Memory rows = prepare(scratch, request);
            Decision decision = decision(scratch, rows, LibGrate.grate_engine_acquire(
                    handle.address,
                    scratch.name(capability),
                    scratch.address + Scratch.REQUEST,
                    scratch.address + Scratch.DECISION,
                    scratch.error()));
            return new Lease(this, scratch.memory.getLong(Scratch.DECISION + Structs.Decision.LEASE), decision);
        } finally {
            leave(scratch);
        }
    }

    /** Writes request and decision. Returns the memory for the candidates, which starts with them, or null for none. */
    private static Memory prepare(Scratch scratch, Request request) throws InvalidNameException {
        int rows = request.explain ? Decision.MAX_CANDIDATES * Structs.Candidate.SIZE : 0;
        int size = rows + request.arenaSize();
        Memory arena = size == 0 ? null : scratch.arena(size);
        Memory candidates = null;
        if (request.explain) {
            candidates = arena;
            arena.putInt(scratch.claim(rows), Structs.Candidate.SIZE);
        }
        scratch.memory.putLong(
                Scratch.DECISION + Structs.Decision.CANDIDATES, candidates == null ? 0 : candidates.address);
        scratch.memory.putLong(
                Scratch.DECISION + Structs.Decision.CANDIDATES_CAPACITY, candidates == null ? 0 : Decision.MAX_CANDIDATES);
        request.write(scratch, arena);
        return candidates;
    }

    private Decision decision(Scratch scratch, Memory rows, int code) throws GrateException {
        if (code == LibGrate.OK) {
            return new Decision(scratch.memory, names, rows);
        }
        if (code == LibGrate.ERR_NO_PROVIDER_AVAILABLE) {
            throw new NoAvailableProvidersException(new Decision(scratch.memory, names, rows));
        }
        throw GrateException.of(code, scratch.message());
    }

    /**
     * Settles a lease by its number, as {@link Lease#complete} does.
     *
     * @param lease {@link Lease#number} of a lease of this engine
     * @param response what became of the request
     * @throws StaleLeaseException if it was settled before, has expired or never existed; nothing changes then
     * @throws InvalidArgumentException if the response has neither outcome nor HTTP status, or one below 100
     * @throws GrateException only for a bug
     */
    public void complete(long lease, Response response) throws GrateException {
        Scratch scratch = enter();
        try {
            response.write(scratch);
            scratch.check(LibGrate.grate_engine_complete(
                    handle.address, lease, scratch.address + Scratch.RESPONSE, scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Gives a lease back by its number, as {@link Lease#cancel} does.
     *
     * @param lease {@link Lease#number} of a lease of this engine
     * @throws StaleLeaseException if it was settled before, has expired or never existed
     * @throws GrateException only for a bug
     */
    public void cancel(long lease) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(LibGrate.grate_engine_cancel(handle.address, lease, scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * Reports usage and outcome of a request that was sent without a lease. Concurrency, which only leases hold, is untouched.
     * The usage counts even beyond a limit.
     *
     * @param provider where it was sent
     * @param response what became of it
     * @throws UnknownProviderException if it is not registered
     * @throws InvalidArgumentException if the response has neither outcome nor HTTP status, or one below 100
     * @throws GrateException for an invalid name or a bug
     */
    public void observe(String provider, Response response) throws GrateException {
        Scratch scratch = enter();
        try {
            response.write(scratch);
            scratch.check(LibGrate.grate_engine_observe(
                    handle.address, scratch.name(provider), scratch.address + Scratch.RESPONSE, scratch.error()));
        } finally {
            leave(scratch);
        }
    }

    /**
     * A provider's health now.
     *
     * @param provider its name
     * @return the health, from 0 to 1
     * @throws UnknownProviderException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public double providerHealth(String provider) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(LibGrate.grate_engine_provider_health(
                    handle.address, scratch.name(provider), scratch.out(), scratch.error()));
            return scratch.memory.getDouble(Scratch.OUT);
        } finally {
            leave(scratch);
        }
    }

    /**
     * Whether a provider is cooling down now.
     *
     * @param provider its name
     * @return whether it is
     * @throws UnknownProviderException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public boolean providerInCooldown(String provider) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(LibGrate.grate_engine_provider_in_cooldown(
                    handle.address, scratch.name(provider), scratch.out(), scratch.error()));
            return scratch.memory.getInt(Scratch.OUT) != 0;
        } finally {
            leave(scratch);
        }
    }

    /**
     * How many units may be reserved now: the least over the provider's quotas of a dimension.
     *
     * @param provider its name
     * @param dimension what is counted
     * @return the units; empty if it has no quota of that dimension
     * @throws UnknownProviderException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public OptionalLong remainingQuota(String provider, Dimension dimension) throws GrateException {
        Scratch scratch = enter();
        try {
            scratch.check(LibGrate.grate_engine_remaining_quota(
                    handle.address, scratch.name(provider), dimension.code(), scratch.out(), scratch.error()));
            return Units.known(scratch.memory.getLong(Scratch.OUT));
        } finally {
            leave(scratch);
        }
    }

    /**
     * All that is known of a provider and of its quotas.
     *
     * @param provider its name
     * @return the state
     * @throws UnknownProviderException if it is not registered
     * @throws GrateException for an invalid name or a bug
     */
    public ProviderState providerState(String provider) throws GrateException {
        Scratch scratch = enter();
        try {
            int capacity = SOME_QUOTAS;
            while (true) {
                Memory arena = scratch.arena(Structs.ProviderState.SIZE + capacity * Structs.QuotaState.SIZE);
                int at = scratch.struct(Structs.ProviderState.SIZE);
                int rows = scratch.array(capacity, Structs.QuotaState.SIZE);
                arena.putLong(at + Structs.ProviderState.QUOTAS, arena.address + rows);
                arena.putLong(at + Structs.ProviderState.QUOTAS_CAPACITY, capacity);
                scratch.check(LibGrate.grate_engine_provider_state(
                        handle.address, scratch.name(provider), arena.address + at, scratch.error()));
                int total = (int) arena.getLong(at + Structs.ProviderState.QUOTAS_TOTAL);
                if (total <= capacity) {
                    List<QuotaState> quotas = new ArrayList<>(total);
                    for (int i = 0; i < total; i++) {
                        quotas.add(new QuotaState(arena, rows + i * Structs.QuotaState.SIZE, names));
                    }
                    return new ProviderState(arena, at, Collections.unmodifiableList(quotas));
                }
                capacity = total;
            }
        } finally {
            leave(scratch);
        }
    }

    /**
     * The engine's counters. Those that change meanwhile may be from slightly different moments.
     *
     * @return the counters
     * @throws GrateException only for a bug
     */
    public Metrics metrics() throws GrateException {
        Scratch scratch = enter();
        try {
            Memory arena = scratch.arena(Structs.Metrics.SIZE);
            int at = scratch.struct(Structs.Metrics.SIZE);
            scratch.check(LibGrate.grate_engine_metrics(handle.address, arena.address + at, scratch.error()));
            return new Metrics(arena, at);
        } finally {
            leave(scratch);
        }
    }

    /**
     * All metrics in the Prometheus text format, engine-wide and per provider.
     *
     * @return the text
     * @throws GrateException only for a bug
     */
    public String prometheus() throws GrateException {
        Scratch scratch = enter();
        try {
            int capacity = PROMETHEUS_SIZE;
            while (true) {
                Memory arena = scratch.arena(capacity);
                int code = LibGrate.grate_engine_prometheus(
                        handle.address, arena.address, arena.size(), scratch.out(), scratch.error());
                int length = (int) scratch.memory.getLong(Scratch.OUT);
                if (code != LibGrate.ERR_BUFFER_TOO_SMALL) {
                    scratch.check(code);
                    byte[] text = new byte[length];
                    arena.bytes.duplicate().get(text);
                    return new String(text, StandardCharsets.UTF_8);
                }
                capacity = length + PROMETHEUS_SIZE; // it may grow meanwhile
            }
        } finally {
            leave(scratch);
        }
    }

    private Scratch enter() {
        return handle.enter();
    }

    private void leave(Scratch scratch) {
        handle.leave(scratch);
    }
}
