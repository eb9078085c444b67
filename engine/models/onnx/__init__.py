"""Our own ONNX importer: `file.load_onnx` reads a file, the others translate its operators."""
