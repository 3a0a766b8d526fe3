"""saved_models/deploy, as far as it can be tried without a cluster: its files parse, agree and do what they should."""

import base64
import contextlib
import http.client
import http.server
import itertools
import json
import pathlib
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from serving_protos import BatchingParameters, MonitoringConfig

from keras_nonlocal.serving import ports, promotion
from keras_nonlocal.serving.apis import (
    get_model_status_pb2,
    grpc,
    model_server_config_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from keras_nonlocal.serving.local.server import LocalServer

ROOT = pathlib.Path(__file__).parent.parent
DEPLOY = ROOT / "saved_models" / "deploy"
MODEL, GRPC_PORT, REST_PORT = "clips", 8500, 8501


def parsed(name, message):
    return text_format.Parse((DEPLOY / name).read_text(), message)


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


COMPOSE = documents("docker-compose.yml")[0]
DEPLOYMENT = documents("kubernetes/deployment.yaml")[0]
POD = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
MANIFESTS = [one for path in sorted(DEPLOY.glob("kubernetes/*.yaml")) for one in documents(path)]
START_LINES = {"compose": COMPOSE["services"]["model_server"]["command"], "kubernetes": CONTAINER["args"]}


def flags(words):
    return dict(re.fullmatch(r"--(\w+)=(.+)", word).groups() for word in words)


def test_models_config():
    config = parsed("models.config", model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (MODEL, f"/models/{MODEL}", "tensorflow")
    labels, versions = promotion.read_labels(DEPLOY / "models.config", MODEL)
    # A label of a version that is not loaded would make the server refuse all labels.
    assert labels and set(labels.values()) <= set(versions)


def test_batching_config():
    batching = parsed("batching.config", BatchingParameters())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes)) and sizes[0] == 1
    assert sizes[-1] == batching.max_batch_size.value, "TensorFlow Serving would load no model"
    assert batching.batch_timeout_micros.value > 0 and batching.max_enqueued_batches.value > 0
    # Zeros that fill an image take part in the softmax.
    assert not batching.pad_variable_length_inputs
    with pytest.raises(text_format.ParseError, match="max_batch"):
        text_format.Parse("max_batch: 8", BatchingParameters())


def test_monitoring_config():
    prometheus = parsed("monitoring.config", MonitoringConfig()).prometheus_config
    annotations = DEPLOYMENT["spec"]["template"]["metadata"]["annotations"]
    assert prometheus.enable and prometheus.path == annotations["prometheus.io/path"]
    assert f"metrics_path: {prometheus.path}" in (DEPLOY / "README.md").read_text()
    assert annotations["prometheus.io/port"] == str(REST_PORT)


KNOWN = {line for line in (ROOT / "tests/data/model_server_flags.txt").read_text().splitlines() if "#" not in line}


@pytest.mark.parametrize("where", START_LINES)
def test_start_lines(where):
    found = flags(START_LINES[where])
    assert set(found) <= KNOWN, "TensorFlow Serving goes on without a flag that it does not know"
    assert found == flags(START_LINES["compose"])
    assert found["grpc_max_threads"] == "64"
    assert (found["port"], found["rest_api_port"]) == (str(GRPC_PORT), str(REST_PORT))
    # Labels at the start, which need the flag; files that are there; a liveness probe that needs the health service.
    assert found["allow_version_labels_for_unavailable_models"] == "true"
    assert found["enable_grpc_healthcheck_service"] == "true" and "grpc" in CONTAINER["livenessProbe"]
    for path in (value for name, value in found.items() if name.endswith("_file")):
        assert path.startswith("/config/") and (DEPLOY / pathlib.Path(path).name).is_file()


def test_environment():
    (variable,) = CONTAINER["env"]
    assert variable == {"name": "TF_ENABLE_ONEDNN_OPTS", "value": "1"}
    assert COMPOSE["services"]["model_server"]["environment"] == {"TF_ENABLE_ONEDNN_OPTS": "1"}


