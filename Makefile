# The front door: every target first installs what it lacks (apt; elsewhere it says what to install), then calls CMake.
#   make build CXX=clang++        another compiler (BUILD=build-clang keeps both); WERROR=ON makes warnings errors
#   make test-model MODEL=DIR     a checkpoint of yours beside transformers
#   make build CUDA=1             in build-cuda, with the kernels of CUDA devices; LATHE_CUDA_ARCHITECTURES=90-real: images for one alone
#   make build DEPENDENCIES=DIR   with the libraries that scripts/collect_dependencies.sh unpacked elsewhere; nothing is installed
#   make demo QUESTION="..."      make fuzz SECONDS=60      make install PREFIX=/usr/local
SHELL    := /bin/bash
CUDA     ?= 0
BUILD    ?= build$(if $(filter 1,$(CUDA)),-cuda)
PREFIX   ?= /usr/local
SECONDS  ?= 60
JOBS     ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
QUESTION ?= What is the capital of France?
WERROR   ?= OFF
DEPENDENCIES ?=
export CXX QUESTION BUILD DEPENDENCIES
LATHE_CUDA_ARCHITECTURES ?=

need      = @scripts/install_dependencies.sh
configure = @scripts/configure.sh
warnings  = -DLATHE_WERROR=$(WERROR)
options   = $(warnings) $(if $(filter 1,$(CUDA)),-DLATHE_CUDA=ON $(LATHE_CUDA_ARCHITECTURES:%='-DLATHE_CUDA_ARCHITECTURES=%'))
debug     = -DCMAKE_BUILD_TYPE=Debug $(warnings)
# The environment of the reference where it is there already: it can make the demo model's F16 copy.
reference_python = $(or $(wildcard .venv-reference/bin/python),python3)
compile   = @cmake --build $(1) -j $(JOBS) --target $(2)

.PHONY: help deps build demo train-demo stories test test-model test-python test-serve notebooks bench lint format reference asan tsan fuzz check-cuda check-arm gpu-check check-long install clean

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps:  ## install every tool and library that any target needs
	$(need) build test lint fuzz demo reference python mpi serve

build:  ## build/lathe and liblathe
	$(need) build test serve
	$(configure) $(BUILD) $(options)
	$(call compile,$(BUILD),all)

demo:  ## fetch SmolLM2-135M-Instruct and ask it QUESTION
	$(need) build demo
	$(configure) $(BUILD) $(options)
	@[ -x $(BUILD)/lathe ] || echo "Compiling build/lathe (some minutes on two cores, once; each line is a step):"
	$(call compile,$(BUILD),lathe_cli)
	@scripts/demo.sh "$$QUESTION"

train-demo: build  ## train a small model on the repository's own text, in about a minute
	@scripts/train_demo.sh

stories: build  ## train the repository's own model anew, into examples/stories, in some minutes
	@scripts/train_demo.sh whole

test: build  ## all tests that take seconds
	$(call compile,$(BUILD),tests)
	@scripts/run_tests.sh $(BUILD)

test-model: build  ## models, vocabularies, templates and scores beside the reference libraries, live; MODEL=DIR: one checkpoint of yours
	$(need) reference
	@$(if $(MODEL),. scripts/reference.sh && scripts/test_model.py "$(MODEL)" --lathe $(BUILD)/lathe,scripts/acceptance.sh compare text scores)

test-python:  ## the Python package as a stranger installs it: README's example, tests/python
	$(need) build demo reference python
	@scripts/fetch_model.py
	@WERROR=$(WERROR) scripts/test_python.sh

test-serve: build  ## the server, asked by the standard library, the official clients and a browser, on the demo model
	$(need) demo clients
	@scripts/fetch_model.py
	@$(BUILD)/clients/bin/python -c 'import openai, anthropic, agents, playwright' 2>/dev/null || \
	  { python3 -m venv $(BUILD)/clients && $(BUILD)/clients/bin/pip install -q openai anthropic openai-agents playwright; }
	@failed=0; for check in serve serve_tools deployment page; do \
	  $(BUILD)/clients/bin/python scripts/check_$$check.py $(BUILD)/lathe || failed=1; \
	done; exit $$failed

notebooks:  ## notebooks/ executed anew, their claims checked, their output kept
	$(need) build demo reference python
	@scripts/fetch_model.py
	@scripts/run_notebooks.sh

bench: build  ## kernels and demo model beside the machine's ceilings, into docs/performance.md: for a quiet machine
	$(need) demo
	$(call compile,$(BUILD),bench_kernels)
	@scripts/fetch_model.py
	@$(reference_python) scripts/write_performance.py --build $(BUILD)

