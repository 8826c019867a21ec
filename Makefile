# `make run` and `make test` need nothing but make, a C compiler, a Rust toolchain and root or sudo: what else they
# need is found or installed, and runs privately (src/dev/).

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
WATCHBELL := $(CARGO_TARGET_DIR)/debug/watchbell

.DEFAULT_GOAL := help
.PHONY: help run build test prove bench check

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

run: build ## start everything with a demo in it; Ctrl-C stops it, data are kept
	@exec $(WATCHBELL) dev up

build:
	$(CARGO) build --locked

# Most tests wait for a server or a process: more of them at once than there are processors.
export RUST_TEST_THREADS ?= 8

test: build ## run all tests against throw-away servers; ARGS="name" runs some
	$(WATCHBELL) dev exec -- $(CARGO) test --locked $(ARGS)

prove: build ## kill the service for a minute and check its promises; ARGS="--scenario flood" for others
	$(WATCHBELL) prove $(ARGS)

# What `make bench` measures.
BENCH ?= ingest detect outbox delivery

bench: ## measure the service beside its limits (a release build; some minutes); BENCH=detect ARGS="--quick"
	$(CARGO) build --release --locked
	set -e; for what in $(BENCH); do $(CARGO_TARGET_DIR)/release/watchbell bench $$what $(ARGS); done

check: ## format, lints and documentation, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
