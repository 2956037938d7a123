# Monitoring and simulation. Included by the Makefile.
OUT ?= .state

.PHONY: simulate
simulate: $(VENV)/.dev  ## how many workers, what latency, what scale-up lag costs: tables and plots in .state/simulate
	@$(BIN)/python -m bench.simulate --out $(OUT)/simulate

.PHONY: simulate-check
simulate-check: $(VENV)/.dev  ## hold the simulation against a real farm of 1, 2 and 4 workers
	@$(BIN)/python -m bench.simulate.validate --out $(OUT)/simulate

.PHONY: simulate-measure
simulate-measure: $(VENV)/.dev  ## measure the service times of this machine's CPU, which `make simulate` is fed with
	@$(BIN)/python -m bench.simulate.validate --piano default --workers 1 --pieces 24 --save cpu --tolerance 10 --out $(OUT)/simulate

.PHONY: simulate-publish
simulate-publish: $(VENV)/.dev  ## all three on a quiet machine, and the results into docs/simulation.md (6 min)
	@$(BIN)/python -m bench.simulate.validate --piano default --workers 1 --pieces 24 --save cpu --tolerance 10 --out $(OUT)/simulate
	@$(BIN)/python -m bench.simulate.validate --publish --out $(OUT)/simulate
	@$(BIN)/python -m bench.simulate --publish --out $(OUT)/simulate

.PHONY: pictures
pictures: $(VENV)/.dev promtool  ## draw the dashboards in docs/pictures from a real run on this machine, five minutes
	@$(BIN)/python -m bench.eyes

# promtool comes with the Debian package prometheus; where we are root it is installed without starting the server.
.PHONY: promtool
promtool:
	@command -v promtool >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "installing promtool ..."; \
	    apt-get update -qq && env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus prometheus-alertmanager >/dev/null; \
	  fi; }

.PHONY: alerts
alerts: $(VENV)/.dev promtool  ## check Prometheus' configuration, test the alert rules and every dashboard query
	@if ! command -v promtool >/dev/null 2>&1; then \
	  echo "skipped: promtool is missing (apt-get install prometheus)"; exit 0; fi; \
	promtool check config deploy/prometheus/prometheus.yml && \
	promtool test rules deploy/prometheus/tests/*.yml && \
	if command -v amtool >/dev/null 2>&1; then amtool check-config deploy/alertmanager/alertmanager.yml; fi && \
	$(BIN)/python -m pytest -q tests/unit/deploy/test_monitoring.py tests/integration/test_dashboards.py $(PYTEST_ARGS)
