"""What is done with a finished run: selections, tables, maps on pictures, means, exports."""
