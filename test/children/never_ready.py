"""Writes a line to stdout and one to stderr, and never becomes ready."""
import sys
import time

print("reading the weights", flush=True)
sys.stderr.write("loading the model for ever\n")
sys.stderr.flush()
time.sleep(3600)
