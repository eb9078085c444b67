"""Bytes on this machine's disk and at URLs: files, ranges of them, downloads, uploads.

May import: errors, types.
"""
