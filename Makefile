# Instruct NeRF: every target is a thin name for a plain command (README.md has them for Windows).
PYTHON ?= python3.11
VENV ?= .venv
PY = $(VENV)/bin/python
CAPTURE ?=
INSTRUCTION ?=
OUT ?=

.PHONY: demo test test-all extension docs clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check "torch>=2.6,<2.15" "torchvision<0.30"
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[blender,test]" build
	touch $@

demo: $(VENV)/.ready  ## photograph a scene (or take CAPTURE), edit it (INSTRUCTION), make a film; no questions
	$(PY) packaging/demo.py $(if $(OUT),--output "$(OUT)") $(if $(CAPTURE),--capture "$(CAPTURE)") $(if $(INSTRUCTION),--instruction "$(INSTRUCTION)")

test: $(VENV)/.ready  ## the quick tests
	$(PY) -m pytest

test-all: $(VENV)/.ready  ## every test but those that need a Blender window
	$(PY) -m pytest -m "not window"

extension: $(VENV)/.ready  ## dist/instruct_nerf-<version>.zip, built and validated by Blender's own tool
	$(PY) packaging/build_extension.py

docs: $(VENV)/.ready  ## take the guide's pictures again; needs BLENDER_GUI and a CAPTURE
	$(PY) docs/take_pictures.py --capture "$(CAPTURE)" --engine-python "$(PY)"

clean:
	rm -rf build dist demo
