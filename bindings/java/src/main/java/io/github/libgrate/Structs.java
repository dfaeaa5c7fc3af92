package io.github.libgrate;

import java.util.List;

/**
 * The structs of {@code grate.h}, as offsets into memory that is written and read with plain loads and stores. A test compares
 * them with the C compiler. New fields are appended here as in the header: {@code SIZE} follows.
 */
final class Structs {
    private Structs() {}

    static final class Err {
        static final Layout LAYOUT = new Layout("grate_error");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int CODE = LAYOUT.int32("code");
        static final int MESSAGE = LAYOUT.chars("message", 504);
        static final int SIZE = LAYOUT.size();

        private Err() {}
    }

    static final class QuotaConfig {
        static final Layout LAYOUT = new Layout("grate_quota_config");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int DIMENSION = LAYOUT.int32("dimension");
        static final int LIMIT = LAYOUT.int64("limit");
        static final int WINDOW_NS = LAYOUT.int64("window_ns");
        static final int STRATEGY = LAYOUT.int32("strategy");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int BURST = LAYOUT.int64("burst");
        static final int PHASE_NS = LAYOUT.int64("phase_ns");
        static final int POOL = LAYOUT.int64("pool");
        static final int SIZE = LAYOUT.size();

        private QuotaConfig() {}
    }

    static final class ProviderConfig {
        static final Layout LAYOUT = new Layout("grate_provider_config");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int PRIORITY = LAYOUT.int32("priority");
        static final int NAME = LAYOUT.int64("name");
        static final int WEIGHT = LAYOUT.int64("weight");
        static final int COOLDOWN_SECONDS = LAYOUT.int64("cooldown_seconds");
        static final int QUOTAS = LAYOUT.int64("quotas");
        static final int QUOTAS_LEN = LAYOUT.int64("quotas_len");
        static final int SIZE = LAYOUT.size();

        private ProviderConfig() {}
    }

    static final class CapabilityProvider {
        static final Layout LAYOUT = new Layout("grate_capability_provider");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int PRIORITY = LAYOUT.int32("priority");
        static final int PROVIDER = LAYOUT.int64("provider");
        static final int SIZE = LAYOUT.size();

        private CapabilityProvider() {}
    }

    static final class CapabilityConfig {
        static final Layout LAYOUT = new Layout("grate_capability_config");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int NAME = LAYOUT.int64("name");
        static final int PROVIDERS = LAYOUT.int64("providers");
        static final int PROVIDERS_LEN = LAYOUT.int64("providers_len");
        static final int SIZE = LAYOUT.size();

        private CapabilityConfig() {}
    }

    static final class EngineConfig {
        static final Layout LAYOUT = new Layout("grate_engine_config");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int COOLDOWN_TRIGGER_COUNT = LAYOUT.int32("cooldown_trigger_count");
        static final int CLOCK = LAYOUT.int64("clock");
        static final int WEIGHT_QUOTA = LAYOUT.int64("weight_quota");
        static final int WEIGHT_HEALTH = LAYOUT.int64("weight_health");
        static final int WEIGHT_PRIORITY = LAYOUT.int64("weight_priority");
        static final int WEIGHT_LATENCY = LAYOUT.int64("weight_latency");
        static final int MIN_HEALTH_FOR_SELECTION = LAYOUT.int64("min_health_for_selection");
        static final int EWMA_ALPHA = LAYOUT.int64("ewma_alpha");
        static final int RECOVERY_HALF_LIFE_SECS = LAYOUT.int64("recovery_half_life_secs");
        static final int COOLDOWN_THRESHOLD = LAYOUT.int64("cooldown_threshold");
        static final int COOLDOWN_MULTIPLIER = LAYOUT.int64("cooldown_multiplier");
        static final int MAX_COOLDOWN_SECS = LAYOUT.int64("max_cooldown_secs");
        static final int LEASE_TTL_NS = LAYOUT.int64("lease_ttl_ns");
        static final int SKEW_NS = LAYOUT.int64("skew_ns");
        static final int ESTIMATE_QUANTILE = LAYOUT.int64("estimate_quantile");
        static final int MAX_RETRY_AFTER_NS = LAYOUT.int64("max_retry_after_ns");
        static final int STATE_PATH = LAYOUT.int64("state_path");
        static final int STATE_SIZE = LAYOUT.int64("state_size");
        static final int STATE_FLAGS = LAYOUT.int64("state_flags");
        static final int SIZE = LAYOUT.size();

        private EngineConfig() {}
    }

    static final class HeaderQuota {
        static final Layout LAYOUT = new Layout("grate_header_quota");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int DIMENSION = LAYOUT.int32("dimension");
        static final int LIMIT = LAYOUT.int64("limit");
        static final int REMAINING = LAYOUT.int64("remaining");
        static final int RESET_IN_MS = LAYOUT.int64("reset_in_ms");
        static final int WINDOW_MS = LAYOUT.int64("window_ms");
        static final int SIZE = LAYOUT.size();

        private HeaderQuota() {}
    }

