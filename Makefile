# make demo           an ECS event all the way to a Slack page on this machine; PORT=8009, ONCE=1, VERBOSE=1
# make test           everything that can be checked here; SKIP=forbid (as CI=true does) fails where a tool is missing;
#                     ADVISORY_DB=… is a copy of the RustSec database, for a machine that does not reach it
# make bench          what the worker costs beside what people would use instead, in some minutes; PARTS="storm idle" for some of it
# make chaos          random kills and faults, and what must hold after them, in some minutes; SEED=…, ROUNDS=12, ROUND=… for one
# make soak           whether anything grows in an hour; MINUTES=10 for less
# make fuzz           looks for what breaks the program, SECONDS=60 for each TARGET='message pattern config'; docs/fuzzing.md
# make dist           what a release has for this machine's architecture, into dist/; docs/releasing.md
# make .venv          the AWS stand-in that both of them need

SHELL := /bin/bash
# What could not be checked, and why, a line each.
UNCHECKED := target/unchecked
CARGO_DENY := .tools/cargo-deny-0.20.2
CARGO_FUZZ := .tools/cargo-fuzz-0.13.2
CARGO_AUDITABLE := .tools/cargo-auditable-0.7.7
CARGO_CYCLONEDX := .tools/cargo-cyclonedx-0.5.9

ifdef CI
SKIP ?= forbid
endif

.PHONY: demo bench chaos dist dist-binary fuzz soak test format lint cargo-test licences advisories workflows terraform dashboards grafana kubernetes runbook

demo: .venv
	$(call need,cargo)
	cargo build --locked --bin ecs-slack-alerts --bin demo
# `exec`, so that a signal to make reaches the demo itself.
	@exec env WORKER=target/debug/ecs-slack-alerts target/debug/demo

chaos: .venv
	$(call need,cargo)
	cargo build --locked --bin ecs-slack-alerts --bin chaos
	@exec env WORKER=target/debug/ecs-slack-alerts target/debug/chaos

define BUILD_BENCH
$(call need,cargo)
cargo build --locked --release --no-default-features --bin ecs-slack-alerts --bin bench --bin bare_loop
endef

# For figures worth keeping, nothing else should run on the machine.
bench: .venv target/peers
	$(BUILD_BENCH)
	@target/release/bench $(PARTS)

soak:
	$(BUILD_BENCH)
	@target/release/bench soak

dist: dist-binary
	$(call need,buildah)
	@infra/image.sh

dist-binary: $(CARGO_AUDITABLE) $(CARGO_CYCLONEDX)
	$(call need,python3)
	@infra/dist.sh

