# SPDX-License-Identifier: BSD-3-Clause
# Front door. The build itself is CMake's: see CMakePresets.json, `cmake --list-presets`, docs/BUILDING.md.
# make test RDMA=0: without the tests that start a kernel with RDMA devices (docs/RDMA-TESTING.md).
# make SETUP=no ...: never look for or install packages. make JOBS=N ...: build with N processes.
SETUP  ?= yes
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
RDMA   ?= 1

DEMO_MODEL = llama-3.1-8b
DEMO_ARGS  = --layers 4 --speed max

ifeq ($(SETUP),yes)
setup = @.ci/setup
else
setup = @: not checked:
endif

# What the tests need. Those on a kernel with RDMA devices are left out by RDMA=0, and skip what cannot be had.
define setup_tests
	$(setup) build test
	$(if $(filter 0 no,$(RDMA)),,$(setup) --try rdma $$(tests/rdma/vm --have || echo rdma-build))
endef
run_tests = @JOBS=$(JOBS) TEST_RDMA=$(if $(filter 0 no,$(RDMA)),0,1) sh tests/run.sh

# $(call build,PRESET): configure (only if never done; ninja does it again when a CMake file changed) and build.
define build
	@command -v cmake >/dev/null 2>&1 || { echo "cmake is not installed: 'make setup' installs what mc needs" >&2; exit 1; }
	@d=$$(sh tests/preset_dir.sh $(1)); \
	if [ ! -f $$d/build.ninja ]; then \
		cmake --preset $(1) || { rm -f $$d/CMakeCache.txt; \
			echo "configuring failed: if a library is missing, 'make setup' installs what mc needs" >&2; exit 1; }; \
	fi
	@cmake --build --preset $(1) -j $(JOBS)
endef

.PHONY: all setup demo test test-release test-asan test-tsan test-matrix rdma-shell asan tsan debug clang fuzz format install clean help

all: ## build: programs into build/bin, libraries into build/lib
	$(call build,release)

setup: ## install the packages that are missing (docs/BUILDING.md)
	@.ci/setup build test
	@.ci/setup --try rdma rdma-build

demo: ## set up, build, and run the main job: two prefill and two decode ranks replay a request trace
	$(setup) build
	$(call build,release)
	build/bin/mcrun --prefill 2 --decode 2 mcperf replay --trace examples/sample_trace.jsonl \
		--model $(DEMO_MODEL) $(DEMO_ARGS)

test: ## set up, build and run every test: release, then under address+undefined, then under thread sanitizer
	$(setup_tests)
	$(run_tests) release asan tsan

test-release: ## only the release part of `make test`
	$(setup_tests)
	$(run_tests) release

test-asan: ## only the address and undefined behaviour sanitizer part
	$(setup) build test
	@JOBS=$(JOBS) sh tests/run.sh asan

test-tsan: ## only the thread sanitizer part
	$(setup) build test
	@JOBS=$(JOBS) sh tests/run.sh tsan

test-matrix: ## configure, build and test libmc with each optional library switched off in turn, gcc and clang
	@JOBS=$(JOBS) sh tests/test_matrix.sh

rdma-shell: all ## a shell on a kernel that has RDMA devices; RDMA_VM="--wires 2": options (tests/rdma/vm --help)
	$(setup) --try rdma $$(tests/rdma/vm --have || echo rdma-build)
	@tests/rdma/vm $(RDMA_VM)

asan: ## build with address and undefined behaviour sanitizer into build-asan/
	$(call build,asan)

tsan: ## build with thread sanitizer into build-tsan/
	$(call build,tsan)

debug: ## build without optimisation into build-debug/
	$(call build,debug)

clang: ## build with clang into build-clang/, warnings are errors as with gcc
	$(call build,clang)

fuzz: ## run each fuzz target for FUZZ_SECONDS (60) with libFuzzer (needs clang)
	$(call build,fuzz)
	@sh tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS)

format: ## clang-format on the C lines that differ from the last commit
	@command -v git-clang-format >/dev/null || { echo "git-clang-format is not installed (package clang-format)" >&2; exit 1; }
	@git clang-format --extensions c,h HEAD; [ $$? -le 1 ] # 1: it changed something

install: all ## install into PREFIX (/usr/local); DESTDIR is honoured
	DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX)

clean: ## remove everything that was built
	rm -rf build build-asan build-tsan build-debug build-clang build-fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '  make %-13s %s\n' "$$t" "$$d"; done