    static final class HeaderReport {
        static final Layout LAYOUT = new Layout("grate_header_report");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int CACHED = LAYOUT.int32("cached");
        static final int RETRY_AFTER_MS = LAYOUT.int64("retry_after_ms");
        static final int QUOTAS = LAYOUT.int64("quotas");
        static final int QUOTAS_CAPACITY = LAYOUT.int64("quotas_capacity");
        static final int QUOTAS_LEN = LAYOUT.int64("quotas_len");
        static final int QUOTAS_TOTAL = LAYOUT.int64("quotas_total");
        static final int SIZE = LAYOUT.size();

        private HeaderReport() {}
    }

    static final class Header {
        static final Layout LAYOUT = new Layout("grate_header");
        static final int NAME = LAYOUT.int64("name");
        static final int NAME_LEN = LAYOUT.int64("name_len");
        static final int VALUE = LAYOUT.int64("value");
        static final int VALUE_LEN = LAYOUT.int64("value_len");
        static final int SIZE = LAYOUT.size();

        private Header() {}
    }

    static final class Metrics {
        static final Layout LAYOUT = new Layout("grate_metrics");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int SELECTS = LAYOUT.int64("selects");
        static final int ACQUIRES = LAYOUT.int64("acquires");
        static final int COMPLETIONS = LAYOUT.int64("completions");
        static final int CANCELLATIONS = LAYOUT.int64("cancellations");
        static final int EXPIRED_LEASES = LAYOUT.int64("expired_leases");
        static final int OBSERVATIONS = LAYOUT.int64("observations");
        static final int COOLDOWNS_TRIGGERED = LAYOUT.int64("cooldowns_triggered");
        static final int NONE_AVAILABLE = LAYOUT.int64("none_available");
        static final int RATE_LIMITED_RESPONSES = LAYOUT.int64("rate_limited_responses");
        static final int LEASES_IN_FLIGHT = LAYOUT.int64("leases_in_flight");
        static final int CAPPED_WAITS = LAYOUT.int64("capped_waits");
        static final int SIZE = LAYOUT.size();

        private Metrics() {}
    }

    static final class QuotaState {
        static final Layout LAYOUT = new Layout("grate_quota_state");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int DIMENSION = LAYOUT.int32("dimension");
        static final int STRATEGY = LAYOUT.int32("strategy");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int LIMIT = LAYOUT.int64("limit");
        static final int WINDOW_NS = LAYOUT.int64("window_ns");
        static final int USED = LAYOUT.int64("used");
        static final int REMAINING = LAYOUT.int64("remaining");
        static final int PREDICTED_SHARE = LAYOUT.int64("predicted_share");
        static final int BURN_PER_SEC = LAYOUT.int64("burn_per_sec");
        static final int SECONDS_TO_EXHAUSTION = LAYOUT.int64("seconds_to_exhaustion");
        static final int POOL = LAYOUT.int64("pool");
        static final int EFFECTIVE_LIMIT = LAYOUT.int64("effective_limit");
        static final int MARGIN = LAYOUT.int64("margin");
        static final int LIMIT_SOURCE = LAYOUT.int32("limit_source");
        static final int RESERVED2 = LAYOUT.int32("reserved2");
        static final int SIZE = LAYOUT.size();

        private QuotaState() {}
    }

    static final class ProviderState {
        static final Layout LAYOUT = new Layout("grate_provider_state");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int CIRCUIT = LAYOUT.int32("circuit");
        static final int HEALTH = LAYOUT.int64("health");
        static final int COOLDOWN_REMAINING_NS = LAYOUT.int64("cooldown_remaining_ns");
        static final int LATENCY_NS = LAYOUT.int64("latency_ns");
        static final int CONSECUTIVE_FAILURES = LAYOUT.int32("consecutive_failures");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int LEASES_IN_FLIGHT = LAYOUT.int64("leases_in_flight");
        static final int SELECTS = LAYOUT.int64("selects");
        static final int ACQUIRES = LAYOUT.int64("acquires");
        static final int COMPLETIONS = LAYOUT.int64("completions");
        static final int CANCELLATIONS = LAYOUT.int64("cancellations");
        static final int EXPIRED_LEASES = LAYOUT.int64("expired_leases");
        static final int OBSERVATIONS = LAYOUT.int64("observations");
        static final int COOLDOWNS_TRIGGERED = LAYOUT.int64("cooldowns_triggered");
        static final int RATE_LIMITED_RESPONSES = LAYOUT.int64("rate_limited_responses");
        static final int QUOTAS = LAYOUT.int64("quotas");
        static final int QUOTAS_CAPACITY = LAYOUT.int64("quotas_capacity");
        static final int QUOTAS_LEN = LAYOUT.int64("quotas_len");
        static final int QUOTAS_TOTAL = LAYOUT.int64("quotas_total");
        static final int SIZE = LAYOUT.size();

        private ProviderState() {}
    }