# The consumers beside which the worker is measured.
target/peers: $(wildcard tests/lab/peers/*)
	$(call need,python3)
	$(call need,npm)
	@rm -rf $@ && mkdir -p $@ && cp $^ $@ && python3 -m venv $@/venv && \
	$@/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $@/requirements.txt && \
	npm ci --prefix $@ --no-audit --no-fund --loglevel=error || { rm -rf $@; exit 1; }
	@touch $@

test:
	$(call need,cargo)
	@mkdir -p target && rm -f $(UNCHECKED)
	@$(MAKE) --no-print-directory --jobs=1 format lint cargo-test licences advisories workflows terraform dashboards kubernetes runbook
	@if [ -s $(UNCHECKED) ]; then cat $(UNCHECKED); fi
	@if [ '$(SKIP)' = forbid ] && grep -qs '^skipped' $(UNCHECKED); then echo 'Nothing may be skipped here.' >&2; exit 1; fi

TARGET ?= message pattern config
SECONDS ?= 60

# No sanitizer: they look for what only unsafe code can do wrong, which the project forbids; and without one no nightly compiler
# is needed. A run goes on from the corpus that the last one left.
fuzz: $(CARGO_FUZZ)
	$(call need,cargo)
	@set -ex; for target in $(TARGET); do \
		fuzz/seed.sh $$target; mkdir -p fuzz/corpus/$$target; \
		PATH="$$PWD/.tools/bin:$$PATH" cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-dict=fuzz/seeds/$$target.dict -max_total_time=$(SECONDS) -timeout=30 -print_final_stats=1; \
	done

format:
	cargo fmt --all --check
	cd fuzz && cargo fmt --check

features = cargo tree --locked --prefix none --format '{p} {f}' --edges $(1) | sed 's/ (\*)$$//' | sort -u

lint:
# What the tests ask of a dependency that the demo builds too, it must ask as well: else all that is built on it is built twice.
	@if comm -23 <($(call features,no-dev)) <($(call features,all)) | grep .; then \
	echo 'The tests ask more features of these: add them to one-build in tests/lab/Cargo.toml.' >&2; exit 1; fi
	cargo clippy --locked --workspace --all-targets -- -D warnings
# Only read, not linked: so without the fuzzer itself, which needs a C++ compiler.
	CUSTOM_LIBFUZZER_PATH=none/none.a cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings

cargo-test: .venv
# The integration tests mostly wait, for clocks that Slack and SQS set: more threads than processors.
	RUST_TEST_THREADS=8 cargo test --locked --no-fail-fast

licences:
	@if ! [ -e $(CARGO_DENY) ] && ! $(MAKE) --no-print-directory $(CARGO_DENY); then $(call skip,cargo-deny,could not be installed); \
	else echo 'cargo deny check bans licenses sources' && .tools/bin/cargo-deny --locked check bans licenses sources; fi

# ADVISORY_DB=… names a copy of the RustSec database; by default it comes from the network, or else from a usual place.
advisories:
	@[ -x .tools/bin/cargo-deny ] || { $(call skip,advisories,no cargo-deny: make licences installs it); exit 0; }; \
	.ci/advisories || { [ $$? = 3 ] && $(call skip,advisories,no RustSec database: give ADVISORY_DB); }

# Where the registry is out of reach, an offline copy of the AWS provider does, if one lies in a usual place.
TF_PLUGIN_DIR ?= $(patsubst %/registry.terraform.io/hashicorp/aws,%,$(firstword $(wildcard \
	$(addsuffix /registry.terraform.io/hashicorp/aws,$(HOME)/.terraform.d/plugins /usr/local/share/terraform/plugins /usr/share/terraform/plugins /opt/*))))

terraform: .venv
	@if ! command -v terraform >/dev/null; then $(call skip,terraform,not installed); exit 0; fi; set -ex; \
	export TF_PLUGIN_DIR='$(TF_PLUGIN_DIR)'; \
	infra/terraform/check.sh; \
	cargo test --locked --test it terraform -- --ignored

dashboards: .venv grafana
	dashboards/generate.py --check
	@if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null; then \
	$(call skip,prometheus,not installed); exit 0; fi; set -ex; \
	promtool check rules dashboards/prometheus/rules.yaml; \
	promtool test rules dashboards/prometheus/rules_test.yaml; \
	dashboards/generate.py --out target/rules --labels cluster,namespace,job; cp dashboards/prometheus/labels_test.yaml target/rules; \
	promtool test rules target/rules/{rules,labels}_test.yaml; \
	cargo test --locked --test it dashboards -- --ignored

# Holds the dashboards to Grafana's own types.
grafana:
	@if ! command -v npm >/dev/null; then $(call skip,grafana,npm is not installed); exit 0; fi; \
	$(MAKE) --no-print-directory target/grafana; set -ex; cd target/grafana; \
	for board in on-call maintainer; do \
		{ echo 'import type { Board } from "./grafana"; export const board: Board ='; cat ../../dashboards/$$board.json; } >$$board.ts; \
	done; node_modules/.bin/tsc --project .

target/grafana: $(wildcard dashboards/schema/*)
	@rm -rf $@ && mkdir -p $@ && cp $^ $@ && npm ci --prefix $@ --no-audit --no-fund --loglevel=error || { rm -rf $@; exit 1; }
	@touch $@

# An environment of its own: what validates manifests has no business beside the AWS stand-in.
kubernetes: target/kubernetes
	@if ! command -v kubectl >/dev/null && ! command -v kustomize >/dev/null; then $(call skip,kubernetes,neither kubectl nor kustomize is installed); \
	else target/kubernetes/bin/python infra/kubernetes/check.py; fi

# What is named here but not in reach, such as the actions themselves, is not looked up.
workflows: target/workflows
	@export PATH="$$PWD/target/workflows/bin:$$PATH"; set -ex; actionlint; zizmor --offline --quiet .github; \
	shellcheck .ci/* infra/*.sh infra/*/*.sh

target/kubernetes target/workflows: target/%: infra/%/requirements.txt
	$(call need,python3)
	@rm -rf $@ && python3 -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $< || { rm -rf $@; exit 1; }
	@touch $@

# Runs every command of the runbook. Of what the AWS stand-in does not hold, the tools check the arguments.
runbook: .venv target/awscli
	$(call need,cargo)
	@if ! command -v jq >/dev/null; then $(call skip,runbook,jq is not installed); exit 0; fi; set -e; \
	command -v kubectl >/dev/null || $(call skip,the runbook on Kubernetes,kubectl is not installed); \
	cargo build --locked --bin ecs-slack-alerts; \
	AWSCLI=target/awscli/bin/aws python3 tests/runbook/check.py target/debug/ecs-slack-alerts

# An environment of its own: it wants another botocore than the AWS stand-in.
target/awscli: tests/runbook/requirements.txt
	$(call need,python3)
	@rm -rf $@ && python3 -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $< || { rm -rf $@; exit 1; }
	@touch $@

.venv: tests/lab/requirements.txt
	$(call need,python3)
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo 'python3 lacks its venv module (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@rm -rf $@ && python3 -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $< || \
		{ rm -rf $@; echo 'The AWS stand-in could not be installed: what pip says is above (no network?)' >&2; exit 1; }
	@touch $@

# .tools/PROGRAM-VERSION
.tools/cargo-%:
	cargo install cargo-$(shell echo $* | sed 's/-[^-]*$$//') --locked --version $(shell echo $* | sed 's/.*-//') --root .tools
	@rm -f .tools/cargo-$(shell echo $* | sed 's/-[^-]*$$//')-* && touch $@

define need
@command -v $(1) >/dev/null || { echo '$(1) is not installed, and this needs it' >&2; exit 1; }
endef

skip = echo 'skipped: $(1) ($(2))' | tee -a $(UNCHECKED)