def command_lines(path):
    """Those of a page that start a server, each a list of words."""
    for block in re.findall(r"^```bash\n(.*?)^```", path.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if re.search(r"(^|\s)(tensorflow_model_server|tensorflow/serving)\s", line):
                yield shlex.split(line)


def test_start_lines_of_the_guides():
    found = [words for path in ROOT.glob("saved_models/**/*.md") for words in command_lines(path)]
    assert len(found) >= 2
    for words in found:
        assert "--grpc_max_threads=64" in words, words
        assert any(word.startswith("TF_ENABLE_ONEDNN_OPTS=") for word in words), words
        start = [word in ("tensorflow_model_server", "tensorflow/serving") for word in words].index(True) + 1
        assert {re.match(r"--(\w+)", word)[1] for word in words[start:]} <= KNOWN


# Of the Compose specification, those of a service that are used here.
SERVICE_KEYS = {
    "cap_drop": list, "command": list, "cpus": int, "depends_on": dict, "entrypoint": list, "environment": dict,
    "healthcheck": dict, "image": str, "mem_limit": str, "networks": list, "ports": list, "read_only": bool,
    "restart": str, "security_opt": list, "tmpfs": list, "user": str, "volumes": list,
}  # fmt: skip


def test_compose():
    assert set(COMPOSE) == {"services", "networks"}
    for service in COMPOSE["services"].values():
        assert {key: type(value) for key, value in service.items()}.items() <= SERVICE_KEYS.items()
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        for volume in service["volumes"]:
            source, target, mode = volume.split(":")
            assert target.startswith("/") and mode == "ro"
            # Certificates and passwords are the user's.
            assert (DEPLOY / source).exists() or source in ("./tls", "./htpasswd")
    server, proxy = (COMPOSE["services"][name] for name in ("model_server", "proxy"))
    assert "ports" not in server and server["networks"] == ["models"] and COMPOSE["networks"]["models"]["internal"]
    assert proxy["depends_on"]["model_server"] == {"condition": "service_healthy"}
    assert server["volumes"][0].split(":")[1] == "/models" and server["read_only"]
    check = server["healthcheck"]
    assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}
    assert check["test"] == ["CMD", *CONTAINER["readinessProbe"]["exec"]["command"]]


def test_manifests_agree():
    by_kind = {manifest["kind"]: manifest["spec"] for manifest in MANIFESTS}
    assert set(by_kind) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    selectors = [
        by_kind["Deployment"]["selector"]["matchLabels"],
        by_kind["Service"]["selector"],
        by_kind["PodDisruptionBudget"]["selector"]["matchLabels"],
        by_kind["NetworkPolicy"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    named = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert named == {"grpc": GRPC_PORT, "rest": REST_PORT}
    assert {port["targetPort"]: port["port"] for port in by_kind["Service"]["ports"]} == named
    for rule in by_kind["NetworkPolicy"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= set(named)
    assert by_kind["Deployment"]["replicas"] > by_kind["PodDisruptionBudget"]["minAvailable"]
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in POD["volumes"]}
    assert mounts["models"]["readOnly"] and mounts["config"]["mountPath"] == "/config"
    assert not any("subPath" in mount for mount in mounts.values()), "such files never change in a running container"
    (kustomization,) = documents("kustomization.yaml")
    (generated,) = kustomization["configMapGenerator"]
    assert [volume["configMap"]["name"] for volume in POD["volumes"] if "configMap" in volume] == [generated["name"]]
    assert all((DEPLOY / name).is_file() for name in generated["files"])
    assert {pathlib.Path(name) for name in kustomization["resources"]} == {
        path.relative_to(DEPLOY) for path in DEPLOY.glob("kubernetes/*.yaml")
    }
    assert [image["name"] for image in kustomization["images"]] == [CONTAINER["image"]]


def test_the_pod_may_do_nothing_but_serve():
    assert POD["securityContext"]["runAsNonRoot"] and POD["securityContext"]["runAsUser"] > 0
    own = CONTAINER["securityContext"]
    assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]} and POD["automountServiceAccountToken"] is False
    assert set(CONTAINER["resources"]) == {"requests", "limits"} and "memory" in CONTAINER["resources"]["limits"]
    # Requests may take 30 s, TensorFlow Serving's own limit for REST.
    (_, seconds) = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert 30 < int(seconds) < POD["terminationGracePeriodSeconds"]


def test_manifests_by_kubernetes_schema():
    validate = pytest.importorskip("kubernetes_validate")
    for manifest in MANIFESTS:
        validate.validate(manifest, "1.31", strict=True)
    broken = yaml.safe_load((DEPLOY / "kubernetes/service.yaml").read_text())
    broken["spec"]["port"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, "1.31", strict=True)


def test_kustomize_builds_it():
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    done = subprocess.run(["kubectl", "kustomize", DEPLOY], capture_output=True, text=True, check=True)
    built = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert set(built) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert built["ConfigMap"]["data"]["models.config"] == (DEPLOY / "models.config").read_text()
    assert built["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"].startswith("tensorflow/serving:")


