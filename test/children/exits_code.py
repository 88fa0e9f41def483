"""Exits with the code in its first argument at its first task; with --at-once before it is ready."""
import json
import sys

if "--at-once" not in sys.argv:
    print(json.dumps({"status": "ready"}), flush=True)
    sys.stdin.readline()
sys.stderr.write("Traceback: something went wrong\n")
sys.stderr.flush()
sys.exit(int(sys.argv[1]))
