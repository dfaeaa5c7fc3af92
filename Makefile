# make help tells what each target does.

CARGO ?= cargo
CC ?= cc
CFLAGS ?= -O2
PREFIX ?= /usr/local
DESTDIR ?=
SOAK_MINUTES ?= 10
# Where cargo builds; absolute, because programs find the library there at run time.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
LIB := $(TARGET)/release
# The same sources and tools give the same bytes, wherever they and cargo lie: no path of this machine gets into the library.
REMAP = --remap-path-prefix=$(CURDIR)=/libgrate --remap-path-prefix=$(TARGET)=/libgrate/target \
	--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo \
	--remap-path-prefix=$$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$$(rustc -vV | sed -n 's/^commit-hash: //p')
BIN := $(TARGET)/c

WARN := -std=c99 -Wall -Wextra -Wpedantic -Werror
LINK := -L$(LIB) -lgrate -Wl,-rpath,$(LIB)

LANGUAGES := cpp go java node python ruby

.PHONY: all demo demo-http demo-workers demo-top test test-bindings test-shared $(LANGUAGES:%=test-%) sanitize abi-check fuzz \
	fuzz-proof bench bench-check bench-bindings soak model-check top sim fmt lint header reproducible deny advisories install \
	uninstall clean help

all: ## build libgrate.so and libgrate.a
	@# Not `cargo build`: beside an rlib, which only tests need, cargo leaves link-time optimisation out. The hot calls are long
	@# chains of small functions: inlined without the usual limit, they take an eighth fewer instructions.
	RUSTFLAGS="$(RUSTFLAGS) $(REMAP)" $(CARGO) rustc --release --lib --crate-type cdylib,staticlib -- \
		-C llvm-args=--inline-threshold=1000
	@# Programs ask for the SONAME, which cargo knows nothing of.
	@test ! -f $(LIB)/libgrate.so || ln -sf libgrate.so $(LIB)/libgrate.so.0

# In a target directory of its own, see below.
top: ## build grate-top, which shows a state file
	RUSTFLAGS="$(RUSTFLAGS) $(REMAP)" $(CARGO) build --release -q -p grate-top --target-dir $(TARGET)/top
	@mkdir -p $(LIB)
	cp $(TARGET)/top/release/grate-top $(LIB)/grate-top

demo: all ## tell the story of the library on a mock clock
	@mkdir -p $(BIN)
	$(CC) $(CFLAGS) $(WARN) -Iinclude examples-c/quickstart.c -o $(BIN)/quickstart $(LINK)
	@echo
	@$(BIN)/quickstart

demo-http: all ## the same load on real HTTP upstreams, with plain failover and with libgrate (needs nginx and libcurl)
	@scripts/demo-http.sh --check
	@mkdir -p $(BIN)
	$(CC) $(CFLAGS) $(WARN) -Iinclude $$(curl-config --cflags) examples-c/http/demo_http.c -o $(BIN)/demo_http $(LINK) $$(curl-config --libs) -lm
	scripts/demo-http.sh $(BIN)/demo_http

demo-workers: all ## Puma and gunicorn with four workers each: quotas in each worker, and in one state file (SERVERS="puma gunicorn")
	@TARGET="$(TARGET)" scripts/demo-workers.sh $(or $(SERVERS),puma gunicorn)

demo-top: all top ## worker processes that share a state file, in grate-top (FRAMES="4 9": what it shows at these seconds, needs tmux)
	@mkdir -p $(BIN)
	$(CC) $(CFLAGS) $(WARN) -Iinclude examples-c/workers.c -o $(BIN)/workers $(LINK)
	@scripts/demo-top.sh $(BIN)/workers $(LIB)/grate-top $(FRAMES)

test: all top ## all tests that the installed tools allow; STRICT=1 makes a skipped test a failure
	@CARGO="$(CARGO)" CC="$(CC)" TARGET="$(TARGET)" STRICT="$(STRICT)" scripts/test.sh

test-shared: all ## what processes do that share a state file, in its long form: minutes
	@CC="$(CC)" TARGET="$(TARGET)" STRICT="$(STRICT)" scripts/test-shared.sh

test-bindings: all ## the tests of the language bindings; test-cpp, -go, -java, -node, -python and -ruby are those of one
	@TARGET="$(TARGET)" STRICT="$(STRICT)" scripts/test-bindings.sh $(LANGUAGES)

$(LANGUAGES:%=test-%): test-%: all
	@TARGET="$(TARGET)" STRICT="$(STRICT)" scripts/test-bindings.sh $*

