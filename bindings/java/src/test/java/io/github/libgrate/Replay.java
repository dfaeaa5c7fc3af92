package io.github.libgrate;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.LongConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** One replay of a scenario, on an engine and clock of its own. */
final class Replay {
    private static final String ROW = "error within provider held_by held_dimension held_window_ns score quota health priority"
            + " latency seconds_to_exhaustion retry_after_ns weights";
    private static final String ESTIMATE = "tokens input_tokens output_tokens bytes cost_micro_usd headroom exclude";
    private static final String RESPONSE = "outcome http_status latency_ms retry_after_ms requests tokens input_tokens"
            + " output_tokens bytes cost_micro_usd";
    private static final double CLOSE = 1e-9;

    private interface Call {
        void run() throws GrateException;
    }

    private interface Reading {
        Number get() throws GrateException;
    }

    private final JsonObject scenario;
    private final Map<String, Long> leases = new HashMap<>();
    private final List<Object> trace = new ArrayList<>();
    private MockClock clock;
    private Engine engine;

    Replay(JsonObject scenario) {
        this.scenario = scenario;
    }

    /** Everything that was decided, doubles by their bits. */
    List<Object> run() throws GrateException {
        only(scenario, "name about unix_ms config steps");
        long unixMs = scenario.has("unix_ms") ? scenario.get("unix_ms").getAsLong() : Fixture.NEW_YEAR_MS;
        clock = new MockClock(unixMs);
        engine = Fixture.engine(clock);
        engine.configureJson(scenario.get("config").toString());
        steps(scenario, text(scenario, "name") + ": ");
        engine.close();
        clock.close();
        return trace;
    }

    private void steps(JsonObject holder, String place) {
        int number = 0;
        for (JsonElement element : holder.getAsJsonArray("steps")) {
            Map.Entry<String, JsonElement> step = single(element.getAsJsonObject());
            String here = place + "step " + ++number + " (" + step.getKey() + ")";
            try {
                step(step.getKey(), step.getValue().getAsJsonObject(), here);
            } catch (GrateException | RuntimeException | Failure error) {
                throw new Failure(here + ": " + error.getMessage(), error);
            }
        }
    }

    private static Map.Entry<String, JsonElement> single(JsonObject step) {
        same("number of verbs", 1, step.size());
        return step.entrySet().iterator().next();
    }

    private void step(String verb, JsonObject a, String here) throws GrateException {
        switch (verb) {
            case "advance":
                only(a, "secs ms ns");
                given(a, "secs", clock::advanceSecs);
                given(a, "ms", clock::advanceMs);
                given(a, "ns", ns -> clock.setNs(clock.nowNs() + ns));
                break;
            case "set_ns":
                only(a, "ns");
                clock.setNs(a.get("ns").getAsLong());
                break;
            case "select":
                route(a, false);
                break;
            case "acquire":
                route(a, true);
                break;
            case "complete":
                only(a, RESPONSE + " lease expect");
                settled(a, () -> engine.complete(lease(a), response(a)));
                break;
            case "cancel":
                only(a, "lease expect");
                settled(a, () -> engine.cancel(lease(a)));
                break;
            case "observe":
                only(a, RESPONSE + " provider expect");
                settled(a, () -> engine.observe(text(a, "provider"), response(a)));
                break;
            case "configure":
                only(a, "config text expect");
                String document = a.has("text") ? text(a, "text") : a.get("config").toString();
                settled(a, () -> engine.configureJson(document));
                break;
            case "remove_provider":
                only(a, "name expect");
                settled(a, () -> engine.removeProvider(text(a, "name")));
                break;
            case "remove_capability":
                only(a, "name expect");
                settled(a, () -> engine.removeCapability(text(a, "name")));
                break;
            case "check_health":
                only(a, "provider value within error");
                checked(a, () -> engine.providerHealth(text(a, "provider")));
                break;
            case "check_remaining":
                only(a, "provider dimension value error");
                Dimension dimension = Dimension.valueOf(text(a, "dimension").toUpperCase(Locale.ROOT));
                checked(a, () -> engine.remainingQuota(text(a, "provider"), dimension).orElse(LibGrate.NONE));
                break;
            case "check_in_cooldown":
                only(a, "provider value");
                same("in cooldown", a.get("value").getAsBoolean(), engine.providerInCooldown(text(a, "provider")));
                break;
            case "check_circuit":
                only(a, "provider value");
                same("circuit", text(a, "value"), lower(engine.providerState(text(a, "provider")).circuit()));
                break;
            case "check_metrics":
                metrics(a);
                break;
            case "repeat":
                only(a, "times steps");
                for (int turn = 1; turn <= a.get("times").getAsInt(); turn++) {
                    steps(a, here + ", round " + turn + ", ");
                }
                break;
            default:
                throw new Failure("unknown verb " + verb, null);
        }
    }