    static final class Request {
        static final Layout LAYOUT = new Layout("grate_request");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int TOKENS = LAYOUT.int64("tokens");
        static final int INPUT_TOKENS = LAYOUT.int64("input_tokens");
        static final int OUTPUT_TOKENS = LAYOUT.int64("output_tokens");
        static final int BYTES = LAYOUT.int64("bytes");
        static final int COST_MICRO_USD = LAYOUT.int64("cost_micro_usd");
        static final int HEADROOM = LAYOUT.int64("headroom");
        static final int EXCLUDE = LAYOUT.int64("exclude");
        static final int EXCLUDE_LEN = LAYOUT.int64("exclude_len");
        static final int SIZE = LAYOUT.size();

        private Request() {}
    }

    static final class Candidate {
        static final Layout LAYOUT = new Layout("grate_candidate");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int HELD_BY = LAYOUT.int32("held_by");
        static final int PROVIDER = LAYOUT.int64("provider");
        static final int SCORE = LAYOUT.int64("score");
        static final int QUOTA_SCORE = LAYOUT.int64("quota_score");
        static final int HEALTH_SCORE = LAYOUT.int64("health_score");
        static final int PRIORITY_SCORE = LAYOUT.int64("priority_score");
        static final int LATENCY_SCORE = LAYOUT.int64("latency_score");
        static final int SECONDS_TO_EXHAUSTION = LAYOUT.int64("seconds_to_exhaustion");
        static final int RETRY_AFTER_NS = LAYOUT.int64("retry_after_ns");
        static final int HELD_DIMENSION = LAYOUT.int32("held_dimension");
        static final int INDEX = LAYOUT.int32("index");
        static final int HELD_WINDOW_NS = LAYOUT.int64("held_window_ns");
        static final int SIZE = LAYOUT.size();

        private Candidate() {}
    }

    static final class Decision {
        static final Layout LAYOUT = new Layout("grate_decision");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int HELD_BY = LAYOUT.int32("held_by");
        static final int LEASE = LAYOUT.int64("lease");
        static final int PROVIDER = LAYOUT.int64("provider");
        static final int SCORE = LAYOUT.int64("score");
        static final int QUOTA_SCORE = LAYOUT.int64("quota_score");
        static final int HEALTH_SCORE = LAYOUT.int64("health_score");
        static final int PRIORITY_SCORE = LAYOUT.int64("priority_score");
        static final int LATENCY_SCORE = LAYOUT.int64("latency_score");
        static final int SECONDS_TO_EXHAUSTION = LAYOUT.int64("seconds_to_exhaustion");
        static final int RETRY_AFTER_NS = LAYOUT.int64("retry_after_ns");
        static final int HELD_DIMENSION = LAYOUT.int32("held_dimension");
        static final int INDEX = LAYOUT.int32("index");
        static final int HELD_WINDOW_NS = LAYOUT.int64("held_window_ns");
        static final int CANDIDATES = LAYOUT.int64("candidates");
        static final int CANDIDATES_CAPACITY = LAYOUT.int64("candidates_capacity");
        static final int CANDIDATES_LEN = LAYOUT.int64("candidates_len");
        static final int CANDIDATES_TOTAL = LAYOUT.int64("candidates_total");
        static final int SIZE = LAYOUT.size();

        private Decision() {}
    }

    static final class Response {
        static final Layout LAYOUT = new Layout("grate_response");
        static final int STRUCT_SIZE = LAYOUT.int32("struct_size");
        static final int OUTCOME = LAYOUT.int32("outcome");
        static final int HTTP_STATUS = LAYOUT.int32("http_status");
        static final int RESERVED = LAYOUT.int32("reserved");
        static final int LATENCY_NS = LAYOUT.int64("latency_ns");
        static final int RETRY_AFTER_NS = LAYOUT.int64("retry_after_ns");
        static final int REQUESTS = LAYOUT.int64("requests");
        static final int TOKENS = LAYOUT.int64("tokens");
        static final int INPUT_TOKENS = LAYOUT.int64("input_tokens");
        static final int OUTPUT_TOKENS = LAYOUT.int64("output_tokens");
        static final int BYTES = LAYOUT.int64("bytes");
        static final int COST_MICRO_USD = LAYOUT.int64("cost_micro_usd");
        static final int HEADERS = LAYOUT.int64("headers");
        static final int HEADERS_LEN = LAYOUT.int64("headers_len");
        static final int SIZE = LAYOUT.size();

        private Response() {}
    }

    /** All of them, for the test. */
    static List<Layout> all() {
        return List.of(
                Err.LAYOUT,
                QuotaConfig.LAYOUT,
                ProviderConfig.LAYOUT,
                CapabilityProvider.LAYOUT,
                CapabilityConfig.LAYOUT,
                EngineConfig.LAYOUT,
                HeaderQuota.LAYOUT,
                HeaderReport.LAYOUT,
                Header.LAYOUT,
                Metrics.LAYOUT,
                QuotaState.LAYOUT,
                ProviderState.LAYOUT,
                Request.LAYOUT,
                Candidate.LAYOUT,
                Decision.LAYOUT,
                Response.LAYOUT);
    }
}
