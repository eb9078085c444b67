"""Our own ONNX importer: `onnx_file.OnnxFile` reads a file, the others its operators."""
