# make run          start a server on high ports, as an ordinary user
# make demo         see dnsmasq lose a container's name, and containerdns keep it; as root
# make test         check style and types, and run all tests; TESTS=... some, PROCESSES=0 for a debugger
# make quick        check style and types, and run the tests of core and the scenarios: under a minute
# make lint         check style and types only
# make docs         write what comes from the code, and build the documents into site/
# make image        build the container image; PYTHON_IMAGE=... names its base
# make sbom         write the bill of materials, dist/containerdns.cdx.json (CycloneDX)
# make bench        measure, beside other servers too, and write docs/performance.md
# make fuzz         a million damaged inputs; COUNT=... of them
# make screenshots  take the pictures of the status page
# make lock         lock the dependencies anew, with hashes

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DNS ?= 127.0.0.1:5300
HTTP ?= 127.0.0.1:8080
TESTS ?= tests
PROCESSES ?= 3
COUNT ?= 1000000

.PHONY: run demo test quick lint docs image sbom bench fuzz screenshots lock wheels

run: $(VENV)/run
	@name=$$(docker ps --format '{{.Names}}' 2>/dev/null | head -n 1); \
	dns=$(DNS); \
	echo "Try next, in another terminal:"; \
	echo "  dig @$${dns%:*} -p $${dns##*:} $${name:-ns}.docker"; \
	echo "  curl http://$(HTTP)/zone"; \
	echo "  curl http://$(HTTP)/metrics"; \
	exec $(BIN)/containerdns serve --listen $(DNS) --http $(HTTP)

demo: $(VENV)/dev
	tools/install-test-programs
	@$(BIN)/python -m tests.demo

test: $(VENV)/dev lint
	tools/install-test-programs
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations 30 $(TESTS)

quick: $(VENV)/dev lint
	$(BIN)/pytest -q -n $(PROCESSES) --dist loadfile tests/core tests/test_scenarios.py \
		tests/test_layers.py tests/test_architecture.py

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy containerdns tests tools deploy

docs: $(VENV)/dev
	$(BIN)/python -m tools.documents
	$(BIN)/mkdocs build --strict

bench: $(VENV)/dev
	tools/install-test-programs
	$(BIN)/python -m tests.bench.report --write

fuzz: $(VENV)/dev
	$(BIN)/python -m tests.fuzz $(COUNT)

screenshots: $(VENV)/dev
	$(BIN)/python -m tests.web.screenshots docs/images

wheels: $(VENV)/dev
	rm -rf dist/wheels
	$(BIN)/pip download --quiet --require-hashes --no-deps -r requirements.txt -d dist/wheels
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation -w dist/wheels .

image:
	docker build $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) -t containerdns .

sbom:
	@mkdir -p dist
	$(PYTHON) -m tools.sbom > dist/containerdns.cdx.json

lock: $(VENV)/dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra dev -c requirements.txt pyproject.toml \
		-o requirements-dev.txt

$(BIN)/python:
	tools/make-venv $(PYTHON) $(VENV)

$(VENV)/run: $(BIN)/python requirements.txt pyproject.toml
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/dev: $(BIN)/python requirements-dev.txt pyproject.toml
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
