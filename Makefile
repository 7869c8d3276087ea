# make demo           sends an ECS event to a local page that looks like Slack; PORT=8009, ONCE=1, VERBOSE=1
# make test           runs all checks; with SKIP=forbid (or CI=true) it fails if a tool is missing;
#                     ADVISORY_DB=… is a copy of the RustSec database, for a machine that cannot reach it
# make bench          compares the costs of the worker with those of other consumers, in a few minutes; PARTS="storm idle" runs only these parts
# make chaos          kills workers and causes faults at random, then checks the promises, in a few minutes; SEED=…, ROUNDS=12, ROUND=… for one
# make soak           checks for an hour that the worker's use of resources does not grow; MINUTES=10 for less
# make fuzz           fuzzes the program; SECONDS=60 for each target, TARGET='message pattern config'; docs/fuzzing.md
# make dist           builds a release for this machine's architecture, into dist/; docs/releasing.md
# make .venv          installs the AWS stand-in, which most of these need

SHELL := /bin/bash
# The file that collects what was not checked, and why: one line each.
UNCHECKED := target/unchecked
CARGO_DENY := .tools/cargo-deny-0.20.2
CARGO_FUZZ := .tools/cargo-fuzz-0.13.2
CARGO_AUDITABLE := .tools/cargo-auditable-0.7.7
CARGO_CYCLONEDX := .tools/cargo-cyclonedx-0.5.9

ifdef CI
SKIP ?= forbid
endif

# Node.js trusts only the certificate authorities that it was built with. npm must also trust those of this machine, as pip and cargo do.
export NODE_EXTRA_CA_CERTS ?= $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))

.PHONY: demo bench chaos dist dist-binary fuzz soak test format lint cargo-test licences advisories workflows terraform dashboards grafana kubernetes \
	runbook .venv

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

# For reliable figures, nothing else should run on the machine.
bench: .venv target/peers/installed
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