# Measured names; of a histogram Prometheus makes _bucket, _count and _sum.
METRICS = {":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_bucket", "up"}


def test_alerts(tmp_path):
    (group,) = documents("alerts.yml")[0]["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names)) >= 5 and "ModelServerRestarted" in names
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"} and rule["annotations"]["summary"]
        found = set(re.findall(r"([:\w]+)\{", rule["expr"]))
        assert found and found <= METRICS
        selectors = re.findall(r"\{(.*?)\}", rule["expr"], re.S)
        assert all('job="model-server"' in selector for selector in selectors)
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "rules", DEPLOY / "alerts.yml"], check=True, capture_output=True)


class Doubling(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def serve(self, x):
        return {"y": 2 * x}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("deploy") / MODEL
    module = Doubling()
    tf.saved_model.save(module, str(base / "1"), signatures=module.serve)
    with LocalServer(base, MODEL) as server:
        yield server


@contextlib.contextmanager
def status_page(*states):
    """Says what TensorFlow Serving says of versions in these states: 200, and the states in the body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            versions = [
                {"version": str(number), "state": state, "status": {"error_code": "OK", "error_message": ""}}
                for number, state in enumerate(states)
            ]
            body = json.dumps({"model_version_status": versions}, indent=1).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as page:
        thread = threading.Thread(target=page.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield page.server_address[1]
        finally:
            page.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", ["startupProbe", "readinessProbe"])
def test_probes_read_the_state(server, kind):
    """The commands of the manifest itself, by bash."""

    def succeeds(port, name=MODEL):
        changed = [
            word.replace(f"/{REST_PORT}", f"/{port}").replace(f"models/{MODEL}", f"models/{name}")
            for word in CONTAINER[kind]["exec"]["command"]
        ]
        assert changed != CONTAINER[kind]["exec"]["command"]
        return subprocess.run(changed, capture_output=True, timeout=20).returncode == 0

    port = int(server.rest_url.rsplit(":", 1)[1])
    assert succeeds(port)
    assert not succeeds(port, "another")
    assert not succeeds(ports.choose_ports("127.0.0.1", port=0)[0])  # nothing listens
    expected = {
        ("LOADING",): False,
        ("END",): False,
        ("END", "AVAILABLE"): True,
        # While a running server loads one more it goes on answering; one that starts is not ready yet.
        ("LOADING", "AVAILABLE"): kind == "readinessProbe",
        ("START", "AVAILABLE"): kind == "readinessProbe",
    }
    for states, answer in expected.items():
        with status_page(*states) as page:
            assert succeeds(page) == answer, states


def test_nginx_by_parser():
    crossplane = pytest.importorskip("crossplane")
    found = crossplane.parse(str(DEPLOY / "nginx.conf"), strict=True, check_ctx=True, check_args=True)
    assert found["status"] == "ok", found["errors"]


def test_nginx_names_the_server_and_hides_the_rest():
    text = (DEPLOY / "nginx.conf").read_text()
    assert re.findall(r"server model_server:(\d+);", text) == [str(REST_PORT), str(GRPC_PORT)]
    assert "model_server" in COMPOSE["services"]
    patterns = [re.compile(pattern) for pattern in re.findall(r"location ~ (\S+) \{", text)]

    def is_let_through(path):
        return any(pattern.search(path) for pattern in patterns)

    models = ["/v1/models/clips", "/v1/models/clips/versions/3", "/v1/models/clips/labels/stable"]
    services = ["PredictionService/Predict", "PredictionService/GetModelMetadata", "ModelService/GetModelStatus"]
    assert all(map(is_let_through, models + [model + end for model in models for end in (":predict", "/metadata")]))
    assert all(is_let_through(f"/tensorflow.serving.{service}") for service in services)
    assert not any(
        is_let_through(path)
        for path in [
            "/monitoring/prometheus/metrics",
            "/v1/models/clips:classify",
            "/v1/models/a/b:predict",
            "/v1/models",
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            "/tensorflow.serving.SessionService/SessionRun",
            "/tensorflowXserving.PredictionService/Predict",
        ]
    )


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    """nginx with the file as it is, but for addresses, paths, and a limit of 1 MB instead of 64."""
    if not shutil.which("nginx") or not shutil.which("openssl"):
        pytest.skip("needs nginx and openssl")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "tls").mkdir()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", folder / "tls/server.key", "-out", folder / "tls/server.crt"]
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*key, *subject, *files], check=True, capture_output=True)
    (folder / "htpasswd").write_text("ann:{PLAIN}secret\n")
    port = ports.choose_ports("127.0.0.1", port=0)[0]
    text = (DEPLOY / "nginx.conf").read_text()
    changes = {
        "/etc/nginx": str(folder),
        "/dev/stdout": str(folder / "access.log"),
        "/dev/stderr": str(folder / "error.log"),
        f"model_server:{REST_PORT}": server.rest_url.removeprefix("http://"),
        f"model_server:{GRPC_PORT}": server.grpc_url.removeprefix("grpc://"),
        "listen 8443": f"listen 127.0.0.1:{port}",
        "client_max_body_size 64m": "client_max_body_size 1m",
        "http {\n": "http {\n" + "".join(
            f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    }  # fmt: skip
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    command = ["nginx", "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    extra = f"daemon off; master_process off; pid {folder}/pid;"
    process = subprocess.Popen([*command, "-g", extra], stderr=subprocess.PIPE)
    try:
        wait_for(port, process)
        yield port, (folder / "tls/server.crt").read_bytes()
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port, process):
    deadline = time.monotonic() + 10
    while True:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)


PASSWORD = "Basic " + base64.b64encode(b"ann:secret").decode()


def ask(proxy, method, path, body=None, **headers):
    port, certificate = proxy
    context = ssl.create_default_context(cadata=certificate.decode())
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request(method, path, body, {"Authorization": PASSWORD, **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_rest_by_nginx(proxy):
    predict = "/v1/models/clips:predict"
    body = json.dumps({"instances": [[1, 2, 3]]})
    status, answer = ask(proxy, "POST", predict, body)
    assert status == 200 and json.loads(answer) == {"predictions": [[2.0, 4.0, 6.0]]}
    status, answer = ask(proxy, "GET", "/v1/models/clips")
    assert status == 200 and json.loads(answer)["model_version_status"][0]["state"] == "AVAILABLE"
    assert ask(proxy, "GET", "/v1/models/clips/metadata")[0] == 200
    refused = {
        401: ("POST", predict, body, {"Authorization": ""}),
        403: ("POST", "/v1/models/clips", body, {}),
        404: ("GET", "/monitoring/prometheus/metrics", None, {}),
        413: ("POST", predict, b" " * 2_000_000, {}),
        415: ("POST", predict, body, {"Content-Encoding": "gzip"}),
    }
    assert {status: ask(proxy, *what, **headers)[0] for status, (*what, headers) in refused.items()} == {
        status: status for status in refused
    }


def test_grpc_by_nginx(proxy):
    port, certificate = proxy
    credentials = grpc.ssl_channel_credentials(certificate)
    known = [("authorization", PASSWORD)]

    def predict(x, **how):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.asarray(x, np.float32)))
        how = {"metadata": known, "timeout": 20, **how}
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, **how)
        return tf.make_ndarray(response.outputs["y"])

    def code(function, *args, **how):
        with pytest.raises(grpc.RpcError) as caught:
            function(*args, **how)
        return caught.value.code()

    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        np.testing.assert_array_equal(predict([[1, 2, 3]]), [[2, 4, 6]])
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = MODEL
        assert models.GetModelStatus(status, metadata=known, timeout=20).model_version_status[0].version == 1
        assert code(predict, [[1, 2, 3]], metadata=[]) == grpc.StatusCode.UNAUTHENTICATED
        assert code(predict, np.arange(300_000).reshape(-1, 3)) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert code(predict, [[1, 2, 3]], compression=grpc.Compression.Gzip) == grpc.StatusCode.UNKNOWN
        # It would load any folder; nginx has no such page.
        reload = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
        assert code(reload, b"", metadata=known, timeout=20) == grpc.StatusCode.UNIMPLEMENTED
        np.testing.assert_array_equal(predict([[1, 2, 3]]), [[2, 4, 6]])  # and nobody was hurt


def test_links_of_the_guide():
    text = (DEPLOY / "README.md").read_text()
    pages = {"": text, "../README.md": (DEPLOY / "../README.md").read_text()}
    for page, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
        headings = {
            re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-")
            for line in re.findall(r"^#+ (.*)$", pages[page], re.M)
        }
        assert anchor in headings, (page, anchor)
    for name in itertools.chain(
        *(re.findall(r"`([\w/.-]+)`", row) for row in re.findall(r"^\| (`.*?) \|", text, re.M))
    ):
        assert (DEPLOY / name).exists(), name
