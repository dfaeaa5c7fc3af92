/*
 * libgrate for C++17 and later: RAII and types over grate.h, header-only. Link with -lgrate.
 *
 *     grate::Engine engine;
 *     engine.configure_json(json);
 *     try {
 *         grate::Lease lease = engine.acquire("chat", request);
 *         int status = send(lease.provider(), ...);
 *         lease.complete(grate::Response::http(status));
 *     } catch (const grate::NoProviderAvailable &none) {
 *         wait(none.retry_after());
 *     }
 *
 * Errors     Each call that can fail exists twice: `x` throws a grate::Error, `try_x` returns a Status and puts the
 *            result into its parameter `out`. Without exceptions (-fno-exceptions) only the `try_` calls exist. "Nothing
 *            is available" is routine where upstreams are scarce: `try_acquire` tells it without the cost of a throw.
 * Strings    Names go in NUL-terminated (const char *, std::string or a Name), so none is copied; they need to live
 *            only for the call. Names come out as Name, a std::string_view that stays valid as long as the engine.
 * Zero       In configurations and requests 0 is the default or "not given", as in grate.h. Where a true zero means
 *            something else, the field is a std::optional.
 * Threads    Any call of an Engine or a clock may run on any thread at any time, but for moving and destroying the
 *            object itself. All else is a plain value: one thread at a time, free to go from thread to thread.
 * Lifetime   An Engine outlives its leases and the names it handed out; moving it does not disturb them. A clock may
 *            be destroyed before the engines that use it. A forked child has copies of its parent's leases: with a state
 *            file it has to release() them, or end by _exit, for their destructors would cancel what the parent has sent.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GRATE_HPP
#define GRATE_HPP

#include "grate.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define GRATE_HAS_EXCEPTIONS 1
#include <stdexcept>
#else
#define GRATE_HAS_EXCEPTIONS 0
#endif

namespace grate {

using std::chrono::nanoseconds;
/// Seconds with a fraction; infinity is "never".
using Seconds = std::chrono::duration<double>;

/// A wait that never ends by itself: the request is larger than the limit, or excludes the provider.
inline constexpr nanoseconds never = (nanoseconds::max)();
/// What remaining_quota says of a dimension without a quota.
inline constexpr std::uint64_t unlimited = UINT64_MAX;

enum class Code : std::int32_t {
    ok = GRATE_OK,
    null_pointer = GRATE_ERR_NULL_POINTER,
    struct_size = GRATE_ERR_STRUCT_SIZE,
    invalid_name = GRATE_ERR_INVALID_NAME,
    invalid_argument = GRATE_ERR_INVALID_ARGUMENT,
    invalid_config = GRATE_ERR_INVALID_CONFIG,
    invalid_json = GRATE_ERR_INVALID_JSON,
    unknown_capability = GRATE_ERR_UNKNOWN_CAPABILITY,
    unknown_provider = GRATE_ERR_UNKNOWN_PROVIDER,
    no_provider_available = GRATE_ERR_NO_PROVIDER_AVAILABLE,
    stale_lease = GRATE_ERR_STALE_LEASE,
    buffer_too_small = GRATE_ERR_BUFFER_TOO_SMALL,
    capacity = GRATE_ERR_CAPACITY,
    panic = GRATE_ERR_PANIC,
    state_file = GRATE_ERR_STATE_FILE,
};

enum class Dimension : std::int32_t {
    requests = GRATE_DIMENSION_REQUESTS,
    tokens = GRATE_DIMENSION_TOKENS,
    input_tokens = GRATE_DIMENSION_INPUT_TOKENS,
    output_tokens = GRATE_DIMENSION_OUTPUT_TOKENS,
    concurrency = GRATE_DIMENSION_CONCURRENCY,
    bytes = GRATE_DIMENSION_BYTES,
    cost_micro_usd = GRATE_DIMENSION_COST_MICRO_USD,
};

enum class Strategy : std::int32_t {
    automatic = 0, ///< Rolling, and concurrency for that dimension.
    rolling = GRATE_STRATEGY_ROLLING,
    token_bucket = GRATE_STRATEGY_TOKEN_BUCKET,
    fixed_window = GRATE_STRATEGY_FIXED_WINDOW,
    concurrency = GRATE_STRATEGY_CONCURRENCY,
};

enum class Outcome : std::int32_t {
    from_http_status = 0, ///< What the response's http_status says.
    success = GRATE_OUTCOME_SUCCESS,
    rate_limited = GRATE_OUTCOME_RATE_LIMITED,
    quota_exhausted = GRATE_OUTCOME_QUOTA_EXHAUSTED,
    forbidden = GRATE_OUTCOME_FORBIDDEN,
    server_error = GRATE_OUTCOME_SERVER_ERROR,
    overloaded = GRATE_OUTCOME_OVERLOADED,
    timeout = GRATE_OUTCOME_TIMEOUT,
    client_error = GRATE_OUTCOME_CLIENT_ERROR,
    cancelled = GRATE_OUTCOME_CANCELLED,
};

enum class HeldBy : std::int32_t {
    nothing = GRATE_HELD_BY_NOTHING,
    cooldown = GRATE_HELD_BY_COOLDOWN,
    health = GRATE_HELD_BY_HEALTH,
    quota = GRATE_HELD_BY_QUOTA,
    concurrency = GRATE_HELD_BY_CONCURRENCY,
    probe = GRATE_HELD_BY_PROBE,
    exclusion = GRATE_HELD_BY_EXCLUSION,
};

enum class Circuit : std::int32_t {
    closed = GRATE_CIRCUIT_CLOSED,
    open = GRATE_CIRCUIT_OPEN,
    half_open = GRATE_CIRCUIT_HALF_OPEN,
    ramping = GRATE_CIRCUIT_RAMPING,
};

enum class LimitSource : std::int32_t {
    configured = GRATE_LIMIT_CONFIGURED,
    learned = GRATE_LIMIT_LEARNED,
    told = GRATE_LIMIT_TOLD,
};

/// A name on its way out: a std::string_view with a NUL behind it, so that it can go in again. Owned by the engine.
class Name : public std::string_view {
public:
    Name() noexcept : std::string_view("", 0) {}
    explicit Name(const char *text) noexcept : std::string_view(text != nullptr ? text : "") {}
    const char *c_str() const noexcept { return data(); }
    void remove_suffix(size_type) = delete; // would leave the NUL elsewhere
};

/// A name on its way in: NUL-terminated, not copied.
class cstring_ref {
public:
    cstring_ref(const char *text) noexcept : text_(text) {}
    /// A NUL inside would cut the name silently, so such a name is replaced by one that is refused.
    cstring_ref(const std::string &text) noexcept
        : text_(std::memchr(text.data(), '\0', text.size()) == nullptr ? text.c_str() : "\x01") {}
    cstring_ref(Name text) noexcept : text_(text.c_str()) {}
    cstring_ref(std::string_view) = delete; // need not be NUL-terminated
    const char *c_str() const noexcept { return text_; }

private:
    const char *text_;
};

/// What became of a call: a code and, unless it is ok, a message. Fixed size, nothing allocated.
class [[nodiscard]] Status {
public:
    Status() noexcept { set(Code::ok, ""); }
    Status(Code code, std::string_view message) noexcept { set(code, message); }
    Status(const Status &other) noexcept { set(other.code(), other.message()); }
    Status &operator=(const Status &other) noexcept {
        if (this != &other) set(other.code(), other.message());
        return *this;
    }
    bool ok() const noexcept { return raw_.code == GRATE_OK; }
    Code code() const noexcept { return static_cast<Code>(raw_.code); }
    std::string_view message() const noexcept { return raw_.message; }
    /// Where a function of grate.h may write its error.
    grate_error *raw() noexcept { return &raw_; }

private:
    // Only what is in use is written: clearing all 512 bytes takes some 10 ns, which every call would pay.
    void set(Code code, std::string_view message) noexcept {
        raw_.struct_size = sizeof raw_;
        raw_.code = static_cast<std::int32_t>(code);
        std::size_t n = message.size();
        if (n >= sizeof raw_.message) {
            n = sizeof raw_.message - 1;
            while (n > 0 && (message[n] & 0xc0) == 0x80) --n; // not within a character
        }
        if (n > 0) std::memcpy(raw_.message, message.data(), n);
        raw_.message[n] = '\0';
    }
    grate_error raw_;
};

inline const char *to_string(Code code) noexcept { return grate_status_name(static_cast<grate_status>(code)); }

inline const char *to_string(Dimension dimension) noexcept {
    switch (dimension) {
    case Dimension::requests: return "requests";
    case Dimension::tokens: return "tokens";
    case Dimension::input_tokens: return "input_tokens";
    case Dimension::output_tokens: return "output_tokens";
    case Dimension::concurrency: return "concurrency";
    case Dimension::bytes: return "bytes";
    case Dimension::cost_micro_usd: return "cost_micro_usd";
    }
    return "unknown";
}

inline const char *to_string(HeldBy held_by) noexcept {
    switch (held_by) {
    case HeldBy::nothing: return "nothing";
    case HeldBy::cooldown: return "cooldown";
    case HeldBy::health: return "health";
    case HeldBy::quota: return "quota";
    case HeldBy::concurrency: return "concurrency";
    case HeldBy::probe: return "probe";
    case HeldBy::exclusion: return "exclusion";
    }
    return "unknown";
}

namespace detail {

/// A struct of grate.h with its size, and zeroes.
template <class T> T init() noexcept {
    T raw = T();
    raw.struct_size = static_cast<std::uint32_t>(sizeof(T));
    return raw;
}

inline nanoseconds from_ns(std::uint64_t ns) noexcept {
    return ns < static_cast<std::uint64_t>(INT64_MAX) ? nanoseconds(static_cast<std::int64_t>(ns)) : never;
}

/// For configurations: a negative time becomes one that the library refuses, and never GRATE_ZERO.
inline std::uint64_t to_ns(nanoseconds time) noexcept {
    return time.count() >= 0 ? static_cast<std::uint64_t>(time.count()) : GRATE_ZERO - 1;
}

/// A time since 1970; one before counts as that, and a negative step as none.
inline std::uint64_t whole_ms(std::chrono::milliseconds time) noexcept {
    return time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0;
}

/// For measurements: clocks that disagree give negative times, which count as zero.
inline std::uint64_t measured_ns(nanoseconds time) noexcept {
    return time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0;
}

inline std::uint64_t or_zero(const std::optional<std::uint64_t> &value) noexcept {
    // One less for 0, which wraps to GRATE_ZERO, and for GRATE_ZERO.
    return value ? *value - (*value + 1 < 2) : 0;
}

inline std::uint64_t or_zero(const std::optional<nanoseconds> &value) noexcept {
    if (!value) return 0;
    return value->count() > 0 ? static_cast<std::uint64_t>(value->count()) : GRATE_ZERO;
}

} // namespace detail

/// A time source. Neither copied nor moved, so that an EngineConfig can point to it.
class Clock {
public:
    Clock(const Clock &) = delete;
    Clock &operator=(const Clock &) = delete;
    ~Clock() { grate_clock_free(raw_); }
    nanoseconds now() const noexcept { return detail::from_ns(grate_clock_now_ns(raw_)); }
    const grate_clock *raw() const noexcept { return raw_; }

protected:
    explicit Clock(grate_clock *raw) noexcept : raw_(raw) {}
    grate_clock *raw_;
};

/// A clock that stands still until it is moved: for tests and simulations.
class MockClock : public Clock {
public:
    explicit MockClock(std::chrono::milliseconds unix_time = {}) noexcept
        : Clock(grate_clock_mock_new(detail::whole_ms(unix_time))) {}
    /// Moves it on; a negative step is none.
    void advance(std::chrono::milliseconds step) noexcept {
        grate_clock_advance_ms(raw_, detail::whole_ms(step));
    }
    /// Sets it to a time since its start. Going back counts as "no time has passed".
    void set(nanoseconds time) noexcept { grate_clock_set_ns(raw_, detail::measured_ns(time)); }
};

/// A clock that asks `source`, which must outlive it and every engine made with it, for
/// `nanoseconds monotonic() noexcept` (from any start) and `milliseconds unix_time() noexcept` (since 1970). Both are
/// called from several threads at once and must not call into an engine.
class CallbackClock : public Clock {
public:
    template <class Source> explicit CallbackClock(Source &source) noexcept : Clock(make(source)) {}

private:
    template <class Source> static grate_clock *make(Source &source) noexcept {
        static_assert(noexcept(source.monotonic()) && noexcept(source.unix_time()), "nothing may unwind through the library");
        grate_clock *raw = nullptr;
        grate_clock_callback_new(
            [](void *at) -> std::uint64_t {
                return detail::measured_ns(static_cast<Source *>(at)->monotonic());
            },
            [](void *at) -> std::uint64_t {
                return detail::whole_ms(static_cast<Source *>(at)->unix_time());
            },
            const_cast<void *>(static_cast<const void *>(&source)), &raw, nullptr);
        return raw;
    }
};

/// Settings of an engine; see grate_engine_config.
struct EngineConfig {
    const Clock *clock = nullptr; ///< nullptr: the system's.
    double weight_quota = 0;      ///< All four weights 0: 0.40, 0.35, 0.20, 0.05.
    double weight_health = 0;
    double weight_priority = 0;
    double weight_latency = 0;
    double min_health_for_selection = 0;       ///< 0: 0.2
    double ewma_alpha = 0;                     ///< 0: 0.25
    Seconds recovery_half_life{};              ///< 0: 30 s
    std::uint32_t cooldown_trigger_count = 0;  ///< 0: 3
    double cooldown_threshold = 0;             ///< 0: 0.2
    double cooldown_multiplier = 0;            ///< 0: 2
    Seconds max_cooldown{};                    ///< 0: 600 s
    nanoseconds lease_ttl{};                   ///< 0: 10 min
    std::optional<nanoseconds> skew;           ///< Not given: 50 ms
    double estimate_quantile = 0;              ///< 0: the mean
    nanoseconds max_retry_after{};             ///< 0: one day
    std::string state_path{};                  ///< A file whose state all processes of the host share. Empty: the engine's own.
    std::uint64_t state_size = 0;              ///< In bytes, if it is made; 0: 16 MiB
    bool replace_unusable_state = false;       ///< Whether a file that cannot be used is replaced by a new one.
};

/// One quota of a provider; see grate_quota_config.
struct QuotaConfig {
    Dimension dimension = Dimension::requests;
    std::uint64_t limit = 0; ///< Units per window, or leases in flight. 0 admits nothing.
    nanoseconds window{};    ///< 1 ms to 366 days; none for concurrency.
    Strategy strategy = Strategy::automatic;
    std::uint64_t burst = 0; ///< Of a token bucket; 0: limit.
    nanoseconds phase{};     ///< Of calendar windows, after midnight UTC.
    std::string pool{};      ///< Quotas of one pool are one counter. Empty: the provider's own.
};

/// A provider; see grate_provider_config.
struct ProviderConfig {
    std::string name;
    std::uint32_t priority = 0; ///< Higher is better.
    std::vector<QuotaConfig> quotas{};
    double weight = 0;  ///< Multiplies the priority component; 0: 1
    Seconds cooldown{}; ///< The first; 0: 30 s
};

/// One provider of a capability.
struct CapabilityProvider {
    std::string provider;
    std::optional<std::uint32_t> priority{}; ///< Not given: the provider's default.
};

/// A capability. The order of its providers breaks ties.
struct CapabilityConfig {
    std::string name;
    std::vector<CapabilityProvider> providers{};
};

/// Names of providers that must not be chosen, at most 64. Nothing is allocated or copied: the names must outlive it.
class Exclude {
public:
    Exclude() noexcept {}
    Exclude(std::initializer_list<cstring_ref> names) noexcept {
        for (const cstring_ref &name : names) add(name);
    }
    Exclude(const Exclude &other) noexcept { *this = other; }
    Exclude &operator=(const Exclude &other) noexcept {
        len_ = other.len_;
        for (std::size_t i = 0; i < len_ && i < capacity; ++i) names_[i] = other.names_[i];
        return *this;
    }
    /// One name too many makes the call fail with invalid_argument rather than be forgotten.
    void add(cstring_ref name) noexcept {
        if (len_ < capacity) names_[len_] = name.c_str();
        if (len_ <= capacity) ++len_;
    }
    void clear() noexcept { len_ = 0; }
    std::size_t size() const noexcept { return len_; }
    const char *const *data() const noexcept { return names_; }

private:
    static constexpr std::size_t capacity = 64;
    std::size_t len_ = 0;
    const char *names_[capacity]; // the first len_ are set
};

/// What a request will use and demands; see grate_request. Estimates that are not given are learned.
struct Request {
    std::optional<std::uint64_t> tokens{}; ///< Not given, but one of the next two: their sum.
    std::optional<std::uint64_t> input_tokens{};
    std::optional<std::uint64_t> output_tokens{};
    std::optional<std::uint64_t> bytes{};
    std::optional<std::uint64_t> cost_micro_usd{};
    double headroom = 0; ///< Share of every quota that must stay free.
    Exclude exclude{};
};

/// One header field of a response. The bytes are not copied.
class Header {
public:
    Header() noexcept = default;
    Header(std::string_view name, std::string_view value) noexcept
        : raw_{name.data(), name.size(), value.data(), value.size()} {}

private:
    friend class Headers;
    grate_header raw_{};
};
static_assert(sizeof(Header) == sizeof(grate_header), "the library reads an array of them");

/// The fields of an array or vector of Header, which must outlive it.
class Headers {
public:
    Headers() noexcept = default;
    template <class Container, class = std::enable_if_t<!std::is_same_v<std::remove_const_t<Container>, Headers>>>
    Headers(Container &fields) noexcept : Headers(std::data(fields), std::size(fields)) {}
    Headers(const Header *fields, std::size_t size) noexcept
        : data_(size != 0 ? &fields->raw_ : nullptr), size_(size) {}
    const grate_header *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

private:
    const grate_header *data_ = nullptr;
    std::size_t size_ = 0;
};

/// What became of a request; see grate_response. An outcome or an http_status is required.
struct Response {
    Outcome outcome = Outcome::from_http_status;
    int http_status = 0;
    std::optional<nanoseconds> latency{};     ///< Not given: since the lease was acquired; unknown for observe.
    std::optional<nanoseconds> retry_after{}; ///< How long the provider says to stay away.
    std::optional<std::uint64_t> requests{};  ///< Not given: 1
    std::optional<std::uint64_t> tokens{};    ///< Not given, here and below: as estimated.
    std::optional<std::uint64_t> input_tokens{};
    std::optional<std::uint64_t> output_tokens{};
    std::optional<std::uint64_t> bytes{};
    std::optional<std::uint64_t> cost_micro_usd{};
    Headers headers{}; ///< The response's fields, in any order: what they say of limits is believed.

    static Response http(int status, Headers headers = {}) noexcept {
        Response response;
        response.http_status = status;
        response.headers = headers;
        return response;
    }
};

namespace detail {

/// For an object that a call fills at once: of the 128 bytes of a decision only what the library reads is written.
struct Unfilled {};

/// What Decision and Candidate have in common.
template <class Raw> class Ranked {
public:
    Ranked() noexcept : raw_(init<Raw>()) {}
    /// The chosen provider; if nothing is available, the one that frees first. Empty if the capability is.
    Name provider() const noexcept { return Name(raw_.provider); }
    /// Weighted sum of the four components, each in [0, 1].
    double score() const noexcept { return raw_.score; }
    double quota_score() const noexcept { return raw_.quota_score; }
    double health_score() const noexcept { return raw_.health_score; }
    double priority_score() const noexcept { return raw_.priority_score; }
    double latency_score() const noexcept { return raw_.latency_score; }
    /// Until the first quota is spent if the present burn goes on; infinity if none will be.
    Seconds time_to_exhaustion() const noexcept { return Seconds(raw_.seconds_to_exhaustion); }
    /// Until it can take the request; 0 if it can now, `never` if waiting does not help.
    nanoseconds retry_after() const noexcept { return from_ns(raw_.retry_after_ns); }
    HeldBy held_by() const noexcept { return static_cast<HeldBy>(raw_.held_by); }
    /// Held by a quota or by concurrency: its dimension.
    std::optional<Dimension> held_dimension() const noexcept {
        if (raw_.held_dimension == 0) return std::nullopt;
        return static_cast<Dimension>(raw_.held_dimension);
    }
    /// Held by a quota: its window, else 0.
    nanoseconds held_window() const noexcept { return from_ns(raw_.held_window_ns); }

protected:
    explicit Ranked(Unfilled) noexcept { raw_.struct_size = static_cast<std::uint32_t>(sizeof(Raw)); }
    Raw raw_;
};

} // namespace detail

/// One provider of the capability, as a decision saw it.
class Candidate : public detail::Ranked<grate_candidate> {
public:
    /// Its place in the capability's list, from 0.
    std::uint32_t index() const noexcept { return raw_.index; }

private:
    friend class Engine;
};
static_assert(sizeof(Candidate) == sizeof(grate_candidate), "the library fills an array of them");

/// Where a decision lists all candidates: those that can be chosen, best first, then those that are held, soonest free
/// first. Allocates when it is made; reuse it.
class Candidates {
public:
    explicit Candidates(std::size_t capacity) : rows_(capacity) {}
    Candidates(const Candidates &other) = default;
    Candidates &operator=(const Candidates &other) = default;
    /// One that was moved from is empty, with no capacity.
    Candidates(Candidates &&other) noexcept
        : rows_(std::exchange(other.rows_, {})), size_(std::exchange(other.size_, 0)), total_(std::exchange(other.total_, 0)) {}
    Candidates &operator=(Candidates &&other) noexcept {
        rows_ = std::exchange(other.rows_, {});
        size_ = std::exchange(other.size_, 0);
        total_ = std::exchange(other.total_, 0);
        return *this;
    }
    const Candidate *begin() const noexcept { return rows_.data(); }
    const Candidate *end() const noexcept { return rows_.data() + size_; }
    const Candidate &operator[](std::size_t i) const noexcept { return rows_[i]; }
    std::size_t size() const noexcept { return size_; }
    /// How many providers the capability has: more than size() if they did not fit.
    std::size_t total() const noexcept { return total_; }

private:
    friend class Engine;
    std::vector<Candidate> rows_;
    std::size_t size_ = 0;
    std::size_t total_ = 0;
};

/// Where the next request goes, and why; or, if nothing is available, which provider frees first, when, and what holds it.
class Decision : public detail::Ranked<grate_decision> {
public:
    Decision() noexcept = default;

private:
    friend class Engine;
    explicit Decision(detail::Unfilled unfilled) noexcept : Ranked(unfilled) {}
};

/// A decision with a reservation. Going out of scope unsettled cancels it, as if nothing had been sent. So once the
/// request is on its way, settle it in every case: a client that gives up completes with Outcome::timeout or cancelled.
class [[nodiscard]] Lease : public detail::Ranked<grate_decision> {
public:
    Lease() noexcept = default;
    Lease(Lease &&other) noexcept : Ranked(other), engine_(other.engine_), id_(std::exchange(other.id_, 0)) {}
    Lease &operator=(Lease &&other) noexcept {
        Lease taken(std::move(other));
        std::swap(raw_, taken.raw_);
        std::swap(engine_, taken.engine_);
        std::swap(id_, taken.id_);
        return *this;
    }
    ~Lease() { drop(); }

    /// Whether there is something to settle.
    explicit operator bool() const noexcept { return id_ != 0; }
    std::uint64_t id() const noexcept { return id_; }
    /// Hands the lease on: from now on the id must be settled with Engine::complete or cancel.
    std::uint64_t release() noexcept { return std::exchange(id_, 0); }

    /// Settles it: the request was sent. A response that is refused (invalid_argument) leaves it unsettled.
    Status try_complete(const Response &response) noexcept;
    /// Gives it back: the request was not sent.
    Status try_cancel() noexcept;
#if GRATE_HAS_EXCEPTIONS
    void complete(const Response &response);
    void cancel();
#endif

private:
    friend class Engine;
    explicit Lease(detail::Unfilled unfilled) noexcept : Ranked(unfilled) {}
    void drop() noexcept {
        if (id_ != 0) grate_engine_cancel(engine_, std::exchange(id_, 0), nullptr);
    }
    static Status settled_before() noexcept { return {Code::stale_lease, "the lease was settled or released before"}; }
    void settled(const Status &status) noexcept {
        if (status.ok() || status.code() == Code::stale_lease) id_ = 0;
    }
    grate_engine *engine_ = nullptr;
    std::uint64_t id_ = 0;
};

/// One quota, as it stands.
struct QuotaState {
    Dimension dimension;
    Strategy strategy;
    std::uint64_t limit;
    nanoseconds window;
    std::uint64_t used;
    std::uint64_t remaining;
    double predicted_share;
    double burn_per_sec;
    Seconds time_to_exhaustion;
    Name pool; ///< Empty: the provider's own.
    std::uint64_t effective_limit; ///< The limit in force.
    LimitSource limit_source;      ///< Where it comes from.
    std::uint64_t margin;          ///< Units that are kept free of others who share the quota.
};

/// One provider, as it stands.
struct ProviderState {
    Circuit circuit;
    double health;
    nanoseconds cooldown_remaining;
    nanoseconds latency;
    std::uint32_t consecutive_failures;
    std::uint64_t leases_in_flight;
    std::uint64_t selects;
    std::uint64_t acquires;
    std::uint64_t completions;
    std::uint64_t cancellations;
    std::uint64_t expired_leases;
    std::uint64_t observations;
    std::uint64_t cooldowns_triggered;
    std::uint64_t rate_limited_responses;
    std::vector<QuotaState> quotas;
};

/// Counters of an engine: plain integers, as in grate.h.
using Metrics = grate_metrics;

#if GRATE_HAS_EXCEPTIONS

/// A call failed; what() says why.
class Error : public std::runtime_error {
public:
    explicit Error(const Status &status) : std::runtime_error(text(status)), code_(status.code()) {}
    Code status() const noexcept { return code_; }

private:
    static std::string text(const Status &status) {
        std::string text(to_string(status.code()));
        return text.append(": ").append(status.message());
    }
    Code code_;
};

class UnknownCapability : public Error { using Error::Error; };
class UnknownProvider : public Error { using Error::Error; };
class StaleLease : public Error { using Error::Error; };
/// The state file is damaged, not one, of another version, or cannot be opened.
class StateFileError : public Error { using Error::Error; };

/// Nothing can take the request now. Holds copies, for it may outlive the engine.
class NoProviderAvailable : public Error {
public:
    NoProviderAvailable(const Status &status, const detail::Ranked<grate_decision> &decision)
        : Error(status), retry_after_(decision.retry_after()), held_by_(decision.held_by()),
          held_dimension_(decision.held_dimension()), held_window_(decision.held_window()) {
        Name name = decision.provider();
        provider_[name.copy(provider_, sizeof provider_ - 1)] = '\0';
    }
    /// The provider that frees first; empty if the capability has none.
    std::string_view provider() const noexcept { return provider_; }
    nanoseconds retry_after() const noexcept { return retry_after_; }
    HeldBy held_by() const noexcept { return held_by_; }
    std::optional<Dimension> held_dimension() const noexcept { return held_dimension_; }
    nanoseconds held_window() const noexcept { return held_window_; }

private:
    char provider_[129];
    nanoseconds retry_after_;
    HeldBy held_by_;
    std::optional<Dimension> held_dimension_;
    nanoseconds held_window_;
};

namespace detail {
[[noreturn]] inline void raise(const Status &status, const Ranked<grate_decision> &decision = {}) {
    switch (status.code()) {
    case Code::unknown_capability: throw UnknownCapability(status);
    case Code::unknown_provider: throw UnknownProvider(status);
    case Code::stale_lease: throw StaleLease(status);
    case Code::state_file: throw StateFileError(status);
    case Code::no_provider_available: throw NoProviderAvailable(status, decision);
    default: throw Error(status);
    }
}
inline void check(const Status &status) {
    if (!status.ok()) raise(status);
}
} // namespace detail

#endif // GRATE_HAS_EXCEPTIONS

/// Providers, capabilities, quotas, health and leases. What each call does, and its errors: grate.h.
class Engine {
public:
    /// An engine to be filled by try_create; until then every call fails with null_pointer. A template, for it must be a nullptr:
    /// `{}` means a configuration.
    template <class Null, class = std::enable_if_t<std::is_same_v<Null, std::nullptr_t>>> explicit Engine(Null) noexcept {}
    Engine(Engine &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    Engine &operator=(Engine &&other) noexcept {
        Engine taken(std::move(other));
        std::swap(raw_, taken.raw_);
        return *this;
    }
    ~Engine() { grate_engine_free(raw_); }
    grate_engine *raw() const noexcept { return raw_; }

    static Status try_create(const EngineConfig &config, Engine &out) noexcept {
        auto raw = detail::init<grate_engine_config>();
        raw.clock = config.clock != nullptr ? config.clock->raw() : nullptr;
        raw.weight_quota = config.weight_quota;
        raw.weight_health = config.weight_health;
        raw.weight_priority = config.weight_priority;
        raw.weight_latency = config.weight_latency;
        raw.min_health_for_selection = config.min_health_for_selection;
        raw.ewma_alpha = config.ewma_alpha;
        raw.recovery_half_life_secs = config.recovery_half_life.count();
        raw.cooldown_trigger_count = config.cooldown_trigger_count;
        raw.cooldown_threshold = config.cooldown_threshold;
        raw.cooldown_multiplier = config.cooldown_multiplier;
        raw.max_cooldown_secs = config.max_cooldown.count();
        raw.lease_ttl_ns = detail::to_ns(config.lease_ttl);
        if (config.skew) raw.skew_ns = config.skew->count() == 0 ? GRATE_ZERO : detail::to_ns(*config.skew);
        raw.estimate_quantile = config.estimate_quantile;
        raw.max_retry_after_ns = detail::to_ns(config.max_retry_after);
        if (config.state_path.find('\0') != std::string::npos) return {Code::invalid_argument, "state_path contains a NUL"};
        if (!config.state_path.empty()) raw.state_path = config.state_path.c_str();
        raw.state_size = config.state_size;
        if (config.replace_unusable_state) raw.state_flags = GRATE_STATE_REPLACE_UNUSABLE;
        Engine made(nullptr);
        Status status;
        grate_engine_new(&raw, &made.raw_, status.raw());
        if (status.ok()) out = std::move(made);
        return status;
    }

    Status try_upsert_provider(const ProviderConfig &config) {
        std::vector<grate_quota_config> quotas;
        quotas.reserve(config.quotas.size());
        for (const QuotaConfig &quota : config.quotas) {
            auto raw = detail::init<grate_quota_config>();
            raw.dimension = static_cast<std::int32_t>(quota.dimension);
            raw.limit = quota.limit;
            raw.window_ns = detail::to_ns(quota.window);
            raw.strategy = static_cast<std::int32_t>(quota.strategy);
            raw.burst = quota.burst;
            raw.phase_ns = quota.phase.count();
            raw.pool = quota.pool.empty() ? nullptr : cstring_ref(quota.pool).c_str();
            quotas.push_back(raw);
        }
        auto raw = detail::init<grate_provider_config>();
        raw.name = cstring_ref(config.name).c_str();
        raw.priority = config.priority;
        raw.weight = config.weight;
        raw.cooldown_seconds = config.cooldown.count();
        raw.quotas = quotas.data();
        raw.quotas_len = quotas.size();
        Status status;
        grate_engine_upsert_provider(raw_, &raw, status.raw());
        return status;
    }

    Status try_upsert_capability(const CapabilityConfig &config) {
        std::vector<grate_capability_provider> providers;
        providers.reserve(config.providers.size());
        for (const CapabilityProvider &provider : config.providers) {
            auto raw = detail::init<grate_capability_provider>();
            raw.provider = cstring_ref(provider.provider).c_str();
            // As in detail::or_zero; what is so large is refused.
            if (provider.priority) raw.priority = *provider.priority - (*provider.priority + 1 < 2);
            providers.push_back(raw);
        }
        auto raw = detail::init<grate_capability_config>();
        raw.name = cstring_ref(config.name).c_str();
        raw.providers = providers.data();
        raw.providers_len = providers.size();
        Status status;
        grate_engine_upsert_capability(raw_, &raw, status.raw());
        return status;
    }

    Status try_remove_provider(cstring_ref name) noexcept {
        Status status;
        grate_engine_remove_provider(raw_, name.c_str(), status.raw());
        return status;
    }

    Status try_remove_capability(cstring_ref name) noexcept {
        Status status;
        grate_engine_remove_capability(raw_, name.c_str(), status.raw());
        return status;
    }

    Status try_configure_json(std::string_view json) noexcept {
        Status status;
        const char *text = json.data() != nullptr ? json.data() : "";
        grate_engine_configure_json(raw_, text, json.size(), status.raw());
        return status;
    }

    /// A look, not a promise: nothing is reserved.
    Status try_select(cstring_ref capability, const Request &request, Decision &out,
                      Candidates *candidates = nullptr) const noexcept {
        return route(grate_engine_select, capability, request, out.raw_, candidates);
    }

    /// Chooses and reserves. A lease that `out` still holds is cancelled first.
    Status try_acquire(cstring_ref capability, const Request &request, Lease &out,
                       Candidates *candidates = nullptr) noexcept {
        out.drop();
        Status status = route(grate_engine_acquire, capability, request, out.raw_, candidates);
        if (status.ok()) {
            out.engine_ = raw_;
            out.id_ = out.raw_.lease;
        }
        return status;
    }

    /// Settles a lease that was released; see Lease::complete.
    Status try_complete(std::uint64_t lease, const Response &response) noexcept {
        Status status;
        grate_response raw = to_raw(response);
        grate_engine_complete(raw_, lease, &raw, status.raw());
        return status;
    }

    Status try_cancel(std::uint64_t lease) noexcept {
        Status status;
        grate_engine_cancel(raw_, lease, status.raw());
        return status;
    }

    /// Reports a request that was sent without a lease.
    Status try_observe(cstring_ref provider, const Response &response) noexcept {
        Status status;
        grate_response raw = to_raw(response);
        grate_engine_observe(raw_, provider.c_str(), &raw, status.raw());
        return status;
    }

    Status try_provider_health(cstring_ref provider, double &out) const noexcept {
        Status status;
        grate_engine_provider_health(raw_, provider.c_str(), &out, status.raw());
        return status;
    }

    Status try_provider_in_cooldown(cstring_ref provider, bool &out) const noexcept {
        Status status;
        std::int32_t cooling = 0;
        grate_engine_provider_in_cooldown(raw_, provider.c_str(), &cooling, status.raw());
        if (status.ok()) out = cooling != 0;
        return status;
    }

    /// Units that may be reserved now, or `unlimited`.
    Status try_remaining_quota(cstring_ref provider, Dimension dimension, std::uint64_t &out) const noexcept {
        Status status;
        grate_engine_remaining_quota(raw_, provider.c_str(), static_cast<std::int32_t>(dimension), &out, status.raw());
        return status;
    }

    Status try_provider_state(cstring_ref provider, ProviderState &out) const {
        Status status;
        auto raw = detail::init<grate_provider_state>();
        std::vector<grate_quota_state> rows(32, detail::init<grate_quota_state>());
        for (;;) {
            raw.quotas = rows.data();
            raw.quotas_capacity = rows.size();
            grate_engine_provider_state(raw_, provider.c_str(), &raw, status.raw());
            if (!status.ok() || raw.quotas_total <= rows.size()) break;
            rows.resize(static_cast<std::size_t>(raw.quotas_total), rows.front());
        }
        if (!status.ok()) return status;
        out.circuit = static_cast<Circuit>(raw.circuit);
        out.health = raw.health;
        out.cooldown_remaining = detail::from_ns(raw.cooldown_remaining_ns);
        out.latency = detail::from_ns(raw.latency_ns);
        out.consecutive_failures = raw.consecutive_failures;
        out.leases_in_flight = raw.leases_in_flight;
        out.selects = raw.selects;
        out.acquires = raw.acquires;
        out.completions = raw.completions;
        out.cancellations = raw.cancellations;
        out.expired_leases = raw.expired_leases;
        out.observations = raw.observations;
        out.cooldowns_triggered = raw.cooldowns_triggered;
        out.rate_limited_responses = raw.rate_limited_responses;
        out.quotas.clear();
        for (std::size_t i = 0; i < raw.quotas_len; ++i) {
            const grate_quota_state &row = rows[i];
            out.quotas.push_back({static_cast<Dimension>(row.dimension), static_cast<Strategy>(row.strategy), row.limit,
                                  detail::from_ns(row.window_ns), row.used, row.remaining, row.predicted_share,
                                  row.burn_per_sec, Seconds(row.seconds_to_exhaustion), Name(row.pool), row.effective_limit,
                                  static_cast<LimitSource>(row.limit_source), row.margin});
        }
        return status;
    }

    Status try_metrics(Metrics &out) const noexcept {
        Status status;
        auto raw = detail::init<grate_metrics>();
        grate_engine_metrics(raw_, &raw, status.raw());
        if (status.ok()) out = raw;
        return status;
    }

    /// Metrics in the Prometheus text format; which, grate_engine_prometheus says.
    Status try_prometheus(std::string &out) const {
        Status status;
        std::string text;
        std::uint64_t len = 0;
        // It may grow between the call that asks for its length and the one that gets it.
        while (grate_engine_prometheus(raw_, text.data(), text.empty() ? 0 : text.size() + 1, &len, status.raw()) ==
               GRATE_ERR_BUFFER_TOO_SMALL) {
            text.resize(static_cast<std::size_t>(len) + 1);
        }
        if (!status.ok()) return status;
        text.resize(static_cast<std::size_t>(len));
        out = std::move(text);
        return status;
    }

#if GRATE_HAS_EXCEPTIONS
    explicit Engine(const EngineConfig &config = {}) { detail::check(try_create(config, *this)); }

    void upsert_provider(const ProviderConfig &config) { detail::check(try_upsert_provider(config)); }
    void upsert_capability(const CapabilityConfig &config) { detail::check(try_upsert_capability(config)); }
    void remove_provider(cstring_ref name) { detail::check(try_remove_provider(name)); }
    void remove_capability(cstring_ref name) { detail::check(try_remove_capability(name)); }
    void configure_json(std::string_view json) { detail::check(try_configure_json(json)); }

    Decision select(cstring_ref capability, const Request &request = {}, Candidates *candidates = nullptr) const {
        Decision out{detail::Unfilled()};
        Status status = try_select(capability, request, out, candidates);
        if (!status.ok()) detail::raise(status, out);
        return out;
    }
    Lease acquire(cstring_ref capability, const Request &request = {}, Candidates *candidates = nullptr) {
        Lease out{detail::Unfilled()};
        Status status = try_acquire(capability, request, out, candidates);
        if (!status.ok()) detail::raise(status, out);
        return out;
    }
    void complete(std::uint64_t lease, const Response &response) { detail::check(try_complete(lease, response)); }
    void cancel(std::uint64_t lease) { detail::check(try_cancel(lease)); }
    void observe(cstring_ref provider, const Response &response) { detail::check(try_observe(provider, response)); }

    double provider_health(cstring_ref provider) const {
        double out = 0;
        detail::check(try_provider_health(provider, out));
        return out;
    }
    bool provider_in_cooldown(cstring_ref provider) const {
        bool out = false;
        detail::check(try_provider_in_cooldown(provider, out));
        return out;
    }
    std::uint64_t remaining_quota(cstring_ref provider, Dimension dimension) const {
        std::uint64_t out = 0;
        detail::check(try_remaining_quota(provider, dimension, out));
        return out;
    }
    ProviderState provider_state(cstring_ref provider) const {
        ProviderState out{};
        detail::check(try_provider_state(provider, out));
        return out;
    }
    Metrics metrics() const {
        Metrics out{};
        detail::check(try_metrics(out));
        return out;
    }
    std::string prometheus() const {
        std::string out;
        detail::check(try_prometheus(out));
        return out;
    }
#endif

private:
    friend class Lease;

    static grate_response to_raw(const Response &response) noexcept {
        auto raw = detail::init<grate_response>();
        raw.outcome = static_cast<std::int32_t>(response.outcome);
        raw.http_status = response.http_status;
        raw.latency_ns = detail::or_zero(response.latency);
        raw.retry_after_ns = detail::or_zero(response.retry_after);
        raw.requests = detail::or_zero(response.requests);
        raw.tokens = detail::or_zero(response.tokens);
        raw.input_tokens = detail::or_zero(response.input_tokens);
        raw.output_tokens = detail::or_zero(response.output_tokens);
        raw.bytes = detail::or_zero(response.bytes);
        raw.cost_micro_usd = detail::or_zero(response.cost_micro_usd);
        raw.headers = response.headers.data();
        raw.headers_len = response.headers.size();
        return raw;
    }

    using Route = decltype(&grate_engine_select);
    Status route(Route call, cstring_ref capability, const Request &request, grate_decision &out,
                 Candidates *candidates) const noexcept {
        auto raw = detail::init<grate_request>();
        raw.tokens = detail::or_zero(request.tokens);
        raw.input_tokens = detail::or_zero(request.input_tokens);
        raw.output_tokens = detail::or_zero(request.output_tokens);
        raw.bytes = detail::or_zero(request.bytes);
        raw.cost_micro_usd = detail::or_zero(request.cost_micro_usd);
        raw.headroom = request.headroom;
        raw.exclude = request.exclude.data();
        raw.exclude_len = request.exclude.size();
        out.candidates = nullptr;
        out.candidates_capacity = 0;
        if (candidates != nullptr && !candidates->rows_.empty()) {
            out.candidates = &candidates->rows_.front().raw_;
            out.candidates_capacity = candidates->rows_.size();
        }
        Status status;
        call(raw_, capability.c_str(), &raw, &out, status.raw());
        // Else the library has not filled it.
        if (!status.ok() && status.code() != Code::no_provider_available) out = detail::init<grate_decision>();
        if (candidates != nullptr) {
            candidates->size_ = static_cast<std::size_t>(out.candidates_len);
            candidates->total_ = static_cast<std::size_t>(out.candidates_total);
            // A decision may be kept longer than the array.
            out.candidates = nullptr;
            out.candidates_capacity = 0;
        }
        return status;
    }

    grate_engine *raw_ = nullptr;
};

inline Status Lease::try_complete(const Response &response) noexcept {
    Status status; // the only thing that is returned: then it is made where the caller wants it, and not copied
    if (id_ == 0) {
        status = settled_before();
    } else {
        grate_response raw = Engine::to_raw(response);
        grate_engine_complete(engine_, id_, &raw, status.raw());
        settled(status);
    }
    return status;
}

inline Status Lease::try_cancel() noexcept {
    Status status;
    if (id_ == 0) {
        status = settled_before();
    } else {
        grate_engine_cancel(engine_, id_, status.raw());
        settled(status);
    }
    return status;
}

#if GRATE_HAS_EXCEPTIONS
inline void Lease::complete(const Response &response) { detail::check(try_complete(response)); }
inline void Lease::cancel() { detail::check(try_cancel()); }
#endif

} // namespace grate

#endif // GRATE_HPP
