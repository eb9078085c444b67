# `make demo` and `make test` are all the set-up there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
OLDEST ?= $(shell command -v python3.10 || command -v python3.11)
NEWEST ?= $(shell command -v python3.13 || command -v python3.12)
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?=
OUT ?=
MNIST := runs/mnist
PYTEST = $(BIN)/python -m pytest -q --durations=10 -p no:benchmark -n 2 --dist loadfile
BENCH := --benchmark-columns=median,iqr,rounds --benchmark-group-by=group

.PHONY: demo mnist quick test test-all test-torch test-versions bench bench-scale bench-peers bench-runtimes lint docs docs-pages wheel clean

demo: $(VENV)/.ready-demo
	@$(BIN)/shardcam demo $(if $(SOURCE),"$(SOURCE)") $(if $(OUT),--out "$(OUT)")

# The classic network, trained on digits; its two convolution layers drawn for held-out ones.
mnist: $(VENV)/.ready-mnist $(MNIST)/lenet-symbol.json
	@$(BIN)/shardcam activations $(MNIST)/held-out-images-idx3-ubyte --limit 100 --pictures 5 \
		--model $(MNIST)/lenet-symbol.json --layer tanh1 --layer tanh2 --out $(MNIST)/activations

$(MNIST)/lenet-symbol.json: | $(VENV)/.ready-mnist
	@$(BIN)/shardcam train-mnist $(if $(SOURCE),"$(SOURCE)") --out $(MNIST)/lenet

# The inner loop: whatever starts no process and no Ray.
quick: $(VENV)/.ready-dev
	$(PYTEST) -m "not process and not ray and not slow and not browser"

test: quick
	$(PYTEST) -m "(process or ray) and not slow and not browser"

test-all: $(VENV)/.ready-dev build/torch-exports/.ready build/venv-corelay/.ready \
		build/venv-readers/.ready
	SHARDCAM_TORCH_EXPORTS=build/torch-exports SHARDCAM_CORELAY=build/venv-corelay/bin/python \
		SHARDCAM_READERS=build/venv-readers/bin/python \
		$(BIN)/python -m pytest -q -m "slow or not slow" --hypothesis-profile=default
	$(MAKE) test-torch