    private void route(JsonObject a, boolean acquire) throws GrateException {
        only(a, ESTIMATE + " capability expect" + (acquire ? " as" : ""));
        JsonObject expect = expect(a);
        only(expect, ROW + " candidates");
        String status = "GRATE_OK";
        long lease = 0;
        Decision decision;
        try {
            if (acquire) {
                Lease acquired = engine.acquire(text(a, "capability"), request(a));
                decision = acquired.decision();
                lease = acquired.number();
            } else {
                decision = engine.select(text(a, "capability"), request(a));
            }
        } catch (NoAvailableProvidersException none) {
            decision = none.decision();
            status = none.name();
        } catch (GrateException error) {
            same("error", error(expect), error.name());
            return;
        }
        same("error", error(expect), status);
        if (status.equals("GRATE_OK")) {
            same("held_by", HeldBy.NOTHING, decision.heldBy());
            same("retry_after_ns", Optional.of(Duration.ZERO), decision.retryAfter());
        }
        same("a lease", acquire && status.equals("GRATE_OK"), lease != 0);
        record(decision);
        decision.candidates().forEach(this::record);
        row(expect, decision);
        if (expect.has("candidates")) {
            candidates(expect.getAsJsonArray("candidates"), decision.candidates());
        }
        if (a.has("as")) {
            leases.put(text(a, "as"), lease);
        }
    }

    private static void candidates(JsonArray expected, List<Candidate> got) {
        same("number of candidates", expected.size(), got.size());
        for (int i = 0; i < got.size(); i++) {
            JsonObject want = new JsonObject();
            if (expected.get(i).isJsonObject()) {
                want = expected.get(i).getAsJsonObject();
            } else {
                want.add("provider", expected.get(i));
            }
            only(want, ROW);
            row(want, got.get(i));
        }
    }

    private void record(Candidate row) {
        for (double share : new double[] {
            row.score(), row.quotaScore(), row.healthScore(), row.priorityScore(), row.latencyScore()
        }) {
            same("a share in [0, 1]", true, share >= 0 && share <= 1);
            trace.add(Double.doubleToRawLongBits(share));
        }
        trace.add(Double.doubleToRawLongBits(row.secondsToExhaustion()));
        trace.add(Arrays.asList(
                row.provider(), row.index(), row.heldBy(), row.retryAfter(), row.heldDimension(), row.heldWindow()));
    }

    private static void row(JsonObject expect, Candidate row) {
        double within = expect.has("within") ? expect.get("within").getAsDouble() : CLOSE;
        Map<String, Double> components = Map.of(
                "quota", row.quotaScore(),
                "health", row.healthScore(),
                "priority", row.priorityScore(),
                "latency", row.latencyScore());
        for (String key : expect.keySet()) {
            JsonElement want = expect.get(key);
            switch (key) {
                case "provider":
                    same(key, orNull(want), row.provider());
                    break;
                case "held_by":
                    same(key, want.getAsString(), lower(row.heldBy()));
                    break;
                case "held_dimension":
                    same(key, orNull(want), row.heldDimension().map(Replay::lower).orElse(null));
                    break;
                case "held_window_ns":
                    compare(key, want, row.heldWindow().map(Duration::toNanos).orElse(0L), within);
                    break;
                case "retry_after_ns":
                    compare(key, want, row.retryAfter().map(Duration::toNanos).orElse(LibGrate.NONE), within);
                    break;
                case "score":
                    compare(key, want, row.score(), within);
                    break;
                case "seconds_to_exhaustion":
                    compare(key, want, row.secondsToExhaustion(), within);
                    break;
                case "weights":
                    JsonObject weights = want.getAsJsonObject();
                    same(key, components.keySet(), weights.keySet());
                    double sum = 0;
                    for (Map.Entry<String, Double> component : components.entrySet()) {
                        sum += component.getValue() * weights.get(component.getKey()).getAsDouble();
                    }
                    compare("the weighted components", new JsonPrimitive(row.score()), sum, within);
                    break;
                case "error":
                case "within":
                case "candidates":
                    break;
                default:
                    compare(key, want, components.get(key), within);
            }
        }
    }

    private static Request request(JsonObject a) {
        Request.Builder request = Request.builder().explain();
        given(a, "tokens", request::tokens);
        given(a, "input_tokens", request::inputTokens);
        given(a, "output_tokens", request::outputTokens);
        given(a, "bytes", request::bytes);
        given(a, "cost_micro_usd", request::costMicroUsd);
        if (a.has("headroom")) {
            request.headroom(a.get("headroom").getAsDouble());
        }
        if (a.has("exclude")) {
            a.getAsJsonArray("exclude").forEach(name -> request.exclude(name.getAsString()));
        }
        return request.build();
    }

