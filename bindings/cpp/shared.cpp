// Engines whose state is in a file: forked children, and a restart, have one quota.
#include "grate.hpp"

#include "check.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using grate::Code;

namespace {

// A path that is free, and is free again in the end.
struct Place {
    std::string folder, path;

    Place() {
        char name[] = "/tmp/grate-shared-XXXXXX";
        if (mkdtemp(name) == nullptr) std::abort();
        folder = name;
        path = folder + "/state";
    }
    ~Place() {
        std::remove(path.c_str());
        rmdir(folder.c_str());
    }
    grate::EngineConfig config() const {
        grate::EngineConfig config;
        config.state_path = path;
        return config;
    }
};

// Serves "api" by 1000 requests an hour, of which 3 may be in flight.
void serve(grate::Engine &engine) {
    grate::QuotaConfig requests, slots;
    requests.limit = 1000;
    requests.window = 1h;
    slots.dimension = grate::Dimension::concurrency;
    slots.limit = 3;
    engine.upsert_provider({"only", 1, {requests, slots}});
    engine.upsert_capability({"api", {{"only"}}});
}

int served(grate::Engine &engine, int most = 1000000) {
    for (int count = 0;; ++count) {
        if (count == most) return count;
        grate::Lease lease;
        if (!engine.try_acquire("api", {}, lease).ok()) return count;
        lease.complete(grate::Response::http(200));
    }
}

// What a forked child returns, which must be below 256.
template <class Work> int in_child(Work work) {
    pid_t child = fork();
    if (child == 0) _exit(work());
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

} // namespace

TEST(children_use_the_engine_of_their_parent) {
    Place place;
    grate::Engine engine(place.config());
    serve(engine);
    for (int i = 0; i < 3; ++i) CHECK_EQ_U64(in_child([&] { return served(engine, 100); }), 100);
    // One that dies with leases in flight does not hold their slots until they expire.
    CHECK_EQ_U64(in_child([&] { return int(engine.acquire("api").release() == 0 || engine.acquire("api").release() == 0); }), 0);
    for (int i = 0; i < 1000 && engine.remaining_quota("only", grate::Dimension::concurrency) < 3; ++i)
        std::this_thread::sleep_for(20ms);
    CHECK_EQ_U64(engine.remaining_quota("only", grate::Dimension::concurrency), 3);
    CHECK_EQ_U64(served(engine), 698);
    CHECK_EQ_U64(in_child([&] { return served(engine); }), 0);
    CHECK_EQ_U64(in_child([&] { grate::Engine(std::move(engine)); return 7; }), 7);
    CHECK_EQ_U64(engine.metrics().completions, 998);
}

TEST(children_open_the_file) {
    Place place;
    grate::Engine engine(place.config());
    serve(engine);
    std::array<pid_t, 4> children;
    for (pid_t &child : children) {
        child = fork();
        if (child == 0) {
            grate::Engine own(place.config());
            serve(own);
            _exit(served(own, 200) != 200);
        }
    }
    for (pid_t child : children) {
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK_EQ_U64(served(engine), 200);
}

TEST(a_restart_keeps_the_usage) {
    Place place;
    {
        grate::Engine engine(place.config());
        serve(engine);
        CHECK_EQ_U64(served(engine, 400), 400);
    }
    grate::Engine engine(place.config());
    serve(engine);
    CHECK_EQ_U64(served(engine), 600);
}

TEST(a_file_that_cannot_be_used) {
    Place place;
    std::FILE *file = std::fopen(place.path.c_str(), "w");
    CHECK(file != nullptr && std::fputs("something else", file) >= 0 && std::fclose(file) == 0);
    grate::EngineConfig config = place.config();
    bool thrown = false;
    try {
        grate::Engine engine(config);
    } catch (const grate::StateFileError &error) {
        thrown = error.status() == Code::state_file && std::string(error.what()).find(place.path) != std::string::npos;
    }
    CHECK(thrown);
    CHECK_STR(to_string(Code::state_file), "GRATE_ERR_STATE_FILE");

    config.replace_unusable_state = true;
    config.state_size = 1 << 20;
    grate::Engine engine(config);
    serve(engine);
    CHECK_EQ_U64(served(engine), 1000);

    grate::Engine other(nullptr);
    config.state_path += "2";
    config.state_size = 1;
    CHECK(grate::Engine::try_create(config, other).code() == Code::invalid_config);
    config.state_path.push_back('\0');
    CHECK(grate::Engine::try_create(config, other).code() == Code::invalid_argument);
}

int main() {
    RUN(children_use_the_engine_of_their_parent);
    RUN(children_open_the_file);
    RUN(a_restart_keeps_the_usage);
    RUN(a_file_that_cannot_be_used);
    return check_report("shared");
}
