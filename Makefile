# The verbs of this repository: people, CI and hooks use the same. Each installs what it lacks (images/prepare).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
APPLIANCE ?= agent
BASE ?= debian
DEBUG ?= 0

SHELL_SCRIPTS = $(shell git ls-files -z | xargs -0 grep -lsE '^\#!/bin/(ba)?sh|^\# shellcheck shell=' --)
IMAGES = target/images

.PHONY: help check unit test e2e image guest-image tiny-guest test-images demo bench

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## formatting, clippy, shellcheck, shfmt, dependency table
	images/prepare check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	shellcheck -x $(SHELL_SCRIPTS)
	shfmt -d $(SHELL_SCRIPTS)
	cargo test --locked --package qemu-tests --test dependencies

unit: ## tests that need no virtual machine; the tunnel's need root, or sudo without a password
	images/prepare unit image
	images/base tunnel debian >/dev/null
	images/run-tests --workspace --exclude qemu-tests
	images/run-tests --package qemu-tests --lib --test dependencies
	$(MAKE) -C initrd-module test

test: check unit e2e ## everything; builds the images that it needs

e2e: test-images ## behaviours of the booted images, in QEMU
	images/prepare e2e
	images/run-tests --package qemu-tests --tests

image: ## APPLIANCE=agent|panel|tunnel BASE=debian [DEBUG=1]: a flashable disk image
	images/prepare image
	images/build $(APPLIANCE) $(BASE) $(DEBUG)

guest-image: ## the disk image that test devices boot
	images/prepare image
	images/guest/build

tiny-guest: ## a kernel with a shell, on which the harness proves itself
	images/prepare e2e
	qemu-tests/tiny-guest/build $(IMAGES)/tiny

test-images: guest-image tiny-guest
	images/prepare image
	images/build agent debian 0
	images/build agent debian 1
	images/build panel debian 0
	images/build panel debian 1
	images/build tunnel debian 0
	images/build tunnel debian 1

demo: test-images ## a panel, a tunnel, an agent and a device on three LANs, step by step, and the console (ONCE=1: exit when the device is up)
	images/prepare e2e
	cargo run --release --locked --package qemu-tests --bin demo

# The panel's figures take no image and no machine, and the others take no panel.
BENCH_IMAGES = $(if $(filter panel%,$(ONLY)),,bench-images)
BENCH_PANEL = $(if $(filter-out panel%,$(ONLY)),,bench-panel)

.PHONY: bench-images bench-panel
bench-images: test-images
	images/prepare e2e bench image
	images/base tunnel debian >/dev/null

bench-panel:
	images/prepare compile
	cargo test --release --locked --package clusterducks-panel --test figures --no-run

bench: $(BENCH_IMAGES) $(BENCH_PANEL) ## measures, prints `name value unit`, writes target/bench.json (ONLY=prefix)
	cargo build --release --locked --package clusterducks-agent
	cargo run --release --locked --package qemu-tests --bin bench