lint:  ## include table, banned conditionals, clang-format, clang-tidy (which remembers what it found clean)
	$(need) build test lint serve
	$(configure) $(BUILD) $(options)
	$(call compile,$(BUILD),lathe_headers_hash)
	@scripts/lint.py --build $(BUILD)
	@scripts/test_lint.py

format:  ## clang-format every source in place
	$(need) lint
	@git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format -i

reference: build  ## the Python environment of the reference (.venv-reference); goldens computed anew; every family compared, into docs/reference.md
	$(need) reference
	@. scripts/reference.sh && python scripts/make_goldens.py --check && python scripts/write_reference.py --lathe $(BUILD)/lathe && python scripts/check_export.py $(BUILD)/lathe --quick

# Compiled by clang, the fuzzers' build is also the one for the address sanitizer's tests.
asan_options = -DLATHE_SANITIZE=address,undefined -DLATHE_FUZZ=$(if $(findstring clang,$(1)),ON,OFF) $(debug)

asan:  ## every test under the address and undefined-behaviour sanitizers
	$(need) build test serve
	$(configure) build-asan $(call asan_options,$(CXX))
	$(call compile,build-asan,tests)
	@scripts/run_tests.sh build-asan

tsan:  ## the thread team, kernels (emulated CUDA kernels too), engine, server and the binding's classes under the thread sanitizer
	$(need) build test serve
	$(configure) build-tsan -DLATHE_SANITIZE=thread $(debug)
	$(call compile,build-tsan,test_tensor test_kernels test_simt test_cuda test_generate test_serve test_python_binding)
	@scripts/run_tests.sh build-tsan -R '^(tensor/|simt/|cuda/|generate/|serve/|python_binding/|kernels/test_(threads|packed_linear|paged_attention))' -E 'test_(laws|random_schedules)'

fuzz:  ## each fuzzer for SECONDS, from the kept corpus
	$(need) build test fuzz
	@CXX=clang++ scripts/configure.sh build-asan $(call asan_options,clang++)
	$(call compile,build-asan,fuzzers)
	@scripts/fuzz.sh build-asan $(SECONDS)

check-cuda: build  ## CUDA kernels compiled by nvcc for every architecture: no warning, no spill; the program with CUDA on a machine without a GPU
	@scripts/check_cuda.py --all
	@scripts/check_cuda_build.sh $(BUILD)

check-arm:  ## the program for AArch64 cross-built (Debian), its tests in qemu on every instruction set
	@WERROR=$(WERROR) scripts/check_arm.sh

gpu-check:  ## on a machine with a GPU: kernels and models on it, then their speed, into docs/benchmarks/gpu; PART=1 or 2 alone
	@scripts/gpu_check.py $(PART:%=--part %)

check-long: test lint asan tsan fuzz reference test-model test-python test-serve check-cuda  ## everything, speeds too, in about two hours and a half: for a quiet machine
	@$(BUILD)/test_device "[long]"
	@scripts/mutate_kernels.py --builds $(BUILD) build-asan build-tsan
	$(need) demo
	@scripts/fetch_model.py
	@scripts/check_demo.py $(BUILD)/lathe --timed
	@scripts/fuzz.sh build-asan 200 serve
	@scripts/check_serve_load.py $(BUILD)/lathe --minutes 60
	@scripts/check_lm_eval.sh $(BUILD)
	@. scripts/reference.sh && scripts/check_tokenizers.py $(BUILD)/lathe --long && scripts/check_evaluation.py $(BUILD)/lathe --long
	@. scripts/reference.sh && scripts/check_long_context.py $(BUILD)/lathe
	@. scripts/reference.sh && scripts/check_export.py $(BUILD)/lathe && scripts/check_plan.py $(BUILD)/lathe --all
	@. scripts/reference.sh && scripts/check_training.py --lathe $(BUILD)/lathe --only shakespeare
	@scripts/check_model.py --all && . scripts/reference.sh && scripts/check_guide.py
	@$(BUILD)/clients/bin/pip install -q langchain-openai langchain-anthropic litellm
	@$(BUILD)/clients/bin/python scripts/check_serve_tools.py $(BUILD)/lathe --only langchain litellm
	@scripts/lint.py --build $(BUILD) alone
	$(need) python
	@scripts/run_notebooks.sh --check

install: build  ## bin/lathe, liblathe, headers and the CMake package into PREFIX
	@cmake --install $(BUILD) --prefix $(PREFIX) >/dev/null
	@echo "Installed into $(PREFIX). A program of yours: find_package(lathe), target_link_libraries(... lathe::lathe)"

clean:  ## remove the build folders (models and environments stay)
	rm -rf build build-cuda build-cuda-check build-asan build-tsan build-python build-arm
