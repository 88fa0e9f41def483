"""Ready, then gone with status 7 at once: a crash loop."""
import json
import sys

print(json.dumps({"status": "ready"}), flush=True)
sys.exit(7)
