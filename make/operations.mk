# Images, compose, Kubernetes: each target brings its own tools, or says what is missing and is skipped.
OPS := .venv-ops
OPS_BIN := $(OPS)/bin

# Tools of operators, apart from the project's environment: they need no hashes, since nothing that ships is made by them.
$(OPS)/.ready: tests/manifests/tools.txt | $(BIN)/uv
	@echo "setting up $(OPS) ..."
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(OPS)
	@VIRTUAL_ENV=$(OPS) $(BIN)/uv pip install --quiet --requirement tests/manifests/tools.txt
	@touch $@

.PHONY: images
images:  ## build and try the container images (IMAGES="producer flower cpu gpu", BASE_IMAGE=..., TAG=local)
	@docker/images.sh $(IMAGES)

.PHONY: compose-test
compose-test: $(OPS)/.ready  ## bring the compose stack up for real and render a MIDI file through it
	@tests/compose/run.sh

.PHONY: manifests
manifests: $(OPS)/.ready $(VENV)/.dev  ## check Dockerfiles, compose file, systemd units and every Kubernetes overlay
	@tests/manifests/run.sh
	@$(BIN)/python -m pytest -q tests/manifests

.PHONY: copies
copies:  ## copy from deploy/ what k8s/components needs (kustomize reads nothing outside its folder)
	@cp deploy/redis.conf k8s/components/redis/
	@cp deploy/alertmanager/alertmanager.yml deploy/prometheus/rules/alerts.yml deploy/prometheus/rules/recording.yml k8s/components/monitoring/
	@cp deploy/grafana/dashboards/*.json k8s/components/monitoring/
	@cp deploy/grafana/provisioning/dashboards/pianofarm.yml k8s/components/monitoring/grafana-providers.yml
	@cp deploy/grafana/provisioning/datasources/prometheus.yml k8s/components/monitoring/grafana-datasources.yml
