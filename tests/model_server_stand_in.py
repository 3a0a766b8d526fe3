"""Stands in for tensorflow_model_server where that is not installed: takes its flags, and runs the local server."""

import argparse
import os
import sys

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("port", "rest_api_port", "grpc_max_threads", "load_retry_interval_micros"):
    parser.add_argument(f"--{name}", type=int, required=True)
for name in ("model_name", "model_base_path"):
    parser.add_argument(f"--{name}", required=True)
flags = parser.parse_args()
print("pid", os.getpid(), *sys.argv[1:], os.environ["TF_ENABLE_ONEDNN_OPTS"], os.environ["TF_CPP_MIN_LOG_LEVEL"])
sys.stdout.flush()
shared = [f"--{name}={getattr(flags, name)}" for name in ("port", "rest_api_port", "model_name", "model_base_path")]
# On no PATH is another one of this name. What is chosen for the log is the script's to choose again.
environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | {"PATH": ""}
os.execve(sys.executable, [sys.executable, "saved_models/serve.py", "--host=0.0.0.0", *shared], environment)