# The second runtime beside the first: this environment's packages, and behind them PyTorch's.
test-torch: $(VENV)/.ready-dev build/torch-exports/.ready
	SHARDCAM_TORCH_EXPORTS=build/torch-exports \
	SHARDCAM_TORCH_PACKAGES=$$(.venv-torch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
		$(BIN)/python -m pytest -q -o addopts="--import-mode=importlib --strict-markers" tests/torch

# The quick tests with the oldest and the newest Python and libraries, and runs of both compared.
test-versions: .venv-oldest/.ready .venv-newest/.ready
	$(foreach kind,oldest newest,.venv-$(kind)/bin/python -m pytest -q -p no:benchmark -n 2 \
		--dist loadfile -m "not process and not ray and not slow and not browser" && )true
	SHARDCAM_OTHER_PYTHON=.venv-newest/bin/python .venv-oldest/bin/python -m pytest -q \
		-p no:benchmark tests/versions.py

.venv-oldest/.ready: pyproject.toml constraints.txt
	@test -x $(@D)/bin/python || $(OLDEST) -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt \
		-e ".[cpu,demo,analysis,mnist,dev]"
	@touch $@

# MXNet asks for an older NumPy than it needs.
.venv-newest/.ready: pyproject.toml constraints-newest.txt
	@test -x $(@D)/bin/python || $(NEWEST) -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check -c constraints-newest.txt \
		-e ".[extraction,demo,analysis,mnist,dev]"
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check --no-deps mxnet==1.9.1
	@touch $@

# PyTorch, and what is made of it, in an environment of its own (5 GB).
.venv-torch/.ready:
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check torch==2.14.1 \
		torchvision==0.29.1 timm==1.0.31 onnx onnxscript safetensors \
		grad-cam==1.5.7 torchcam==0.5.0 quantus==0.6.0 onnxruntime==1.32.0 h5py
	@touch $@

# What the slow tests compare with (14 GB). What is there already is not written again.
build/torch-exports/.ready: .venv-torch/.ready tests/models/export_torchvision.py \
		tests/models/export_torch_weights.py tests/models/export_families.py \
		tests/models/export_irn.py
	@mkdir -p build/torch-exports
	.venv-torch/bin/python tests/models/export_torchvision.py build/torch-exports
	.venv-torch/bin/python tests/models/export_torch_weights.py build/torch-exports
	.venv-torch/bin/python tests/models/export_irn.py build/torch-exports
	.venv-torch/bin/python tests/models/export_families.py build/torch-exports/families
	@touch $@

# CoRelAy, which asks for a newer NumPy than MXNet takes.
build/venv-corelay/.ready:
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check corelay==1.0.0
	@touch $@

# OpenVINO-XAI, which asks for an OpenVINO and a NumPy of 2024 (1 GB).
build/venv-openvino/.ready:
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check openvino_xai==1.1.0 nncf==2.13.0 \
		h5py
	@touch $@

# Programs that exports are for, which ask for a newer NumPy than MXNet takes (1.3 GB).
build/venv-readers/.ready:
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check faiss-cpu==1.15.1 zarr==3.1.6 \
		fiftyone==1.22.1
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check virelay==0.6.1
	@touch $@

bench: $(VENV)/.ready-dev build/venv-corelay/.ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks/test_kernels.py \
		benchmarks/test_components.py $(BENCH)
	$(BIN)/python -m pytest -q -s benchmarks/test_sink.py
	$(BIN)/python -m pytest -q -s benchmarks/test_precision.py
	$(BIN)/python -m pytest -q -s benchmarks/test_listing.py
	$(BIN)/python -m pytest -q -s benchmarks/test_report.py
	$(BIN)/python -m pytest -q -s benchmarks/test_evaluation.py $(BENCH)
	$(BIN)/python -m benchmarks.clusters --rows 10000 --classes 0 --rounds 3 \
		--peer build/venv-corelay/bin/python
	$(BIN)/python -m benchmarks.end_to_end --part commands --part workers --part saving --part growth
	$(BIN)/python -m benchmarks.summary

# Ten million lines, 100,000 images, 20,000 shards, 300,000 files, a million maps in clusters:
# 20 minutes and 3 GB of disk.
bench-scale: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q -s benchmarks/test_scale.py
	$(BIN)/python -m pytest -q -s benchmarks/test_driver.py
	$(BIN)/python -m benchmarks.clusters --rows 100000 --classes 1000
	$(BIN)/python -m benchmarks.summary

# The same methods and runs with pytorch-grad-cam, torchcam, ONNX Runtime and OpenVINO-XAI, and
# IRN's step in PyTorch: compare multiples, not milliseconds.
bench-peers: $(VENV)/.ready-dev .venv-torch/.ready build/venv-openvino/.ready
	$(BIN)/python -m pytest -q -s benchmarks/test_methods.py
	.venv-torch/bin/python benchmarks/peers/methods.py
	$(BIN)/python -m benchmarks.end_to_end --part peers --peers .venv-torch/bin/python \
		--openvino build/venv-openvino/bin/python
	$(BIN)/python -m benchmarks.weak_supervision --peers .venv-torch/bin/python
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.transformers --peers .venv-torch/bin/python
	$(BIN)/python -m benchmarks.summary

# PyTorch's maps on the CPU beside MXNet's, of 200 photographs: half an hour of one core.
bench-runtimes: $(VENV)/.ready-dev build/torch-exports/.ready $(MNIST)/lenet-symbol.json
	OMP_NUM_THREADS=1 \
	SHARDCAM_TORCH_PACKAGES=$$(.venv-torch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
		$(BIN)/python -m benchmarks.runtimes

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The site, into build/site; a link that leads nowhere is an error.
docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

# The pages of docs/ that are made from the code.
docs-pages: $(VENV)/.ready-dev
	$(BIN)/python docs/generate.py

.venv-docs/.ready: docs/requirements.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

# dist/*.tar.gz, and from that dist/*.whl: real files, though shardcam/ holds links here.
wheel:
	@test -x build/venv/bin/python || $(PYTHON) -m venv build/venv
	@build/venv/bin/python -m pip install -q --disable-pip-version-check build==1.6.1
	@rm -rf dist && build/venv/bin/python -m build

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-torch .venv-docs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# demo: what make demo needs. mnist: that, and the digits. dev: that, and what the tests need.
$(VENV)/.ready-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
		(3, 10) <= v <= (3, 11) or sys.exit("constraints.txt is for Python 3.10 or 3.11, not %d.%d: make PYTHON=python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
		-e ".[cpu,demo,analysis,clusters]"
	@$(BIN)/python -m shardcam.engine.models.system_libraries
	@touch $@

$(VENV)/.ready-mnist: $(VENV)/.ready-demo
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[cpu,demo,analysis,mnist]"
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-demo
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[cpu,demo,analysis,mnist,dev]"
	@touch $@
