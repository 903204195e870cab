# Instruct NeRF: every target is a thin name for a plain command (README.md has them for Windows).
PYTHON ?= python3.11
VENV ?= .venv
PY = $(VENV)/bin/python
PIP = $(PY) -m pip install --quiet --disable-pip-version-check --no-deps
CAPTURE ?=
INSTRUCTION ?=
# Tests run in one process more than there are cores, since some only wait; a file's tests in one of them.
TOGETHER ?= -n $(shell $(PYTHON) -c "import os; print(min(os.cpu_count() + 1, 4))") --dist loadfile
OUT ?=

.PHONY: demo test test-all extension docs lock clean

# Exactly what the lock names, and wheels only: nothing is resolved, and no package is compiled. The check at the end
# compiles the engine's own kernels, once for all processes that follow.
$(VENV)/.ready: pyproject.toml packaging/development.txt
	bash packaging/system_packages.sh
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --only-binary :all: --requirement packaging/development.txt
	$(PIP) --no-build-isolation --editable .
	$(PY) -m engine check --quick
	touch $@

demo: $(VENV)/.ready  ## photograph a scene (or take CAPTURE), edit it (INSTRUCTION), make a film; no questions
	$(PY) packaging/demo.py $(if $(OUT),--output "$(OUT)") $(if $(CAPTURE),--capture "$(CAPTURE)") $(if $(INSTRUCTION),--instruction "$(INSTRUCTION)")

test: $(VENV)/.ready  ## the quick tests
	$(PY) -m pytest $(TOGETHER)
	$(PY) -m pytest $(TOGETHER) tests/blender

test-all: $(VENV)/.ready  ## every test but those that need a Blender window
	$(PY) -m pytest -m "not window"
	$(PY) -m pytest -m "not window" tests/blender

extension: $(VENV)/.ready  ## dist/instruct_nerf.zip, built and validated by Blender's own tool
	$(PY) packaging/build_extension.py

docs: $(VENV)/.ready  ## take the guide's pictures, the animation and the film again; needs BLENDER_GUI and a CAPTURE
	$(PY) docs/take_pictures.py --capture "$(CAPTURE)" --engine-python "$(PY)" --animate

lock: $(VENV)/.ready  ## write the locks after a change in pyproject.toml; needs the network
	$(PY) packaging/lock.py --keep

clean:
	rm -rf build dist demo