    private static Response response(JsonObject a) {
        Response.Builder response = Response.builder();
        if (a.has("outcome")) {
            response.outcome(Outcome.valueOf(text(a, "outcome").toUpperCase(Locale.ROOT)));
        }
        if (a.has("http_status")) {
            response.httpStatus(a.get("http_status").getAsInt());
        }
        given(a, "latency_ms", ms -> response.latency(Duration.ofMillis(ms)));
        given(a, "retry_after_ms", ms -> response.retryAfter(Duration.ofMillis(ms)));
        given(a, "requests", response::requests);
        given(a, "tokens", response::tokens);
        given(a, "input_tokens", response::inputTokens);
        given(a, "output_tokens", response::outputTokens);
        given(a, "bytes", response::bytes);
        given(a, "cost_micro_usd", response::costMicroUsd);
        return response.build();
    }

    private long lease(JsonObject a) {
        JsonPrimitive lease = a.getAsJsonPrimitive("lease");
        return lease.isString() ? leases.get(lease.getAsString()) : lease.getAsBigInteger().longValue();
    }

    private void metrics(JsonObject a) throws GrateException {
        Object counters = a.has("provider") ? engine.providerState(text(a, "provider")) : engine.metrics();
        for (String name : a.keySet()) {
            if (!name.equals("provider")) {
                compare(name, a.get(name), counter(counters, name), 0);
            }
        }
    }

    /** A counter by its name in C. One that does not exist is an error. */
    private static long counter(Object counters, String name) {
        Matcher word = Pattern.compile("_(.)").matcher(name);
        String method = word.replaceAll(found -> found.group(1).toUpperCase(Locale.ROOT));
        try {
            return (long) counters.getClass().getMethod(method).invoke(counters);
        } catch (ReflectiveOperationException error) {
            throw new Failure("unknown counter " + name, error);
        }
    }

    private static void settled(JsonObject a, Call call) {
        JsonObject expect = expect(a);
        only(expect, "error");
        String status = "GRATE_OK";
        try {
            call.run();
        } catch (GrateException error) {
            status = error.name();
        }
        same("error", error(expect), status);
    }

    private static void checked(JsonObject a, Reading reading) {
        Number got;
        try {
            got = reading.get();
        } catch (GrateException error) {
            same("error", error(a), error.name());
            return;
        }
        same("error", error(a), "GRATE_OK");
        compare("value", a.get("value"), got, a.has("within") ? a.get("within").getAsDouble() : CLOSE);
    }

    /** Integers (unsigned, in a Long) are equal or not; doubles are close. */
    private static void compare(String what, JsonElement expected, Number got, double within) {
        boolean whole = got instanceof Long;
        boolean never = whole ? got.longValue() == LibGrate.NONE : got.doubleValue() == Double.POSITIVE_INFINITY;
        boolean fits;
        if (expected.isJsonObject()) {
            JsonObject range = expected.getAsJsonObject();
            only(range, "min max");
            fits = (!range.has("min") || never || exact(got).compareTo(range.get("min").getAsBigDecimal()) >= 0)
                    && (!range.has("max") || !never && exact(got).compareTo(range.get("max").getAsBigDecimal()) <= 0);
        } else if (expected.getAsJsonPrimitive().isString()) {
            same(what, "never", expected.getAsString());
            fits = never;
        } else if (whole) {
            fits = exact(got).compareTo(expected.getAsBigDecimal()) == 0;
        } else {
            fits = Math.abs(got.doubleValue() - expected.getAsDouble()) <= within;
        }
        if (!fits) {
            throw new Failure(what + ": expected " + expected + ", got " + got, null);
        }
    }

    private static BigDecimal exact(Number got) {
        return got instanceof Long
                ? new BigDecimal(Long.toUnsignedString(got.longValue()))
                : new BigDecimal(got.doubleValue());
    }

    private static void same(String what, Object expected, Object got) {
        if (!Objects.equals(expected, got)) {
            throw new Failure(what + ": expected " + expected + ", got " + got, null);
        }
    }

    /** A misspelt key would be a check that is never made. */
    private static void only(JsonObject object, String known) {
        Set<String> unknown = new HashSet<>(object.keySet());
        unknown.removeAll(List.of(known.split(" ")));
        same("unknown keys", Set.of(), unknown);
    }

    private static JsonObject expect(JsonObject a) {
        return a.has("expect") ? a.getAsJsonObject("expect") : new JsonObject();
    }

    private static String error(JsonObject expect) {
        return expect.has("error") ? text(expect, "error") : "GRATE_OK";
    }

    private static String orNull(JsonElement text) {
        return text.isJsonNull() ? null : text.getAsString();
    }

    private static String text(JsonObject object, String key) {
        return object.get(key).getAsString();
    }

    private static void given(JsonObject object, String key, LongConsumer use) {
        if (object.has(key)) {
            use.accept(object.get(key).getAsBigDecimal().longValueExact());
        }
    }

    private static String lower(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }

    /** An expectation that does not hold, and where. */
    private static final class Failure extends AssertionError {
        private static final long serialVersionUID = 1;

        Failure(String message, Throwable cause) {
            super(message, cause);
        }
    }
}