# The consumers that `make bench` compares with the worker.
target/peers/installed: $(wildcard tests/lab/peers/*)
	$(call need,python3)
	$(call need,npm)
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	$(call venv,$(@D)/venv,$(@D)/requirements.txt)
	@npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error
	@touch $@

test:
	$(call need,cargo)
	@mkdir -p target && rm -f $(UNCHECKED)
	@$(MAKE) --no-print-directory --jobs=1 format lint cargo-test licences advisories workflows terraform dashboards kubernetes runbook
	@if [ -s $(UNCHECKED) ]; then cat $(UNCHECKED); fi
	@if [ '$(SKIP)' = forbid ] && grep -qs '^skipped' $(UNCHECKED); then echo 'Nothing may be skipped here.' >&2; exit 1; fi

TARGET ?= message pattern config
SECONDS ?= 60

# No sanitizer: sanitizers find faults of unsafe code, which the project forbids, and they need a nightly compiler. A run starts from the
# corpus of the previous run.
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
# The demo must enable the same features of a dependency as the tests. Otherwise the dependency, and everything that uses it, is built twice.
	@if comm -23 <($(call features,no-dev)) <($(call features,all)) | grep .; then \
	echo 'The tests enable more features of these: add them to one-build in tests/lab/Cargo.toml.' >&2; exit 1; fi
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items
# Clippy does not link, so the fuzzer itself, which needs a C++ compiler, is left out.
	CUSTOM_LIBFUZZER_PATH=none/none.a cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings

cargo-test: .venv
# The integration tests mostly wait for the delays of Slack and SQS, so there are more threads than processors.
	RUST_TEST_THREADS=8 cargo test --locked --no-fail-fast

licences:
	@if ! [ -e $(CARGO_DENY) ] && ! $(MAKE) --no-print-directory $(CARGO_DENY); then $(call skip,cargo-deny,could not be installed); \
	else echo 'cargo deny check bans licenses sources' && .tools/bin/cargo-deny --locked check bans licenses sources; fi

# ADVISORY_DB=… names a copy of the RustSec database. By default it comes from the network, else from a usual folder.
advisories:
	@[ -x .tools/bin/cargo-deny ] || { $(call skip,advisories,no cargo-deny: make licences installs it); exit 0; }; \
	.ci/advisories || { [ $$? = 3 ] && $(call skip,advisories,no RustSec database: give ADVISORY_DB); }

# If the registry cannot be reached, a copy of the AWS provider in a usual folder is used.
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

# Checks the dashboards against Grafana's own types.
grafana:
	@if ! command -v npm >/dev/null; then $(call skip,grafana,npm is not installed); exit 0; fi; \
	$(MAKE) --no-print-directory target/grafana/installed || exit 1; set -ex; cd target/grafana; \
	for board in on-call maintainer; do \
		{ echo 'import type { Board } from "./grafana"; export const board: Board ='; cat ../../dashboards/$$board.json; } >$$board.ts; \
	done; node_modules/.bin/tsc --project .

target/grafana/installed: $(wildcard dashboards/schema/*)
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error
	@touch $@

# A separate environment: the manifest checker and the AWS stand-in must not share packages.
kubernetes: target/kubernetes/installed
	@if ! command -v kubectl >/dev/null && ! command -v kustomize >/dev/null; then $(call skip,kubernetes,neither kubectl nor kustomize is installed); \
	else target/kubernetes/bin/python infra/kubernetes/check.py; fi

# Runs offline: the actions and other things that the workflows refer to are not looked up.
workflows: target/workflows/installed
	@export PATH="$$PWD/target/workflows/bin:$$PATH"; set -ex; actionlint; zizmor --offline --quiet .github; \
	shellcheck .ci/* infra/*.sh infra/*/*.sh

target/kubernetes/installed target/workflows/installed: target/%/installed: infra/%/requirements.txt
	$(call need,python3)
	$(call venv,$(@D),$<)
	@touch $@

# Runs every command of the runbook. If the AWS stand-in does not serve a command, the command's own tool checks the arguments.
runbook: .venv target/awscli/installed
	$(call need,cargo)
	@if ! command -v jq >/dev/null; then $(call skip,runbook,jq is not installed); exit 0; fi; set -e; \
	command -v kubectl >/dev/null || $(call skip,the runbook on Kubernetes,kubectl is not installed); \
	cargo build --locked --bin ecs-slack-alerts; \
	AWSCLI=target/awscli/bin/aws python3 tests/runbook/check.py target/debug/ecs-slack-alerts

# A separate environment: the AWS CLI and the AWS stand-in need different versions of botocore.
target/awscli/installed: tests/runbook/requirements.txt
	$(call need,python3)
	$(call venv,$(@D),$<)
	@touch $@

.venv: .venv/installed

.venv/installed: tests/lab/requirements.txt
	$(call need,python3)
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo 'python3 lacks its venv module (Debian: apt-get install python3-venv)' >&2; exit 1; }
	$(call venv,$(@D),$<) || { echo 'The AWS stand-in could not be installed: see the output of pip above (no network?)' >&2; exit 1; }
	@touch $@

# A file `installed` in the folder of an installation is written last. If it is missing, the installation was interrupted, and make starts it
# anew. $(call venv,FOLDER,REQUIREMENTS) makes a Python environment.
define venv
@rm -rf $(1) && python3 -m venv $(1) && \
	$(1)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $(2) || { rm -rf $(1); false; }
endef

# .tools/PROGRAM-VERSION
.tools/cargo-%:
	cargo install cargo-$(shell echo $* | sed 's/-[^-]*$$//') --locked --version $(shell echo $* | sed 's/.*-//') --root .tools
	@rm -f .tools/cargo-$(shell echo $* | sed 's/-[^-]*$$//')-* && touch $@

define need
@command -v $(1) >/dev/null || { echo '$(1) is not installed, and this needs it' >&2; exit 1; }
endef

skip = echo 'skipped: $(1) ($(2))' | tee -a $(UNCHECKED)
