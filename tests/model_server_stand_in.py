"""Stands in for tensorflow_model_server where that is not installed: takes its flags, answers by the local server."""

import argparse
import os
import signal
import sys
import threading

from keras_nonlocal.serving.local.server import LocalServer

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("port", "rest_api_port", "grpc_max_threads", "load_retry_interval_micros"):
    parser.add_argument(f"--{name}", type=int, required=True)
for name in ("model_name", "model_base_path"):
    parser.add_argument(f"--{name}", required=True)
flags = parser.parse_args()
print("pid", os.getpid(), *sys.argv[1:], os.environ["TF_ENABLE_ONEDNN_OPTS"], os.environ["TF_CPP_MIN_LOG_LEVEL"])
sys.stdout.flush()
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
with LocalServer(flags.model_base_path, flags.model_name, "0.0.0.0", flags.port, flags.rest_api_port):
    ended.wait()
