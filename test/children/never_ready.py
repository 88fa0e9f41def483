"""Writes a line to stderr and never becomes ready."""
import sys
import time

sys.stderr.write("loading the model for ever\n")
sys.stderr.flush()
time.sleep(3600)