sanitize: all ## the C tests with sanitizers in programs and library, and under valgrind (needs rust-src)
	@CARGO="$(CARGO)" CC="$(CC)" TARGET="$(TARGET)" STRICT="$(STRICT)" scripts/sanitize.sh

abi-check: all ## compare the header and the library with packaging/abi/baseline.txt, which UPDATE=1 rewrites
	@CC="$(CC)" UPDATE="$(UPDATE)" scripts/abi-check.sh $(LIB)/libgrate.so

fuzz: ## random input until FUZZ_SECONDS (60) are over, for each target or FUZZ_TARGET (needs cargo-fuzz)
	@CARGO="$(CARGO)" TARGET="$(TARGET)" STRICT="$(STRICT)" FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ_TARGET="$(FUZZ_TARGET)" \
		scripts/fuzz.sh

fuzz-proof: ## plant bugs in a copy of the sources and see that fuzzing finds them (needs cargo-fuzz)
	@CARGO="$(CARGO)" TARGET="$(TARGET)" scripts/fuzz-proof.sh

# bench, sim and top have a target directory of their own: another crate there asks for other features of shared dependencies,
# or for the rlib, and cargo would build the library anew, without link-time optimisation.
bench: COMPETITORS := $(TARGET)/bench/release
bench: SOURCES := $(filter-out %/count.c,$(wildcard tools/bench/*.c))
bench: all ## time the hot calls beside competitors, and tell which targets are met (QUICK=1: in a few seconds)
	$(CARGO) build --release -q -p competitors --target-dir $(TARGET)/bench
	@mkdir -p $(BIN)
	$(CC) $(CFLAGS) $(WARN) -Iinclude $(SOURCES) -o $(BIN)/bench $(LINK) -pthread \
		-L$(COMPETITORS) -lcompetitors -Wl,-rpath,$(COMPETITORS)
	$(BIN)/bench $(if $(QUICK),--quick) --json $(TARGET)/bench.json

bench-check: SOURCES := $(addprefix tools/bench/,count.c library.c workload.c)
bench-check: all ## compare the instructions of the hot calls with tools/bench/baseline.txt, which UPDATE=1 rewrites (needs valgrind)
	@mkdir -p $(BIN)
	$(CC) $(CFLAGS) $(WARN) -Iinclude $(SOURCES) -o $(BIN)/bench-count $(LINK)
	@STRICT="$(STRICT)" UPDATE="$(UPDATE)" scripts/bench-check.sh $(BIN)/bench-count

bench-bindings: all ## what a call costs in each language, beside C (ROUNDS=1: in a minute)
	@CC="$(CC)" TARGET="$(TARGET)" $(if $(ROUNDS),ROUNDS="$(ROUNDS)") scripts/bench-bindings.sh $(LANGUAGES)

soak: SOURCES := $(filter-out %_test.c,$(wildcard tools/soak/*.c))
soak: all ## all calls on eight threads for SOAK_MINUTES (10): memory, counters, and every window recounted
	@mkdir -p $(BIN)
	$(CC) $(CFLAGS) $(WARN) -Iinclude $(SOURCES) -o $(BIN)/soak $(LINK) -pthread
	$(BIN)/soak --minutes $(SOAK_MINUTES)

model-check: ## the locks, in all orders in which threads may take their steps
	$(CARGO) run -q -p model

sim: ## simulate routers on a mock clock, libgrate among them: tables, and charts into docs/sim (SIM="--seed 2")
	$(CARGO) run --release -q -p sim --target-dir $(TARGET)/sim -- $(SIM)

fmt: ## format the sources
	$(CARGO) fmt --all

lint: ## formatting, clippy and rustdoc, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --document-private-items

header: ## write include/grate.h from the sources
	$(CARGO) run -q -p header -- include/grate.h

reproducible: all ## build once more elsewhere, and compare the libraries byte for byte
	scripts/reproducible.sh $(LIB)

deny: ## licences, sources and duplicates of the dependencies, by deny.toml (needs cargo-deny)
	$(CARGO) deny --workspace check -D warnings bans licenses sources

advisories: ## known weaknesses of the dependencies (needs cargo-deny, and asks GitHub)
	$(CARGO) deny --workspace check advisories

install: ## install library, headers, pkg-config and CMake files and grate-top below DESTDIR and PREFIX
	@# Who installs may have no cargo, as under sudo: then what is built already.
	@! command -v $(CARGO) >/dev/null || $(MAKE) all top
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh install $(LIB)

uninstall: ## remove what install installed
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh uninstall $(LIB)

clean: ## remove all that was built
	$(CARGO) clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16
