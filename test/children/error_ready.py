"""Sends an error instead of the ready message."""
import json
import sys

sys.stderr.write("ImportError: no module named torch\n")
print(json.dumps({"status": "error", "error": "cannot load the model: file not found"}), flush=True)
sys.stdin.read()
