/*
 * A million requests take no more memory than a hundred thousand.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <grate.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>

namespace {

long resident_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (long kib; word == "VmRSS:" && status >> kib) return kib;
    throw std::runtime_error("no VmRSS in /proc/self/status");
}

void run(grate::Engine &engine, int times) {
    const std::array<grate::Header, 2> headers = {grate::Header("x-ratelimit-limit-requests", "1000000000"),
                                                  grate::Header("x-ratelimit-remaining-requests", "999999999")};
    grate::Request request;
    request.tokens = 100;
    for (int i = 0; i < times; ++i) {
        grate::Lease lease = engine.acquire("chat", request);
        grate::Response response = grate::Response::http(200);
        response.tokens = 90;
        if (i % 10 == 0) response.headers = headers;
        if (i % 100 == 1) continue; // cancelled
        lease.complete(response);
    }
}

} // namespace

int main(int argc, char **argv) {
    try {
        std::ifstream file(argc > 1 ? argv[1] : "");
        grate::Engine engine;
        engine.configure_json(std::string{std::istreambuf_iterator<char>(file), {}});
        run(engine, 100000);
        long before = resident_kib();
        run(engine, 900000);
        long grown = resident_kib() - before;
        std::printf("a million requests: %ld KiB more\n", grown);
        return grown < 4096 && engine.metrics().leases_in_flight == 0 ? 0 : 1;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "leak: %s\n", error.what());
        return 1;
    }
}
