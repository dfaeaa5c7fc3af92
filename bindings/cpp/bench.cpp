/*
 * The price of a call: one line, `bench<TAB>C++<TAB>empty<TAB>cycle`, in nanoseconds. empty is one grate_version through the
 * shared library, cycle one acquire and complete through grate.hpp; both are the medians of batches that take turns.
 *
 *   bench CONFIGURATION.json
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <grate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int calls = 500; // as few as in bench.c
constexpr auto duration = std::chrono::seconds(3);

template <class Work> double batch(Work work) {
    auto begin = Clock::now();
    for (int i = 0; i < calls; ++i) work();
    return std::chrono::duration<double, std::nano>(Clock::now() - begin).count() / calls;
}

/// Without the first tenth, in which everything warms up.
double median(std::vector<double> values) {
    values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 10));
    auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

} // namespace

int main(int argc, char **argv) {
    try {
        std::ifstream file(argc > 1 ? argv[1] : "");
        grate::Engine engine;
        engine.configure_json(std::string{std::istreambuf_iterator<char>(file), {}});
        grate::Request request;
        request.tokens = 100;
        grate::Response response = grate::Response::http(200);
        response.tokens = 100;

        std::vector<double> empty, cycle;
        volatile std::uint32_t version = 0;
        for (auto end = Clock::now() + duration; Clock::now() < end;) {
            empty.push_back(batch([&] { version = grate_version(); }));
            cycle.push_back(batch([&] { engine.acquire("chat", request).complete(response); }));
        }
        std::printf("bench\tC++\t%.1f\t%.1f\n", median(std::move(empty)), median(std::move(cycle)));
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "bench: %s\n", error.what());
        return 1;
    }
}
