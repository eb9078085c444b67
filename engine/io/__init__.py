"""Bytes on this machine's disk and at URLs: files, ranges, downloads, uploads."""
